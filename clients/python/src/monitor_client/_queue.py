"""What the places of a pool share: tasks that wait, tasks that wait for their retry, and how many run."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Callable, Optional

from ._retry import Retry
from ._types import Verdict

log = logging.getLogger("monitor_client")


class Item:
    """A task."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        retry: Retry,
    ) -> None:
        self.future: Future[Any] = Future()
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.retry = retry
        self.last_kill: Optional[Verdict] = None
        self._begun = False

    def begin(self) -> bool:
        """Whether it is to be run: it was not canceled. Once it runs it cannot be."""
        if not self._begun:
            self._begun = self.future.set_running_or_notify_cancel()
        return self._begun

    def fail(self, error: BaseException) -> None:
        """Ends it, if it has not ended."""
        if self.begin() and not self.future.done():
            self.future.set_exception(error)

    def __str__(self) -> str:
        return str(getattr(self.function, "__qualname__", self.function))


class Queue:
    """See the module."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: deque[Item] = deque()
        self._later: list[tuple[float, int, Item]] = []
        self._order = itertools.count()
        self._closed = False
        self._broken: Optional[str] = None
        self._waiting = 0
        self._running = 0
        self._slots = 0
        self._said = False
        #: Called when the last place is left, after the queue was closed.
        self.at_end: Callable[[], None] = lambda: None

    def put(self, item: Item, most: int) -> bool:
        """Adds a task. True: a place is to be made for it; there are to be ``most`` at most."""
        with self._changed:
            if self._broken is not None:
                raise BrokenProcessPool(self._broken)
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._ready.append(item)
            self._changed.notify()
            more = self._waiting < len(self._ready) and self._slots < most
            self._slots += more
            return more

    def put_back(self, item: Item, after: float) -> None:
        """Has a task run again, so many seconds from now."""
        with self._changed:
            if self._broken is None:
                heapq.heappush(self._later, (time.monotonic() + after, next(self._order), item))
                self._changed.notify_all()
                return
        item.fail(BrokenProcessPool(self._broken))

    def take(self, timeout: Optional[float] = None) -> Optional[Item]:
        """The next task; one whose time has come goes first. None: none came in time, or none will."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    now = time.monotonic()
                    if self._later and self._later[0][0] <= now:
                        return heapq.heappop(self._later)[2]
                    if self._ready:
                        return self._ready.popleft()
                    if self._closed and not self._later:
                        return None
                    if until is not None and now >= until:
                        return None
                    ends = [
                        end for end in (until, self._later[0][0] if self._later else None) if end is not None
                    ]
                    self._changed.wait(min(ends) - now if ends else None)
            finally:
                self._waiting -= 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts a task that runs."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1

    def runs_one(self) -> bool:
        """Whether a single task runs now."""
        with self._changed:
            return self._running == 1

    def close(self, cancel: bool = False) -> list[Item]:
        """No task will be added. ``cancel``: those that have not begun are canceled, and those that wait for
        a retry are the caller's to end."""
        dropped: list[Item] = []
        with self._changed:
            self._closed = True
            if cancel:
                for item in self._ready:
                    item.future.cancel()
                    # Tells those who wait for it.
                    item.begin()
                self._ready.clear()
                dropped = [item for _, _, item in self._later]
                self._later.clear()
            self._changed.notify_all()
            empty = self._slots == 0
        if empty:
            self.at_end()
        return dropped

    def break_up(self, why: str) -> None:
        """The pool cannot go on: all tasks that wait fail."""
        with self._changed:
            self._broken = self._broken or why
            items = [*self._ready, *(item for _, _, item in self._later)]
            self._ready.clear()
            self._later.clear()
            self._closed = True
            self._changed.notify_all()
        for item in items:
            item.fail(BrokenProcessPool(why))

    def leave(self) -> None:
        """A place is given up."""
        with self._changed:
            self._slots -= 1
            last = self._closed and self._slots == 0
        if last:
            self.at_end()

    def say_unguarded(self, why: Exception) -> None:
        """Logs that the agent does not guard a process of the pool: once for a pool."""
        with self._changed:
            said, self._said = self._said, True
        if not said:
            log.warning("the agent does not guard this pool: %s", why)
