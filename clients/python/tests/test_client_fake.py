"""The client against an agent that behaves badly."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from box import wait_for
from conftest import StartFake
from fake import Connection
from monitor_client import (
    AccessDeniedError,
    AsyncClient,
    BusyError,
    CallTimeoutError,
    Client,
    ClientClosedError,
    ConnectionLostError,
    InvalidError,
    MalformedError,
    NoAgentError,
    NotFoundError,
    PeerTimeoutError,
    ProtocolError,
    Push,
    Verdict,
    connect,
    start_time,
)
from test_wire import VERDICT, line


def serve(connection: Connection, **answers: Any) -> None:
    """Answers each call by its operation until the client hangs up."""
    while (call := connection.read()) is not None:
        op = call["op"]
        name = op if isinstance(op, str) else next(iter(op))
        connection.ok(call, answers.get(name))


def test_nobody_listens(tmp_path: Path, fake: StartFake) -> None:
    with pytest.raises(NoAgentError, match="start one with `monitor agent`"):
        connect(str(tmp_path / "none.sock"))
    agent = fake(serve)
    agent.close()
    fake_agents_path = Path(agent.path)
    fake_agents_path.write_text("no socket")
    with pytest.raises(NoAgentError):
        connect(agent.path)
    fake_agents_path.unlink()
    agent.close = lambda: None  # type: ignore[method-assign]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_socket_that_keeps_this_user_out(fake: StartFake, tmp_path: Path) -> None:
    agent = fake(serve)
    os.chmod(agent.path, 0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(AccessDeniedError, match="permission denied"):
            connect(agent.path)
    finally:
        os.seteuid(0)


def test_calls_of_many_threads_get_their_own_answers(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        while (call := connection.read()) is not None:
            connection.ok(call, {"kill": call["op"]["report"]["kill"]})

    with connect(fake(script).path) as client:
        wrong = []

        def ask(first: int) -> None:
            for number in range(first, first + 50):
                if client.report(number) != {"kill": number}:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(first * 1000,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not wrong
        assert not any(thread.is_alive() for thread in threads)


def test_a_refusal_has_code_field_and_message(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        for code in ("malformed", "invalid", "not_found", "busy"):
            call = connection.read()
            assert call is not None
            error = {"code": code, "field": "op.explain.domain", "message": f"it is {code}"}
            connection.send({"seq": call["seq"], "error": error})
        serve(connection)

    with connect(fake(script).path) as client:
        for kind in (MalformedError, InvalidError, NotFoundError, BusyError):
            with pytest.raises(kind, match="it is ") as raised:
                client.explain("x")
            assert raised.value.field == "op.explain.domain"
            assert raised.value.message == f"it is {raised.value.code}"
        # The connection is as good as before.
        assert client.status() is None


def test_what_an_old_agent_does_not_know_is_sent_only_when_it_is_used(fake: StartFake) -> None:
    calls: list[Any] = []

    def script(connection: Connection) -> None:
        while (call := connection.read()) is not None:
            calls.append(call["op"])
            connection.ok(call, {"worker": "w1"})

    with connect(fake(script).path) as client:
        client.register()
        client.register(priority=-1, memory=1 << 30, idle=True, name="n", attempt=2)
        client.why(pid=4)
        client.why(worker="w1")
        with pytest.raises(TypeError):
            client.why()
    me = {"pid": os.getpid(), "start_time": start_time(), "kind": "task"}
    assert calls[0] == {"register": me}
    more = {"priority": -1, "memory": 1 << 30, "idle": True, "name": "n", "attempt": 2}
    assert calls[1] == {"register": {**me, **more}}
    assert calls[2:] == [{"why": {"pid": 4}}, {"why": {"worker": "w1"}}]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"garbage\n", ProtocolError),
        (b'{"seq": 1}\n', ProtocolError),
        (b'{"seq": 1, "ok": nul', ConnectionLostError),
        (b"", ConnectionLostError),
        (b'{"seq": 0, "error": {"code": "timeout", "message": "too slow"}}\n', PeerTimeoutError),
    ],
)
def test_a_bad_answer_ends_the_call_and_the_next_one_connects_anew(
    fake: StartFake, answer: bytes, error: type[Exception]
) -> None:
    def script(connection: Connection) -> None:
        if agent.connections == 1:
            connection.read()
            connection.raw(answer)
        else:
            serve(connection, workers=[])

    agent = fake(script)
    with connect(agent.path) as client:
        with pytest.raises(error):
            client.workers()
        wait_for("the end to be seen", lambda: not client.connected)
        assert client.workers() == []


def test_half_lines_and_slow_ones_are_waited_for(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        for byte in line({"seq": call["seq"], "ok": ["slow"]}) + b"\n":
            connection.raw(bytes([byte]))
            time.sleep(0.002)
        serve(connection)

    with connect(fake(script).path) as client:
        assert list(map(str, client.kills())) == ["slow"]


def test_an_agent_that_does_not_answer_is_not_waited_for_without_end(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        late = connection.read()
        assert late is not None
        call = connection.read()
        assert call is not None
        connection.ok(late, "late")
        connection.ok(call, "in time")

    with Client(fake(script).path, timeout=0.5) as client:
        with pytest.raises(CallTimeoutError):
            client.metrics()
        assert client.metrics() == "in time", "the late answer is nobody's"


def test_verdicts_reach_callbacks_iterators_and_the_worker(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        # Before the answer that names the worker: it must not be lost.
        connection.send(VERDICT)
        connection.ok(call, {"worker": "w1"})
        connection.send({"push": "a newer one"})
        connection.send({"push": "report", "kill": 3, "text": "the report"})
        serve(connection, kills=[])

    heard: list[object] = []

    def boom(verdict: Verdict) -> None:
        raise ValueError("a callback that fails")

    def ask(verdict: Verdict) -> None:
        # A callback may call.
        heard.append((verdict.worker, client.kills()))

    with connect(fake(script).path) as client:
        client.on_verdict(boom)
        client.on_verdict(ask)
        client.on_report(lambda report: heard.append(report.text))
        pushes = client.pushes(timeout=10)
        worker = client.register()
        assert worker.verdict is not None
        assert worker.verdict.kill == 3
        assert worker.find_kill() == worker.verdict
        assert client.report_text(3, timeout=10) == "the report"
        assert client.report_text(4, timeout=0.01) is None
        wait_for("the callbacks", lambda: len(heard) == 2)
        assert heard == [("w1", []), "the report"]
        kinds = [type(next(pushes)).__name__ for _ in range(2)]
        assert kinds == ["Verdict", "KillReport"]
    assert list(pushes) == [], "it ends with the client"


def test_a_worker_is_registered_again_with_its_number_and_state(fake: StartFake) -> None:
    calls: list[Any] = []

    def script(connection: Connection) -> None:
        first = agent.connections == 1
        while (call := connection.read()) is not None:
            calls.append((agent.connections, call["op"]))
            op = call["op"]
            if isinstance(op, dict) and "register" in op:
                if agent.connections == 2:
                    # The agent has not seen yet that the first connection is closed.
                    duplicates.append(1)
                    if len(duplicates) < 3:
                        error = {"code": "duplicate", "field": "op.register.pid", "message": "it is one"}
                        connection.send({"seq": call["seq"], "error": error})
                        continue
                connection.ok(call, {"worker": "w5" if first else "w9"})
            else:
                connection.ok(call)
                if first and op == "watch":
                    return

    duplicates: list[int] = []
    agent = fake(script)
    with connect(agent.path) as client:
        worker = client.register(owner="o")
        worker.set_idle(True)
        client.watch()
        wait_for("it to come back", lambda: worker.id == "w9" and client.connected)
        worker.set_idle(False)
    again = [op for number, op in calls if number == 2]
    assert again[0] == "watch"
    assert again[1]["register"]["worker"] == "w5"
    assert again[1]["register"]["idle"] is True
    assert again[1]["register"]["owner"] == "o"
    assert again[-1] == {"set_idle": {"worker": "w9", "idle": False}}, "the number that the agent knows"


def test_who_is_gone_or_refused_is_not_registered_again(fake: StartFake) -> None:
    registers: list[int] = []

    def script(connection: Connection) -> None:
        while (call := connection.read()) is not None:
            if call["op"] == "status":
                return
            if agent.connections == 1:
                connection.ok(call, {"worker": f"w{call['seq']}"})
                continue
            registers.append(agent.connections)
            code = "not_found" if len(registers) == 1 else "denied"
            connection.send({"seq": call["seq"], "error": {"code": code, "message": "no"}})

    agent = fake(script)
    with connect(agent.path) as client:
        client.register()
        client.register(1)
        with pytest.raises(ConnectionLostError):
            client.status()
        wait_for("both to be refused", lambda: len(registers) == 2)
        wait_for("it to be connected", lambda: client.connected)
        with pytest.raises(ConnectionLostError):
            client.status()
        wait_for("the end to be seen", lambda: not client.connected)
        time.sleep(0.5)
        assert len(registers) == 2
        assert agent.connections == 2, "nobody needs it any more"


def test_a_client_without_workers_is_not_connected_again_before_it_is_used(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        connection.ok(call, agent.connections)

    agent = fake(script)
    with connect(agent.path) as client:
        assert client.metrics() == 1  # type: ignore[comparison-overlap]
        wait_for("the end to be seen", lambda: not client.connected)
        time.sleep(0.3)
        assert agent.connections == 1
        assert client.metrics() == 2  # type: ignore[comparison-overlap]


def test_a_closed_client_says_so_and_a_call_that_waits_ends(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        connection.read()
        connection.read()

    client = connect(fake(script).path)
    closing = threading.Timer(0.2, client.close)
    closing.start()
    with pytest.raises(ClientClosedError):
        client.status()
    closing.join()
    with pytest.raises(ClientClosedError):
        client.status()
    client.close()


def test_a_forked_child_does_not_speak_on_the_connection_of_its_parent(fake: StartFake) -> None:
    with connect(fake(lambda connection: serve(connection, kills=[1])).path) as client:
        assert len(client.kills()) == 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                client.kills()
            except ClientClosedError as error:
                code = 0 if "forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(client.kills()) == 1


def test_asyncio(fake: StartFake) -> None:
    def script(connection: Connection) -> None:
        call = connection.read()
        assert call is not None
        connection.ok(call, {"worker": "w1"})
        call = connection.read()
        assert call is not None
        connection.ok(call, {"worker": "w1"})
        connection.send({"push": "held", "worker": "w1", "pid": 1 << 22, "held": True})
        connection.send(VERDICT)
        serve(connection, workers=[{"id": "w1"}], status={"version": "1"})

    agent = fake(script)

    async def main() -> list[Push]:
        got: list[Push] = []
        async with AsyncClient(agent.path) as client:
            verdicts, pushes = client.verdicts(), client.pushes()
            worker = await client.register(name="one")
            await worker.set_idle(True)
            async for verdict in verdicts:
                got.append(verdict)
                break
            assert worker.verdict == got[0]
            assert (await client.workers())[0]["id"] == "w1"
            both = await asyncio.gather(client.status(), client.status())
            assert [status["version"] for status in both] == ["1", "1"]
            got.append(await pushes.__anext__())
        async for push in pushes:
            got.append(push)
        return got

    got = asyncio.run(asyncio.wait_for(main(), 30))
    assert [type(push).__name__ for push in got] == ["Verdict", "Held", "Verdict"]
