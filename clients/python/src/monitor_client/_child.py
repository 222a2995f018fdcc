"""What runs in a process of the pool: nothing here is called by the process that owns the pool.

Payloads and results cross as bytes that this package pickles itself. What cannot be pickled or unpickled
is then the task's own failure, and not the pool's.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import threading
from multiprocessing.reduction import ForkingPickler
from traceback import format_exc
from typing import Any, Callable, Optional, Union

from ._system import Pidfd, start_time

_PR_SET_PDEATHSIG = 1


def dumps(value: object) -> bytes:
    """A value as bytes for another process of this pool."""
    return bytes(ForkingPickler.dumps(value))


class RemoteTraceback(Exception):
    """The traceback of an exception in another process, as its cause."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Returned:
    """The task returned."""

    def __init__(self, result: bytes) -> None:
        self.result = result


class Raised:
    """The task raised."""

    def __init__(self, error: Optional[bytes], text: str) -> None:
        self.error = error
        self.text = text


def hello(pool: int) -> tuple[int, int]:
    """Who this process is: pid and start time. It ends with the process that owns the pool."""
    if os.getppid() == pool:
        _die_with_parent()
    try:
        owner = Pidfd(pool)
    except ProcessLookupError:
        os._exit(1)  # It was gone already.
    except OSError:
        return os.getpid(), start_time()  # A kernel without pidfds.
    if os.getppid() != pool:
        # A fork server lives as long as its children do, so its death would come too late.
        threading.Thread(target=_die_with, args=(owner,), daemon=True).start()
    return os.getpid(), start_time()


def _die_with_parent() -> None:
    """The kernel kills this process when the thread that started it ends: the pool's place."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        pass  # Then it ends when it finds its pipe closed.


def _die_with(owner: Pidfd) -> None:
    owner.wait()
    os._exit(1)


def call(payload: bytes) -> Union[Returned, Raised]:
    """Runs a task."""
    try:
        task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] = pickle.loads(payload)
        function, args, kwargs = task
        return Returned(dumps(function(*args, **kwargs)))
    except BaseException as error:
        text = format_exc()
        try:
            return Raised(dumps(error), text)
        except BaseException:
            return Raised(None, text)


def chunk(function: Callable[..., Any], rows: list[tuple[Any, ...]]) -> list[Any]:
    """Runs a task for each of several rows of arguments."""
    return [function(*row) for row in rows]
