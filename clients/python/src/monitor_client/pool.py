"""A pool of processes in which a kill for memory costs one task, and not the pool.

:class:`ProcessPoolExecutor` is used as that of ``concurrent.futures``. Each of its processes is a worker of
the agent, owned by the pool. It needs Pebble: ``pip install 'monitor-client[pool]'``.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import multiprocessing
import os
import sys
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from functools import lru_cache, partial
from multiprocessing.context import BaseContext
from typing import Any, Callable, Literal, Optional, TypeVar, cast

from ._child import chunk
from ._errors import MonitorError
from ._queue import Item, Queue
from ._retry import Fail, Retry
from ._slot import Plan, Slot, out_of_memory
from .client import Client

T = TypeVar("T")

_NUMBERS = itertools.count(1)


class ProcessPoolExecutor(Executor):
    """A drop-in for ``concurrent.futures.ProcessPoolExecutor``; the first five parameters are the same.

    A task whose process the agent kills is run again as the agent's decision says, after 1, 2, 4 ... 60 s
    (``oom_retry_base`` x 2^n), ``oom_retries`` times at most (-1: no limit). One that is not run again
    raises :class:`OutOfMemoryError`, with the agent's report. A task whose process dies otherwise is run
    again ``crash_retries`` times, then it raises :class:`WorkerCrashedError`. All other tasks go on.

    ``agent`` is the agent's socket, or a client; default: where the ``monitor`` command looks. Without an
    agent the pool works and is not guarded, which is logged once; ``if_no_agent="fail"`` raises instead.
    ``owner`` and ``name`` are what the agent shows.
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Optional[BaseContext] = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: Optional[int] = None,
        oom_retries: int = -1,
        oom_retry_base: float = 1.0,
        crash_retries: int = 0,
        agent: Optional[object] = None,
        if_no_agent: Literal["run", "fail"] = "run",
        owner: Optional[str] = None,
        name: Optional[str] = None,
    ) -> None:
        _check(
            max_workers,
            max_tasks_per_child,
            initializer,
            oom_retries,
            oom_retry_base,
            crash_retries,
        )
        _import_pebble()
        client, own = _client(agent)
        self._queue = Queue()
        try:
            client.connect()
        except MonitorError as error:
            if if_no_agent == "fail":
                raise
            self._queue.say_unguarded(error)
        self._most = max_workers or os.cpu_count() or 1
        self._retry = partial(Retry, oom_retries, oom_retry_base, crash_retries)
        number = next(_NUMBERS)
        program = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        self._plan = Plan(
            context=mp_context or multiprocessing.get_context(),
            initializer=initializer,
            initargs=tuple(initargs),
            max_tasks=max_tasks_per_child,
            client=client,
            owner=owner or f"pool {number} of {program} {os.getpid()}",
            name=name or program,
            retriable=oom_retries != 0,
        )
        if own:
            self._queue.at_end = client.close
        self._slots: list[Slot] = []
        # One that is forgotten without a shutdown ends as well.
        self._finalizer = weakref.finalize(self, self._queue.close)
        self._finalizer.atexit = False
        _POOLS.add(self)

    @property
    def owner(self) -> str:
        """The owner under which the agent knows the processes of this pool."""
        return self._plan.owner

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As in ``concurrent.futures``."""
        item = Item(fn, args, kwargs, self._retry())
        if self._queue.put(item, self._most):
            slot = Slot(len(self._slots) + 1, self._plan, self._queue)
            self._slots.append(slot)
            slot.start()
        return cast("Future[T]", item.future)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """As in ``concurrent.futures``. A kill costs, and a retry repeats, one chunk."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        rows = zip(*iterables)
        chunks: Iterator[list[tuple[Any, ...]]] = iter(lambda: list(itertools.islice(rows, chunksize)), [])
        results = super().map(partial(chunk, fn), chunks, timeout=timeout)
        return itertools.chain.from_iterable(cast("Iterator[list[T]]", results))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in ``concurrent.futures``. ``cancel_futures`` also ends tasks that wait to be run again: they
        raise :class:`OutOfMemoryError`, or ``BrokenProcessPool`` after a crash."""
        for item in self._queue.close(cancel_futures):
            fail = Fail("the task was killed, and the pool was shut down before it was run again")
            if item.last_kill is not None:
                item.fail(out_of_memory(self._plan.client, fail, item.last_kill, item.retry.kills))
            else:
                item.future.set_exception(
                    RuntimeError("the pool was shut down before the task was run again")
                )
        if wait:
            for slot in self._slots:
                slot.join()


def _client(agent: Optional[object]) -> tuple[Client, bool]:
    """The client, and whether it is the pool's own."""
    if isinstance(agent, Client):
        return agent, False
    if agent is None or isinstance(agent, (str, os.PathLike)):
        return Client(None if agent is None else os.fsdecode(agent)), True
    raise TypeError("agent is a Client or the path of the agent's socket")


def _check(
    max_workers: Optional[int],
    max_tasks: Optional[int],
    initializer: Optional[Callable[..., object]],
    oom_retries: int,
    oom_retry_base: float,
    crash_retries: int,
) -> None:
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if max_tasks is not None and max_tasks <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if oom_retries < -1 or crash_retries < -1:
        raise ValueError("oom_retries and crash_retries are -1 (no limit) or a number from 0 on")
    if not oom_retry_base >= 0:
        raise ValueError("oom_retry_base is a number of seconds from 0 on")


_POOLS: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()


def _at_exit() -> None:
    """Tasks that were submitted are finished, as those of ``concurrent.futures`` are."""
    for pool in list(_POOLS):
        pool.shutdown()


@lru_cache(maxsize=1)
def _import_pebble() -> None:
    """Has the tasks finished at exit before Pebble and multiprocessing end the processes.

    What was registered last is called first, and they register when they are imported.
    """
    importlib.import_module("multiprocessing.util")
    try:
        importlib.import_module("pebble")
    except ModuleNotFoundError as error:
        raise ImportError("the pool needs Pebble: pip install 'monitor-client[pool]'") from error
    atexit.register(_at_exit)


os.register_at_fork(after_in_child=_POOLS.clear)
