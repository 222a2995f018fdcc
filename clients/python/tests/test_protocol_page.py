"""The transcripts of docs/protocol.md, played to the client by a fake agent."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from box import TOP
from conftest import StartFake
from fake import Connection
from monitor_client import RefusedError, connect
from monitor_client._errors import _BY_CODE

PAGE = TOP / "docs" / "protocol.md"

#: What the page leaves open, and a value for it. "PID" in quotes is a text.
_OPEN = [(r", \.\.\.(?=[}\]])", ""), (r'(?<!")\b(PID|START_TIME|NUMBER)(_\d)?\b(?!")', "7")]


def transcripts() -> list[list[str]]:
    blocks = re.findall(r"^```transcript\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [[closed(line) for line in block.splitlines()] for block in blocks]


def closed(line: str) -> str:
    for pattern, value in _OPEN:
        line = re.sub(pattern, value, line)
    return line


def call_of(line: str) -> Any:
    """The call in a line that this client could send; None: a bad one, for the agent only."""
    try:
        call = json.loads(line[2:])
    except ValueError:
        return None
    return call if set(call) == {"v", "seq", "op"} and call["v"] == 1 else None


def test_the_page_has_transcripts() -> None:
    assert len(transcripts()) >= 9


@pytest.mark.parametrize("number", range(len(transcripts())))
def test_a_transcript_is_spoken_and_understood(fake: StartFake, number: int) -> None:
    lines = transcripts()[number]
    calls: list[tuple[Any, Any]] = []
    pushes: list[dict[str, Any]] = []
    for line, following in zip(lines, [*lines[1:], ""]):
        if line.startswith("> ") and (call := call_of(line)) is not None:
            calls.append((call, json.loads(following[2:])))
        elif line.startswith("< ") and "push" in (said := json.loads(line[2:])):
            pushes.append(said)

    def script(connection: Connection) -> None:
        for call, answer in calls:
            asked = connection.read()
            assert asked is not None
            assert (asked["v"], asked["op"]) == (1, call["op"])
            connection.send({**answer, "seq": asked["seq"]})
        for push in pushes:
            connection.send(push)
        connection.read()

    with connect(fake(script).path) as client:
        heard = client.pushes(timeout=10)
        for call, answer in calls:
            if "ok" in answer:
                assert client._call(call["op"]) == answer["ok"]
                continue
            error = answer["error"]
            with pytest.raises(_BY_CODE[error["code"]]) as raised:
                client._call(call["op"])
            assert isinstance(raised.value, RefusedError)
            assert (raised.value.code, raised.value.field) == (error["code"], error.get("field"))
        kinds = {"verdict": "Verdict", "report": "KillReport", "note": "Note", "held": "Held", "lost": "Lost"}
        assert [type(next(heard)).__name__ for _ in pushes] == [kinds[push["push"]] for push in pushes]


def test_each_refusal_of_the_page_has_a_class_of_its_own() -> None:
    table = PAGE.read_text().split("## Refusals")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) - {"code"} == set(_BY_CODE)
