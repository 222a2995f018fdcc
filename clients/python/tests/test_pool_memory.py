"""The pool under the real agent, in a real memory cgroup: what a kill for memory costs."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import jobs
from box import Agent, Box, wait_for
from conftest import StartAgent
from monitor_client import Client, OutOfMemoryError, ProcessPoolExecutor, WorkerRow

METHODS = ["fork", "spawn", "forkserver"]


@contextmanager
def pool(box: Box, agent: Agent, workers: int, **options: Any) -> Iterator[ProcessPoolExecutor]:
    """Its processes are in the box. When the test fails nothing is waited for: the box ends them."""
    options = {"oom_retry_base": 0.2, "if_no_agent": "fail", **options}
    executor = ProcessPoolExecutor(
        workers, initializer=jobs.enter, initargs=(box.procs,), agent=agent.socket, **options
    )
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        box.kill()
        raise
    executor.shutdown()


def holders(box: Box, executor: ProcessPoolExecutor, count: int, until: Path) -> list[Any]:
    """Tasks that hold 10 MiB each until a file is there, once all of them run."""
    tasks = [executor.submit(jobs.hold, 10, str(until)) for _ in range(count)]
    wait_for("the tasks to run", lambda: len(box.members()) >= count)
    return tasks


@pytest.mark.parametrize("method", METHODS)
def test_a_leak_costs_one_task_which_is_run_again_and_the_others_finish(
    box: Box, agent: StartAgent, tmp_path: Path, method: str
) -> None:
    guard = agent("--usage-threshold=0.7")
    until, marks = tmp_path / "until", tmp_path / "marks"
    context = multiprocessing.get_context(method)
    with pool(box, guard, 4, mp_context=context) as executor:
        others = holders(box, executor, 3, until)
        leak = executor.submit(jobs.leak_but, 2, str(marks))
        runs = [float(run) for run in leak.result(timeout=90).split()]
        assert len(runs) == 3, "killed twice, then it finished"
        assert runs[1] - runs[0] > 0.2
        assert runs[2] - runs[1] > 0.4, "the second wait is twice as long"
        until.touch()
        assert [other.result(timeout=60) for other in others] == [10, 10, 10]
        assert executor.submit(jobs.square, 7).result(timeout=60) == 49
    with Client(guard.socket) as client:
        kills = client.kills()
    assert len(kills) == 2
    assert all(victim["owner"] == executor.owner for kill in kills for victim in kill["victims"])
    assert box.oom_kills() == 0


def test_the_last_task_raises_with_the_report_of_the_agent(box: Box, agent: StartAgent) -> None:
    guard = agent("--usage-threshold=0.7")
    with pool(box, guard, 4) as executor:
        future = executor.submit(jobs.leak)
        with pytest.raises(OutOfMemoryError) as raised:
            future.result(timeout=90)
        error = raised.value
        assert error.kills == 1
        assert not error.verdict.should_retry
        assert error.verdict.domain == f"cgroup:{box.path}"
        assert error.verdict.used > error.verdict.threshold
        with Client(guard.socket) as client:
            assert client.report(error.verdict.kill)["victims"][0]["worker"] == error.verdict.worker
        assert error.verdict.worker in error.report
        assert "memory" in error.report
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.verdict) == (str(error), error.verdict)
        assert isinstance(error, MemoryError)
        # The pool goes on.
        assert list(executor.map(jobs.square, range(5))) == [0, 1, 4, 9, 16]
    assert box.oom_kills() == 0


def test_a_task_that_leaks_beside_idle_processes_does_not_loop_for_ever(
    box: Box, agent: StartAgent, tmp_path: Path
) -> None:
    """The agent counts the idle ones into the pool's group: by its decisions there would be no end."""
    guard = agent("--usage-threshold=0.7")
    until = tmp_path / "until"
    with pool(box, guard, 3) as executor:
        others = holders(box, executor, 3, until)
        until.touch()
        assert [other.result(60) for other in others] == [10, 10, 10]
        # The agent hears that they are idle, so that the next task counts as begun later than theirs.
        time.sleep(0.5)
        with pytest.raises(OutOfMemoryError) as raised:
            executor.submit(jobs.leak).result(timeout=90)
        assert raised.value.kills == 2
        assert raised.value.verdict.should_retry
    assert box.oom_kills() == 0


@pytest.mark.parametrize(("oom_retries", "kills"), [(0, 1), (1, 2)])
def test_oom_retries_bounds_the_retries(
    box: Box, agent: StartAgent, tmp_path: Path, oom_retries: int, kills: int
) -> None:
    guard = agent("--usage-threshold=0.7")
    until = tmp_path / "until"
    with pool(box, guard, 3, oom_retries=oom_retries) as executor:
        others = holders(box, executor, 2, until)
        with pytest.raises(OutOfMemoryError, match=f"oom_retries .*{oom_retries}") as raised:
            executor.submit(jobs.leak).result(timeout=90)
        assert raised.value.kills == kills
        until.touch()
        assert [other.result(timeout=60) for other in others] == [10, 10]


