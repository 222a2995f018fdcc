"""The pool without an agent: what `concurrent.futures` promises, and what processes that die cost."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from pickle import PicklingError
from typing import Any

import pytest

import jobs
from box import wait_for
from monitor_client import NoAgentError, ProcessPoolExecutor, RemoteError, WorkerCrashedError

METHODS = ["fork", "spawn", "forkserver"]


def pool(workers: int, tmp_path: Path, **options: Any) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, agent=tmp_path / "none.sock", **options)


@pytest.mark.parametrize("method", METHODS)
def test_results_come_in_order(tmp_path: Path, method: str) -> None:
    with pool(3, tmp_path, mp_context=multiprocessing.get_context(method)) as executor:
        squares = [n * n for n in range(20)]
        assert list(executor.map(jobs.square, range(20))) == squares
        assert list(executor.map(jobs.square, range(20), chunksize=7)) == squares
        assert executor.submit(pow, 2, exp=5).result(30) == 32


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_dies_costs_its_task_only(tmp_path: Path, method: str) -> None:
    until = tmp_path / "until"
    with pool(3, tmp_path, mp_context=multiprocessing.get_context(method)) as executor:
        other = executor.submit(jobs.hold, 1, str(until))
        for code in (0, 3):
            with pytest.raises(WorkerCrashedError, match=f"exit code {code}") as raised:
                executor.submit(jobs.end, code).result(60)
            assert raised.value.exit_code == code
        os.kill(_pid_of_the_first(executor, other), signal.SIGKILL)
        with pytest.raises(BrokenProcessPool, match="signal 9"):
            other.result(60)
        assert list(executor.map(jobs.square, range(10))) == [n * n for n in range(10)]


def _pid_of_the_first(executor: ProcessPoolExecutor, running: Any) -> int:
    """The pid of the process that runs a task."""
    wait_for("it to run", running.running)

    def busy() -> list[int]:
        return [slot._process.pid for slot in executor._slots[:1] if slot._process is not None]

    return wait_for("its process", busy)[0]


def test_crash_retries(tmp_path: Path) -> None:
    with pool(1, tmp_path, crash_retries=1) as executor:
        assert executor.submit(jobs.end_once, 5, str(tmp_path / "mark")).result(60) == "second"
        with pytest.raises(WorkerCrashedError, match="2 times"):
            executor.submit(jobs.end, 5).result(60)


def test_what_a_task_raises_comes_with_its_traceback(tmp_path: Path) -> None:
    with pool(1, tmp_path) as executor:
        with pytest.raises(ValueError, match="no luck") as raised:
            executor.submit(jobs.fail, "no luck").result(60)
        assert "in fail" in str(raised.value.__cause__)
        with pytest.raises(RemoteError, match="AwkwardError"):
            executor.submit(jobs.fail_awkwardly).result(60)
        with pytest.raises(SystemExit):
            executor.submit(sys.exit, 3).result(60)
        with pytest.raises(AttributeError, match="pickle"):
            executor.submit(jobs.unpicklable).result(60)
        # What cannot be pickled fails here, before it costs anything.
        for argument in (threading.Lock(), lambda: None):
            with pytest.raises((TypeError, AttributeError, PicklingError), match="pickle"):
                executor.submit(jobs.square, argument).result(60)
        assert executor.submit(jobs.square, 3).result(60) == 9


def test_an_initializer_that_fails_breaks_the_pool(tmp_path: Path) -> None:
    with pool(2, tmp_path, initializer=jobs.bad_start) as executor:
        tasks = [executor.submit(jobs.square, n) for n in range(5)]
        for task in tasks:
            with pytest.raises(BrokenProcessPool, match="no database"):
                task.result(60)
        with pytest.raises(BrokenProcessPool, match="no database"):
            executor.submit(jobs.square, 1)


def test_max_tasks_per_child(tmp_path: Path) -> None:
    with pool(1, tmp_path, max_tasks_per_child=2) as executor:
        pids = [executor.submit(jobs.pid).result(60) for _ in range(6)]
        assert len(set(pids)) == 3
        assert pids[0] == pids[1] != pids[2] == pids[3]


def test_cancel_and_shutdown(tmp_path: Path) -> None:
    until = tmp_path / "until"
    executor = pool(1, tmp_path)
    running = executor.submit(jobs.hold, 1, str(until))
    waiting = executor.submit(jobs.square, 1)
    other = executor.submit(jobs.square, 2)
    wait_for("the first to run", running.running)
    assert not running.cancel()
    assert waiting.cancel()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        other.result(60)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(jobs.square, 1)
    until.touch()
    assert running.result(60) == 1
    executor.shutdown()


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"max_tasks_per_child": 0},
        {"oom_retries": -2},
        {"crash_retries": -2},
        {"oom_retry_base": -1.0},
        {"oom_retry_base": float("nan")},
    ],
)
def test_values_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)).split("_")[0]):
        ProcessPoolExecutor(**options)


def test_without_an_agent_it_says_so_once_or_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "monitor_client"), pool(2, tmp_path) as executor:
        assert list(executor.map(jobs.square, range(10))) == [n * n for n in range(10)]
    assert len(caplog.records) == 1
    assert "no agent listens" in caplog.text
    with pytest.raises(NoAgentError):
        pool(2, tmp_path, if_no_agent="fail")


def test_asyncio_runs_in_it(tmp_path: Path) -> None:
    async def main(executor: ProcessPoolExecutor) -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, jobs.square, n) for n in range(5)))

    with pool(2, tmp_path) as executor:
        assert asyncio.run(main(executor)) == [0, 1, 4, 9, 16]


PROGRAM = """
import sys, time
sys.path[:0] = {path!r}
import jobs, multiprocessing
from monitor_client import ProcessPoolExecutor

if __name__ == "__main__":
    pool = ProcessPoolExecutor(
        2, multiprocessing.get_context({method!r}), agent="/nonexistent/none.sock"
    )
    print(*sorted({{pool.submit(jobs.pid).result() for _ in range(2)}}), flush=True)
    {then}
"""


def program(method: str, then: str) -> subprocess.Popen[str]:
    text = PROGRAM.format(path=sys.path, method=method, then=then)
    file = Path(os.environ["PYTEST_TMP"]) / "program.py"
    file.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path))


@pytest.mark.parametrize("method", METHODS)
def test_processes_end_with_a_program_that_is_killed(method: str) -> None:
    tasks = "tasks = [pool.submit(time.sleep, 600) for _ in range(2)]"
    with program(method, tasks + "; time.sleep(600)") as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        time.sleep(0.5)
        process.kill()
        process.wait()
    wait_for("its processes to end", lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # it went before or while it was read
        return False


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_ends_without_shutdown_finishes_its_tasks(method: str, tmp_path: Path) -> None:
    until, mark = tmp_path / "until", tmp_path / "mark"
    until.touch()
    then = f"for _ in range(4): pool.submit(jobs.hold, 1, {str(until)!r})"
    then += f"\n    pool.submit(jobs.enter, {str(mark)!r})"
    with program(method, then) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert mark.exists(), "the last of the tasks was run"
    assert "Traceback" not in err
    assert not any(_lives(int(pid)) for pid in out.split())
