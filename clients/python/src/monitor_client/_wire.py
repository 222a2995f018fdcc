"""Lines and calls: bytes to lines of bounded length, and a line to a reply or a push.

No sockets and no clocks. Whatever the bytes are, the only exception is :class:`ProtocolError`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Optional, Union

from ._errors import InvalidError, ProtocolError, RefusedError, refusal
from ._types import Admitted, Held, KillReport, Lost, Note, Push, Verdict

#: The version of the protocol.
VERSION = 1

#: The longest line of a client, newline included.
MAX_LINE = 64 * 1024

#: The longest line of the agent, newline included.
MAX_REPLY = 64 * 1024 * 1024

Op = Union[str, dict[str, Any]]


class LineBuffer:
    """Cuts a stream at newlines. Holds at most ``most`` bytes of an unfinished line."""

    def __init__(self, most: int = MAX_REPLY) -> None:
        self._most = most
        self._rest = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their newlines."""
        self._rest += data
        lines = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._searched))) >= 0:
            self._check(end + 1 - start)
            lines.append(bytes(self._rest[start:end]))
            start = end + 1
        del self._rest[:start]
        self._searched = len(self._rest)
        self._check(len(self._rest) + 1)
        return lines

    def _check(self, length: int) -> None:
        if length > self._most:
            raise ProtocolError(f"a line of more than {self._most} bytes")


@dataclass(frozen=True)
class Reply:
    """The answer to the call ``seq``; 0: to no call, the agent says why it ends the connection."""

    seq: int
    ok: Any = None
    error: Optional[RefusedError] = None


def encode(seq: int, op: Op) -> bytes:
    """A call as a line."""
    try:
        text = json.dumps({"v": VERSION, "seq": seq, "op": op}, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidError("invalid", None, f"the call has no form in JSON: {error}") from error
    line = text.encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise InvalidError("invalid", None, f"the call is longer than {MAX_LINE} bytes")
    return line


def decode(line: bytes) -> Union[Reply, Push, None]:
    """What a line says. None: a push of a kind that this version does not know."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProtocolError("a line is a JSON object")
    try:
        return _push(value) if "push" in value else _reply(value)
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"a line without what belongs into it: {error}") from error


def _reply(value: dict[str, Any]) -> Reply:
    seq = _number(value, "seq")
    if "error" in value:
        error = value["error"]
        field = error.get("field") if isinstance(error, dict) else None
        field = field if isinstance(field, str) else None
        return Reply(seq, error=refusal(_text(error, "code"), field, _text(error, "message")))
    return Reply(seq, ok=value["ok"])


def _push(value: dict[str, Any]) -> Optional[Push]:
    kind = value["push"]
    if kind == "verdict":
        return verdict(value)
    if kind == "report":
        return KillReport(_number(value, "kill"), _text(value, "text"))
    if kind == "held":
        return Held(_text(value, "worker"), _number(value, "pid"), _flag(value, "held"))
    if kind == "admitted":
        return Admitted(_text(value, "worker"))
    if kind == "note":
        note = value["note"]
        return Note(note if isinstance(note, dict) else {"note": note})
    if kind == "lost":
        return Lost(_number(value, "notes"))
    return None


def verdict(value: dict[str, Any]) -> Verdict:
    """The verdict in a push."""
    return Verdict(
        worker=_text(value, "worker"),
        kill=_number(value, "kill"),
        should_retry=_flag(value, "should_retry"),
        why=_text(value, "why"),
        domain=_text(value, "domain"),
        used=_number(value, "used"),
        threshold=_number(value, "threshold"),
        total=_number(value, "total"),
        decided=_number(value, "decided"),
        reached=_number(value, "reached") if value.get("reached") is not None else None,
    )


def _text(value: dict[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise TypeError(f"{key} is no text")
    return text


def _number(value: dict[str, Any], key: str) -> int:
    number = value[key]
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{key} is no number")
    return number


def _flag(value: dict[str, Any], key: str) -> bool:
    flag = value[key]
    if not isinstance(flag, bool):
        raise TypeError(f"{key} is neither true nor false")
    return flag
