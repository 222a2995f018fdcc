"""Pushes that wait for whoever reads them. Bounded: notes make room for what matters more."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Optional

from ._types import Lost, Note, Push

#: How many may wait. Beyond that the oldest notes are dropped, verdicts never.
MOST = 4096


class Mailbox:
    """A queue of pushes for one reader."""

    def __init__(self, wake: Optional[Callable[[], None]] = None) -> None:
        """``wake`` is called after each change, by the thread that made it."""
        self._wake = wake
        self._changed = threading.Condition()
        self._waiting: deque[Push] = deque()
        self._closed = False

    def put(self, push: Push) -> None:
        """Adds one. Never waits."""
        with self._changed:
            if len(self._waiting) >= MOST:
                for kept in self._waiting:
                    if isinstance(kept, (Note, Lost)):
                        self._waiting.remove(kept)
                        break
            self._waiting.append(push)
            self._changed.notify()
        if self._wake is not None:
            self._wake()

    def get(self, timeout: Optional[float] = None) -> Optional[Push]:
        """The next one; None: none came in time, or none will."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout)
            return self._waiting.popleft() if self._waiting else None

    @property
    def over(self) -> bool:
        """Whether none is left and none will come."""
        with self._changed:
            return self._closed and not self._waiting

    def close(self) -> None:
        """None will come any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._wake is not None:
            self._wake()
