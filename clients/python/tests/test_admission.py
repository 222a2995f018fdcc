"""Leave to start a worker, of an agent that answers by a script."""

from __future__ import annotations

import os
from typing import Any

import pytest

from conftest import StartFake
from fake import Connection
from monitor_client import Client, InvalidError, connect


def waiting(worker: str, since: int) -> dict[str, Any]:
    return {"worker": worker, "admitted": False, "waits_for": {"need": 5}, "since": since}


def test_a_start_waits_until_it_is_admitted(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        asked = call["op"]["admit"]
        assert asked == {"pid": os.getpid(), "kind": "task", "name": "a", "memory": 5, "admission": "all"}
        connection.ok(call, waiting("w7", 3))
        connection.send({"push": "admitted", "worker": "w6"})
        connection.send({"push": "admitted", "worker": "w7"})
        call = connection.read()
        assert call is not None
        assert call["op"]["register"]["worker"] == "w7"
        connection.ok(call, {"worker": "w7"})
        connection.read()

    with connect(fake(script).path) as client:
        number = client.admit(name="a", memory=5, admission="all")
        assert number == "w7"
        assert client.register(name="a", admitted=number).id == "w7"


def test_its_place_is_kept_over_a_restart_of_the_agent(fake: StartFake) -> None:
    calls: list[Any] = []

    def script(connection: Connection) -> None:
        while (call := connection.read()) is not None:
            calls.append(call["op"]["admit"].get("since"))
            if len(calls) == 1:
                connection.ok(call, waiting("w7", 3))
                return  # It is killed.
            connection.ok(call, {**waiting("w9", 3), "admitted": True, "waits_for": None})

    with Client(fake(script).path) as client:
        assert client.admit(name="a", memory=5) == "w9"
    assert calls == [None, 3]


def test_a_start_that_gives_up_is_withdrawn(fake: StartFake) -> None:
    calls: list[Any] = []

    def script(connection: Connection) -> None:
        while (call := connection.read()) is not None:
            calls.append(call["op"])
            connection.ok(call, waiting("w7", 3) if "admit" in call["op"] else None)

    with connect(fake(script).path) as client:
        assert client.admit(after_kill=True, reached=9, timeout=0.05) is None
    assert calls[0]["admit"]["after_kill"] is True
    assert calls[1] == {"unregister": {"worker": "w7"}}


def test_what_can_never_fit_is_refused(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        error = {"code": "invalid", "field": "op.admit.memory", "message": "it can never start"}
        connection.send({"seq": call["seq"], "error": error})
        connection.read()

    with connect(fake(script).path) as client, pytest.raises(InvalidError, match="never start"):
        client.admit(memory=1 << 60, admission="all")
