"""One process of the pool, and how a task gets there and back. It knows nothing of the agent and of retries.

Each is a Pebble pool of one process. Processes that share a pool share its pipes and their locks, and one
that is killed while it sends a result, which is when memory grows, leaves the lock taken and half a message
behind. So nothing is shared, and what a dead process had is thrown away.
"""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, Optional

from ._child import Raised, RemoteTraceback, Returned, call, hello
from ._errors import RemoteError
from ._system import Pidfd

#: How long a process may be dead before it is not waited for any more: Pebble sees a death after 0.1 s.
_SEEN_DEAD = 1.0

#: How long the end of a process is waited for. Pebble sends SIGKILL 3 s after SIGTERM.
_STOP = 10.0


class ProcessDiedError(Exception):
    """The process died before it answered. ``exit_code``: negative for a signal, None if not known."""

    def __init__(self, exit_code: Optional[int]) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class _Context:
    """A multiprocessing context that remembers which pipes it made."""

    def __init__(self, context: BaseContext) -> None:
        self._context = context
        self.pipes: list[Any] = []

    def Pipe(self, duplex: bool = True) -> Any:
        ends = self._context.Pipe(duplex)
        self.pipes += ends
        return ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class PoolProcess:
    """A process that runs one task after the other. Making one starts it."""

    def __init__(self, context: BaseContext) -> None:
        global _starting
        from pebble import ProcessPool

        self._context = _Context(context)
        # Not typed: Pebble's own types differ from version to version.
        self._pool: Any = ProcessPool(max_workers=1, context=self._context)
        with _START:
            _starting = self
            _PROCESSES.add(self)
            try:
                asked: Future[Any] = self._pool.schedule(hello, args=(os.getpid(),))
            finally:
                _starting = None
        try:
            self.pid, self.start_time = asked.result()
            self._pidfd = Pidfd(self.pid)
        except BaseException as error:
            self._stop()
            if isinstance(error, OSError):  # Pebble's own, or it was gone at once.
                raise ProcessDiedError(getattr(error, "exitcode", None)) from error
            raise

    def dead(self) -> bool:
        """Whether it has ended."""
        return self._pidfd.dead()

    def run(self, payload: bytes) -> Any:
        """Runs a task there. Raises what the task raises, or :class:`ProcessDiedError`."""
        try:
            done: Future[Any] = self._pool.schedule(call, args=(payload,))
        except RuntimeError as error:
            raise ProcessDiedError(None) from error
        # One that ends with exit code 0 is not missed by Pebble.
        was_dead = False
        while not wait([done], timeout=_SEEN_DEAD).done:
            if was_dead:
                raise ProcessDiedError(0)
            was_dead = self.dead()
        failed = done.exception()
        if failed is not None:
            raise ProcessDiedError(getattr(failed, "exitcode", None)) from failed
        return _unpacked(done.result())

    def discard(self) -> None:
        """Ends it, if it has not ended."""
        self._stop()
        self._pidfd.close()

    def _stop(self) -> None:
        # First: a process forked while these pipes are closed must not close what has their numbers then.
        _PROCESSES.discard(self)
        stopping = threading.Thread(target=self._stop_pool, daemon=True)
        stopping.start()
        stopping.join(_STOP)

    def _stop_pool(self) -> None:
        try:
            self._pool.stop()
            self._pool.join()
        except (RuntimeError, OSError):
            pass  # It cannot be ended, or ended in this moment.

    def _close_inherited(self) -> None:
        for end in self._context.pipes:
            try:
                end.close()
            except OSError:
                pass  # Closed already.


def _unpacked(answer: Any) -> Any:
    if isinstance(answer, Returned):
        return pickle.loads(answer.result)
    if not isinstance(answer, Raised):
        raise BrokenProcessPool("a process of the pool gave no answer")
    raise _error(answer) from RemoteTraceback(answer.text)


def _error(raised: Raised) -> BaseException:
    if raised.error is not None:
        try:
            error = pickle.loads(raised.error)
        except Exception:
            error = None  # Its constructor wants other arguments than it keeps.
        if isinstance(error, BaseException):
            return error
    return RemoteError(f"the exception cannot be brought over from its process\n{raised.text}")


#: Held while a process is started: no other is forked meanwhile.
_START = threading.Lock()

#: All that may have open pipes.
_PROCESSES: set[PoolProcess] = set()

_starting: Optional[PoolProcess] = None


def _forked() -> None:
    """In a forked child: the pipes of the others are not its own. Open here, they would hide their ends."""
    for process in list(_PROCESSES):
        if process is not _starting:
            process._close_inherited()
    _PROCESSES.clear()


os.register_at_fork(after_in_child=_forked)
