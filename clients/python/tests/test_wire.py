"""Lines and calls, of whatever bytes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from monitor_client import Held, InvalidError, KillReport, Lost, Note, ProtocolError, Verdict
from monitor_client._wire import MAX_LINE, LineBuffer, Reply, decode, encode

VERDICT: dict[str, Any] = {
    "push": "verdict",
    "worker": "w1",
    "kill": 3,
    "should_retry": True,
    "why": "newest",
    "domain": "node",
    "used": 90,
    "threshold": 80,
    "total": 100,
    "decided": 5,
}


def line(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_call_is_one_line() -> None:
    assert encode(7, "status") == b'{"v":1,"seq":7,"op":"status"}\n'
    call = encode(8, {"register": {"pid": 1, "name": "é\n"}})
    assert call.count(b"\n") == 1
    assert json.loads(call)["op"]["register"]["name"] == "é\n"


@pytest.mark.parametrize("name", ["x" * MAX_LINE, float("nan"), object()])
def test_a_call_that_the_agent_could_not_read_is_refused_here(name: object) -> None:
    with pytest.raises(InvalidError):
        encode(1, {"register": {"name": name}})


def test_replies_and_refusals_are_read() -> None:
    assert decode(b'{"seq": 4, "ok": null}') == Reply(4)
    assert decode(b'{"seq": 4, "ok": {"worker": "w1"}, "new": 1}') == Reply(4, ok={"worker": "w1"})
    reply = decode(b'{"seq": 4, "error": {"code": "invalid", "field": "op.x", "message": "no"}}')
    assert isinstance(reply, Reply)
    assert isinstance(reply.error, InvalidError)
    assert (reply.error.code, reply.error.field, reply.error.message) == ("invalid", "op.x", "no")
    reply = decode(b'{"seq": 0, "error": {"code": "new_kind", "message": "no"}}')
    assert isinstance(reply, Reply)
    assert reply.error is not None
    assert (reply.error.code, reply.error.field) == ("new_kind", None)


def test_pushes_are_read_and_unknown_ones_skipped() -> None:
    verdict = decode(line({**VERDICT, "more": 1}))
    assert isinstance(verdict, Verdict)
    assert (verdict.worker, verdict.kill, verdict.should_retry) == ("w1", 3, True)
    assert decode(line({"push": "report", "kill": 3, "text": "t"})) == KillReport(3, "t")
    assert decode(line({"push": "held", "worker": "w1", "pid": 4, "held": False})) == Held("w1", 4, False)
    assert decode(line({"push": "note", "note": {"above": {}}})) == Note({"above": {}})
    assert decode(line({"push": "lost", "notes": 2})) == Lost(2)
    assert decode(line({"push": "of a newer agent"})) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b'{"seq": "1", "ok": 1}',
        b'{"seq": 1}',
        b'{"seq": 1, "error": "no"}',
        b'{"seq": 1, "error": {"code": 1, "message": "x"}}',
        b'{"push": "verdict", "worker": "w1"}',
        b'{"push": "report", "kill": true, "text": "t"}',
        b"[" * 100_000,
        line({**VERDICT, "should_retry": "yes"}),
    ],
)
def test_any_other_line_is_a_protocol_error(bad: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(bad)


def test_made_up_bytes_are_a_protocol_error_or_understood() -> None:
    dice = random.Random(16)
    whole = line(VERDICT)
    for _ in range(3000):
        bytes_ = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            bytes_[dice.randrange(len(bytes_))] = dice.randrange(256)
        try:
            decode(bytes(bytes_))
        except ProtocolError:
            pass


def test_lines_come_whole_however_they_are_cut() -> None:
    text = b"one\n\ntwo\nthree\n"
    for cut in range(1, len(text)):
        buffer = LineBuffer()
        lines = [
            line for start in range(0, len(text), cut) for line in buffer.feed(text[start : start + cut])
        ]
        assert lines == [b"one", b"", b"two", b"three"]


def test_a_line_without_an_end_does_not_fill_memory() -> None:
    buffer = LineBuffer(most=8)
    assert buffer.feed(b"1234567\n1234567") == [b"1234567"]
    with pytest.raises(ProtocolError, match="more than 8 bytes"):
        buffer.feed(b"8")
    with pytest.raises(ProtocolError):
        LineBuffer(most=8).feed(b"12345678\n")
