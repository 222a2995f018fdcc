"""The client against the real agent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from box import Box, wait_for
from conftest import StartAgent
from monitor_client import (
    AsyncClient,
    Client,
    DuplicateError,
    Held,
    InvalidError,
    MalformedError,
    NotFoundError,
    connect,
)

LEAK = "import time\nheld = []\nwhile True:\n    held.append(b'x' * (5 << 20))\n    time.sleep(0.01)"
SLEEP = "import time\ntime.sleep(600)"


class Program:
    """A process in the box."""

    def __init__(self, box: Box, text: str) -> None:
        enter = f"open({box.procs!r}, 'w').write('0')\n"
        self.process = subprocess.Popen([sys.executable, "-c", enter + text])
        self.pid = self.process.pid
        wait_for("it to be in the box", lambda: self.pid in box.members())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.close()


def test_register_idle_explain_workers_status_kills_unregister(
    box: Box, agent: StartAgent, programs: list[Program]
) -> None:
    guard = agent("--usage-threshold=0.7")
    sleeper = Program(box, SLEEP)
    programs.append(sleeper)
    with connect(guard.socket) as client:
        assert client.status()["domains"][0]["domain"] == f"cgroup:{box.path}"
        assert client.kills() == []
        assert client.metrics().endswith("# EOF\n")
        worker = client.register(sleeper.pid, owner="o", name="n", max_retries=2, attempt=1, idle=True)
        (row,) = client.workers()
        assert (row["id"], row["pid"], row["owner"], row["name"]) == (worker.id, sleeper.pid, "o", "n")
        assert (row["attempt"], row["state"], row["retriable"]) == (1, "idle", True)
        worker.set_idle(False)
        assert client.workers()[0]["state"] == "running"
        explanation = client.explain(f"cgroup:{box.path}")
        assert explanation["ranking"][0]["id"] == worker.id
        assert not explanation["above"]
        assert client.explain()["domain"] == explanation["domain"]
        with pytest.raises(DuplicateError) as duplicate:
            client.register(sleeper.pid)
        assert duplicate.value.field == "op.register.pid"
        worker.unregister()
        assert client.workers() == []
        assert worker.find_kill() is None
        with pytest.raises(NotFoundError):
            worker.set_idle(True)
    assert sleeper.process.poll() is None, "nobody is killed"


def test_refusals_are_typed(box: Box, agent: StartAgent, programs: list[Program]) -> None:
    guard = agent()
    sleeper = Program(box, SLEEP)
    programs.append(sleeper)
    with connect(guard.socket) as client:
        with pytest.raises(NotFoundError, match="no process"):
            client.register(1 << 22)
        with pytest.raises(NotFoundError) as other:
            client.register(sleeper.pid, started=1)
        assert other.value.field == "op.register.start_time"
        with pytest.raises(InvalidError) as invalid:
            client.register(sleeper.pid, kind="task", max_restarts=1)
        assert (invalid.value.code, invalid.value.field) == ("invalid", "op.register.max_restarts")
        with pytest.raises(MalformedError) as malformed:
            client.register(sleeper.pid, max_retries=-7)
        assert malformed.value.field == "op.register.max_retries"
        with pytest.raises(NotFoundError) as missing:
            client.explain("cgroup:/none")
        assert "guarded are" in missing.value.message
        with pytest.raises(NotFoundError):
            client.report(99)


def test_what_this_agent_may_not_know_is_an_answer_or_a_typed_refusal(
    box: Box, agent: StartAgent, programs: list[Program]
) -> None:
    guard = agent()
    sleeper = Program(box, SLEEP)
    programs.append(sleeper)
    with connect(guard.socket) as client:
        refusals = []
        try:
            client.register(sleeper.pid, priority=-1)
        except MalformedError as refused:
            refusals.append((refused.field, "op.register.priority"))
        try:
            client.why(pid=sleeper.pid)
        except (MalformedError, NotFoundError) as refused:
            refusals.append((refused.code, "malformed" if "why" in refused.message else "not_found"))
        assert all(got == expected for got, expected in refusals)
        assert client.status()["workers"] <= 1, "the connection is as good as before"


def test_a_kill_is_told_by_callback_and_report(box: Box, agent: StartAgent, programs: list[Program]) -> None:
    guard = agent("--usage-threshold=0.7")
    leak = Program(box, LEAK)
    programs.append(leak)
    with connect(guard.socket) as client:
        told: list[str] = []
        client.on_verdict(lambda verdict: told.append(verdict.worker))
        worker = client.register(leak.pid, owner="o")
        verdict = worker.wait_verdict(60)
        assert verdict is not None
        assert leak.process.wait(60) == -signal.SIGKILL
        assert not verdict.should_retry, "the last of its owner"
        report = client.report_text(verdict.kill, 60)
        assert report is not None
        assert worker.id in report
        wait_for("the callback", lambda: told == [worker.id])
        (kill,) = client.kills()
        assert (kill["id"], kill["victims"][0]["pid"]) == (verdict.kill, leak.pid)
        with connect(guard.socket) as other:
            assert other.report(verdict.kill)["advice"]
    assert box.oom_kills() == 0


def test_a_restarted_agent_gets_its_workers_back_under_their_numbers(
    box: Box, agent: StartAgent, programs: list[Program]
) -> None:
    guard = agent("--usage-threshold=0.7")
    programs += [Program(box, SLEEP), Program(box, SLEEP)]
    with connect(guard.socket) as client:
        first, second = [client.register(program.pid, owner="o") for program in programs]
        first.set_idle(True)
        before = {row["id"]: row["pid"] for row in client.workers()}
        for _ in range(3):
            guard.kill()
            guard.start()
            wait_for("it to come back", lambda: client.connected)
            assert {row["id"]: row["pid"] for row in client.workers()} == before
            states = {row["id"]: row["state"] for row in client.workers()}
            assert states == {first.id: "idle", second.id: "running"}
        # One that leaks afterwards is killed, and this client told.
        leak = Program(box, LEAK)
        programs.append(leak)
        assert client.register(leak.pid, owner="o").wait_verdict(60) is not None


def test_a_process_that_the_brake_holds_goes_on_when_agent_and_watchdog_are_gone(
    box: Box, agent: StartAgent, programs: list[Program]
) -> None:
    """What the client promises: it continues whom the agent told it about."""
    guard = agent()
    program = Program(box, "import time\nwhile True:\n    time.sleep(0.01)")
    programs.append(program)
    with connect(guard.socket) as client:
        worker = client.register(program.pid)
        client._heard(Held(worker.id, program.pid, True))
        os.kill(program.pid, signal.SIGSTOP)

        def state() -> str:
            with open(f"/proc/{program.pid}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0]

        wait_for("it to be stopped", lambda: state() == "T")
        guard.kill()
        wait_for("it to go on", lambda: state() in "SR")


def test_another_connection_of_this_process_takes_over(
    box: Box, agent: StartAgent, programs: list[Program]
) -> None:
    guard = agent("--usage-threshold=0.7")
    leak = Program(
        box, "import time, os\nwhile not os.path.exists('/tmp/' + str(os.getpid())):\n    time.sleep(0.01)"
    )
    programs.append(leak)
    first = connect(guard.socket)
    worker = first.register(leak.pid)
    first.close()
    with Client(guard.socket) as second:
        wait_for("the end of the first to be seen", lambda: _registered(second, leak.pid) == worker.id)


def _registered(client: Client, pid: int) -> str:
    try:
        return client.register(pid).id
    except DuplicateError:
        return ""


def test_asyncio_hears_a_verdict(box: Box, agent: StartAgent, programs: list[Program]) -> None:
    guard = agent("--usage-threshold=0.7")
    leak = Program(box, LEAK)
    programs.append(leak)

    async def main() -> None:
        async with AsyncClient(guard.socket) as client:
            verdicts = client.verdicts()
            await client.watch()
            worker = await client.register(leak.pid, owner="o")
            async for verdict in verdicts:
                assert verdict.worker == worker.id
                break
            kill = await worker.find_kill()
            assert kill == worker.verdict
            assert [row["id"] for row in await client.kills()] == [verdict.kill]
            assert (await client.explain())["domain"] == f"cgroup:{box.path}"

    started = time.monotonic()
    asyncio.run(asyncio.wait_for(main(), 90))
    assert time.monotonic() - started < 90
