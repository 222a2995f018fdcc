"""What this package asks the system: where the agent's socket is, and what names a process."""

from __future__ import annotations

import os
import select
import signal
from typing import Optional

#: Where root's agent listens.
SYSTEM_SOCKET = "/run/monitor/monitor.sock"


def default_socket() -> str:
    """The socket that the ``monitor`` command would use, unless a configuration file names another.

    That of ``MONITOR_SOCKET``; else root's, or this user's own if only that exists.
    """
    named = os.environ.get("MONITOR_SOCKET")
    if named:
        return named
    if os.geteuid() != 0 and not os.path.exists(SYSTEM_SOCKET):
        own = _user_socket()
        if os.path.exists(own):
            return own
    return SYSTEM_SOCKET


def _user_socket() -> str:
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(folder):
        folder = f"/run/user/{os.geteuid()}"
    return os.path.join(folder, "monitor", "monitor.sock")


def start_time(pid: Optional[int] = None) -> int:
    """When a process started, in clock ticks since boot. None: this process.

    With the pid it names a process for good: a pid that is used again has another start time.
    """
    with open(f"/proc/{'self' if pid is None else pid}/stat", "rb") as file:
        stat = file.read()
    # The name is in brackets and may hold anything. Behind it comes field 3; this is field 22.
    return int(stat[stat.rindex(b")") + 2 :].split()[22 - 3])


class Pidfd:
    """A process that cannot be mistaken for another one, also after its death."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def dead(self) -> bool:
        """Whether it has ended."""
        return self._poll(0)

    def wait(self) -> None:
        """Waits until it has ended."""
        self._poll(None)

    def _poll(self, timeout: Optional[float]) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout))

    def resume(self) -> None:
        """Has it go on if it is stopped. Nothing if it is gone, or another user's by now."""
        try:
            signal.pidfd_send_signal(self._fd, signal.SIGCONT)
        except (ProcessLookupError, PermissionError):
            pass

    def close(self) -> None:
        """Forgets it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
