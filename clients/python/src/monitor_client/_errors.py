"""What can go wrong, as exceptions. All of them are :class:`MonitorError`."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ._types import Verdict


class MonitorError(Exception):
    """Anything that this package raises on its own account."""


class NoAgentError(MonitorError):
    """No agent listens at the path."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"no agent listens on {self.path}: start one with `monitor agent`, "
            "or name its socket with MONITOR_SOCKET"
        )


class AccessDeniedError(MonitorError):
    """The socket's mode or its directory keeps this user out."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path}: permission denied: the agent admits root and the group of this socket; "
            "ask for membership"
        )


class ConnectionLostError(MonitorError):
    """The connection ended before the answer came."""


class CallTimeoutError(MonitorError):
    """The agent did not answer in time."""


class ProtocolError(MonitorError):
    """The other side does not speak this protocol."""


class ClientClosedError(MonitorError):
    """The client was closed, or belongs to the process that forked this one."""


class RefusedError(MonitorError):
    """The agent refused the call. Nothing was done.

    ``code`` is for programs, ``field`` names the part of the call that is at fault (as
    ``op.register.pid``; None: not one field), ``message`` is for people.
    """

    def __init__(self, code: str, field: Optional[str], message: str) -> None:
        super().__init__(code, field, message)
        self.code = code
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"the agent refused: {self.message}"


class MalformedError(RefusedError):
    """The agent does not understand the call: for example an older agent, a newer operation."""


class InvalidError(RefusedError):
    """A value of the call is out of its range."""


class NotFoundError(RefusedError):
    """There is no such process, worker, kill or domain."""


class DeniedError(RefusedError):
    """The caller may not do that."""


class DuplicateError(RefusedError):
    """The process is a worker already."""


class BusyError(RefusedError):
    """A limit of connections, workers or calls is reached."""


class PeerTimeoutError(RefusedError):
    """The agent closed the connection, because this side was too slow or silent for too long."""


class AgentFailedError(RefusedError):
    """The agent failed."""


_BY_CODE: dict[str, type[RefusedError]] = {
    "malformed": MalformedError,
    "invalid": InvalidError,
    "not_found": NotFoundError,
    "denied": DeniedError,
    "duplicate": DuplicateError,
    "busy": BusyError,
    "timeout": PeerTimeoutError,
    "failed": AgentFailedError,
}


def refusal(code: str, field: Optional[str], message: str) -> RefusedError:
    """The exception for a refusal. A code that this version does not know is a plain one."""
    return _BY_CODE.get(code, RefusedError)(code, field, message)


class OutOfMemoryError(MonitorError, MemoryError):
    """The process that ran a task was killed for memory, and the task is not run again.

    ``verdict`` is what the agent said of the last kill, ``report`` is its report as text, ``kills``
    is how often the task was killed, ``reason`` says why it is not run again.
    """

    def __init__(self, reason: str, verdict: Verdict, report: str, kills: int) -> None:
        super().__init__(reason, verdict, report, kills)
        self.reason = reason
        self.verdict = verdict
        self.report = report
        self.kills = kills

    def __str__(self) -> str:
        return f"out of memory: {self.reason}\n{self.report}"


class WorkerCrashedError(MonitorError, BrokenProcessPool):
    """The process that ran a task died, and not by the agent. The pool goes on.

    It is a ``BrokenProcessPool`` so that code written for ``concurrent.futures`` catches it.
    ``exit_code`` is negative for a signal, None if it is not known.
    """

    def __init__(self, exit_code: Optional[int], runs: int) -> None:
        super().__init__(exit_code, runs)
        self.exit_code = exit_code
        self.runs = runs

    def __str__(self) -> str:
        if self.exit_code is None:
            how = "died"
        elif self.exit_code < 0:
            how = f"was killed by signal {-self.exit_code}, and not by the agent"
        else:
            how = f"ended with exit code {self.exit_code}"
        times = "once" if self.runs == 1 else f"{self.runs} times"
        return f"the process that ran the task {how}; the task was run {times}"


class RemoteError(MonitorError):
    """A task raised an exception that cannot be brought over from its process."""