@pytest.mark.parametrize("method", METHODS)
def test_a_kill_while_a_large_result_is_sent_costs_no_other_task(
    box: Box, agent: StartAgent, tmp_path: Path, method: str
) -> None:
    """Pickling doubles the memory, to 220 MiB over the 210 allowed: the kill comes while it is sent."""
    guard = agent("--usage-threshold=0.7")
    until = tmp_path / "until"
    context = multiprocessing.get_context(method)
    with pool(box, guard, 3, mp_context=context, oom_retries=1) as executor:
        others = holders(box, executor, 2, until)
        with pytest.raises(OutOfMemoryError):
            executor.submit(jobs.big_result, 110).result(timeout=90)
        until.touch()
        assert [other.result(timeout=60) for other in others] == [10, 10]
        assert list(executor.map(jobs.square, range(20))) == [n * n for n in range(20)]


def test_the_agent_is_told_which_processes_wait_for_work(box: Box, agent: StartAgent, tmp_path: Path) -> None:
    guard = agent()
    until = tmp_path / "until"
    with pool(box, guard, 2, name="crunch") as executor, Client(guard.socket) as client:
        assert client.workers() == [], "none is started before there is work"
        task = executor.submit(jobs.hold, 1, str(until))

        def row(state: str) -> list[WorkerRow]:
            return [row for row in client.workers() if row["state"] == state]

        (busy,) = wait_for("a worker", lambda: row("running"))
        assert (busy["owner"], busy["name"], busy["retriable"]) == (executor.owner, "crunch#1", True)
        assert busy["kind"] == "task"
        assert [busy["pid"]] == wait_for("it to be in the box", box.members)
        ranking = wait_for("the agent to see it moved there", lambda: client.explain()["ranking"])
        assert ranking[0]["id"] == busy["id"]
        until.touch()
        assert task.result(60) == 1
        (idle,) = wait_for("it to be idle", lambda: row("idle"))
        assert (idle["id"], idle["ever_leased"]) == (busy["id"], True)
        until.unlink()
        executor.submit(jobs.hold, 1, str(until))
        (again,) = wait_for("it to be busy", lambda: row("running"))
        assert again["id"] == busy["id"]
        assert again["started"] > busy["started"], "its task is a new one"
        until.touch()
    with Client(guard.socket) as client:
        assert wait_for("no worker to be left", lambda: client.workers() == [])
    assert box.members() == []


def test_an_idle_process_that_is_killed_costs_nothing(box: Box, agent: StartAgent, tmp_path: Path) -> None:
    guard = agent("--policy=by_time", "--usage-threshold=0.7", "--kill-buffer=0")
    until = tmp_path / "until"
    with pool(box, guard, 2) as executor, Client(guard.socket) as client:
        idle, busy = [executor.submit(jobs.hold, 5, str(until)) for _ in range(2)]
        wait_for("both to run", lambda: len(box.members()) == 2)
        until.touch()
        assert [idle.result(60), busy.result(60)] == [5, 5]
        wait_for("both to be idle", lambda: [r["state"] for r in client.workers()] == ["idle", "idle"])
        wait_for("both to be measured", lambda: all(r["memory"] for r in client.workers()))
        future = executor.submit(jobs.leak, 400)
        with pytest.raises(OutOfMemoryError):
            future.result(timeout=90)
        first = client.kills()[0]
        assert "idle" in first["victims"][0]["why"]
        assert list(executor.map(jobs.square, range(4))) == [0, 1, 4, 9]


def test_a_kill_while_the_agent_restarts_is_known_after_it(
    box: Box, agent: StartAgent, tmp_path: Path
) -> None:
    guard = agent("--usage-threshold=0.7")
    until, marks = tmp_path / "until", tmp_path / "marks"
    with pool(box, guard, 3) as executor:
        others = holders(box, executor, 2, until)
        with Client(guard.socket) as client:
            wait_for("both to be workers", lambda: len(client.workers()) == 2)
            before = {row["pid"]: row["id"] for row in client.workers()}
        guard.kill()
        time.sleep(0.5)
        guard.start()
        with Client(guard.socket) as client:
            wait_for(
                "the processes to be registered again, under their numbers",
                lambda: {row["pid"]: row["id"] for row in client.workers()} == before,
            )
        assert len(executor.submit(jobs.leak_but, 1, str(marks)).result(timeout=90).split()) == 2
        until.touch()
        assert [other.result(timeout=60) for other in others] == [10, 10]


def test_shutdown_ends_a_task_that_waits_to_be_run_again(box: Box, agent: StartAgent, tmp_path: Path) -> None:
    guard = agent("--usage-threshold=0.7")
    until = tmp_path / "until"
    with pool(box, guard, 3, oom_retry_base=60.0) as executor:
        others = holders(box, executor, 2, until)
        leak = executor.submit(jobs.leak)
        with Client(guard.socket) as client:
            wait_for("the kill", lambda: [kill for kill in client.kills() if kill["confirmed"]])
        wait_for("the task to wait", lambda: executor._queue._later)
        until.touch()
        started = time.monotonic()
        executor.shutdown(cancel_futures=True)
        assert time.monotonic() - started < 50, "it does not wait for the retry"
    assert [other.result(0) for other in others] == [10, 10]
    with pytest.raises(OutOfMemoryError, match="shut down"):
        leak.result(0)
