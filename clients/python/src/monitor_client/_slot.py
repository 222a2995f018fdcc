"""One place of the pool: a thread, the process that it keeps, and what it tells the agent of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any, Callable, Optional

from ._child import dumps
from ._errors import MonitorError, OutOfMemoryError, WorkerCrashedError
from ._process import PoolProcess, ProcessDiedError
from ._queue import Item, Queue
from ._retry import Again, Fail
from ._types import Verdict
from ._worker import Worker
from .client import Client

log = logging.getLogger("monitor_client")

#: How long a process without work counts as busy, in seconds: the agent is not told of each short gap.
_LINGER = 0.1

#: A task that follows one that began so short a time ago is told to the agent as one with it.
_SAME_LEASE = 0.25

#: How long an agent that is away is waited for, to ask whether it killed a process.
_ASK = 5.0

#: How long a verdict may follow the death, where the agent's list does not have the kill yet.
_LATE_VERDICT = 1.0

#: How long the report of a kill is waited for.
_REPORT = 10.0

#: How often a process that does not start is tried again, and how long after.
_STARTS, _START_PAUSE = 3, 0.5


@dataclass(frozen=True)
class Plan:
    """What all places of a pool have in common."""

    context: BaseContext
    initializer: Optional[Callable[..., object]]
    initargs: Sequence[Any]
    max_tasks: Optional[int]
    client: Client
    owner: str
    name: str
    retriable: bool


class _InitializerError(Exception):
    """The pool's initializer failed."""


class Slot(threading.Thread):
    """A place. It ends when the queue is closed and empty."""

    def __init__(self, number: int, plan: Plan, queue: Queue) -> None:
        super().__init__(name=f"{plan.name}#{number}", daemon=True)
        self._plan = plan
        self._queue = queue
        self._process: Optional[PoolProcess] = None
        self._worker: Optional[Worker] = None
        self._idle = False
        self._leased = 0.0
        self._tasks = 0

    def run(self) -> None:
        """The thread."""
        try:
            while (item := self._next()) is not None:
                if item.begin():
                    self._do(item)
        finally:
            self._end_process()
            self._queue.leave()

    def _next(self) -> Optional[Item]:
        if self._process is not None:
            item = self._queue.take(_LINGER)
            if item is not None:
                return item
            self._tell(idle=True)
        return self._queue.take()

    def _do(self, item: Item) -> None:
        with self._queue.running():
            try:
                result = self._attempt(item)
            except ProcessDiedError as died:
                self._died(item, died.exit_code)
            except _InitializerError as error:
                self._break(item, f"the initializer of the pool failed: {error.__cause__!r}")
            except BaseException as error:
                item.fail(error)
            else:
                item.future.set_result(result)

    def _attempt(self, item: Item) -> Any:
        payload = dumps((item.function, item.args, item.kwargs))
        process = self._ready()
        self._tasks += 1
        return process.run(payload)

    # The process

    def _ready(self) -> PoolProcess:
        """A process that lives, and of which the agent knows that it works."""
        worn_out = self._plan.max_tasks is not None and self._tasks >= self._plan.max_tasks
        if self._process is not None and (worn_out or self._process.dead()):
            self._end_process()
        if self._process is None:
            return self._start()
        self._lease()
        return self._process

    def _start(self) -> PoolProcess:
        for left in reversed(range(_STARTS)):
            try:
                self._process = process = PoolProcess(self._plan.context)
                break
            except (ProcessDiedError, BrokenProcessPool) as error:
                if left == 0:
                    raise BrokenProcessPool("a process of the pool does not start") from error
                time.sleep(_START_PAUSE)
        self._tasks = 0
        self._register(process)
        self._leased, self._idle = time.monotonic(), False
        if self._plan.initializer is not None:
            payload = dumps((self._plan.initializer, tuple(self._plan.initargs), {}))
            try:
                process.run(payload)
            except ProcessDiedError:
                raise
            except BaseException as error:
                raise _InitializerError from error
        return process

    def _end_process(self) -> None:
        """It is not needed any more, or is dead."""
        worker, self._worker = self._worker, None
        process, self._process = self._process, None
        if worker is not None:
            if process is None or process.dead():
                worker.forget()
            else:
                _quietly(worker.unregister)
        if process is not None:
            process.discard()

    # The agent

    def _register(self, process: PoolProcess) -> None:
        plan = self._plan
        try:
            self._worker = plan.client.register(
                process.pid,
                started=process.start_time,
                owner=plan.owner,
                name=self.name,
                max_retries=-1 if plan.retriable else 0,
            )
        except MonitorError as error:
            # Tried again at its next task.
            self._worker = None
            self._queue.say_unguarded(error)

    def _lease(self) -> None:
        """The agent goes by when a worker began its task."""
        if self._worker is None and self._process is not None:
            self._register(self._process)
        elif self._idle or time.monotonic() - self._leased > _SAME_LEASE:
            self._tell(idle=True)
            self._tell(idle=False)
            self._leased = time.monotonic()

    def _tell(self, idle: bool) -> None:
        worker = self._worker
        if worker is not None and self._idle != idle:
            self._idle = idle
            _quietly(lambda: worker.set_idle(idle))

    def _verdict(self, exit_code: Optional[int]) -> Optional[Verdict]:
        """Whether the agent killed the process, which is dead."""
        worker = self._worker
        if worker is None:
            return None
        deadline = time.monotonic() + _ASK
        while True:
            try:
                verdict = worker.find_kill()
                break
            except MonitorError:
                if time.monotonic() > deadline:
                    return worker.verdict
                time.sleep(0.1)
        if verdict is None and (exit_code is None or exit_code < 0):
            return worker.wait_verdict(_LATE_VERDICT)
        return verdict

    # The death of a process

    def _died(self, item: Item, exit_code: Optional[int]) -> None:
        alone = self._queue.runs_one()
        verdict = self._verdict(exit_code)
        self._end_process()
        if verdict is not None:
            self._killed(item, verdict, alone)
        elif item.retry.crashed():
            log.warning("%s: its process died (exit code %s); it is run again", item, exit_code)
            self._queue.put_back(item, 0.0)
        else:
            item.fail(WorkerCrashedError(exit_code, item.retry.crashes + item.retry.kills))

    def _killed(self, item: Item, verdict: Verdict, alone: bool) -> None:
        next_step = item.retry.killed(verdict.should_retry, alone)
        if isinstance(next_step, Again):
            log.warning("%s: killed for memory; it is run again in %g s", item, next_step.after)
            item.last_kill = verdict
            self._queue.put_back(item, next_step.after)
            return
        item.fail(out_of_memory(self._plan.client, next_step, verdict, item.retry.kills))

    def _break(self, item: Item, why: str) -> None:
        item.fail(BrokenProcessPool(why))
        self._queue.break_up(why)


def out_of_memory(client: Client, fail: Fail, verdict: Verdict, kills: int) -> OutOfMemoryError:
    """The exception for a task that is not run again, with the agent's report if it comes in time."""
    text = client.report_text(verdict.kill, _REPORT)
    if text is None:
        text = (
            f"kill {verdict.kill}: {verdict.worker} in {verdict.domain}, which used {verdict.used} of "
            f"{verdict.total} bytes with a threshold of {verdict.threshold}: {verdict.why}"
        )
    return OutOfMemoryError(fail.reason, verdict, text, kills)


def _quietly(call: Callable[[], object]) -> None:
    """For what the agent is told again when it is back."""
    try:
        call()
    except MonitorError as error:
        log.debug("not told: %s", error)
