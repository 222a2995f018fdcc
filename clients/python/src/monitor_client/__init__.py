"""Client of the monitor agent, which keeps a Linux machine from running out of memory.

:func:`connect` and :class:`Client` for threads, :class:`AsyncClient` for asyncio, and
:class:`ProcessPoolExecutor`, a pool of processes in which a kill for memory costs one task.
"""

from ._errors import (
    AccessDeniedError,
    AgentFailedError,
    BusyError,
    CallTimeoutError,
    ClientClosedError,
    ConnectionLostError,
    DeniedError,
    DuplicateError,
    InvalidError,
    MalformedError,
    MonitorError,
    NoAgentError,
    NotFoundError,
    OutOfMemoryError,
    PeerTimeoutError,
    ProtocolError,
    RefusedError,
    RemoteError,
    WorkerCrashedError,
)
from ._system import default_socket, start_time
from ._types import (
    Admitted,
    Explanation,
    Held,
    Kill,
    KillReport,
    Kind,
    Lost,
    Note,
    Push,
    Ranked,
    Status,
    Verdict,
    Why,
    WorkerRow,
)
from ._worker import Worker
from .aio import AsyncClient, AsyncWorker
from .client import Client, connect
from .pool import ProcessPoolExecutor

__version__ = "0.1.0"

__all__ = [
    "connect",
    "Client",
    "Worker",
    "AsyncClient",
    "AsyncWorker",
    "ProcessPoolExecutor",
    "default_socket",
    "start_time",
    # Pushes
    "Push",
    "Verdict",
    "KillReport",
    "Held",
    "Admitted",
    "Note",
    "Lost",
    # Answers
    "Status",
    "WorkerRow",
    "Explanation",
    "Ranked",
    "Kill",
    "Why",
    "Kind",
    # Errors
    "MonitorError",
    "NoAgentError",
    "AccessDeniedError",
    "ConnectionLostError",
    "CallTimeoutError",
    "ProtocolError",
    "ClientClosedError",
    "RefusedError",
    "MalformedError",
    "InvalidError",
    "NotFoundError",
    "DeniedError",
    "DuplicateError",
    "BusyError",
    "PeerTimeoutError",
    "AgentFailedError",
    "OutOfMemoryError",
    "WorkerCrashedError",
    "RemoteError",
]
