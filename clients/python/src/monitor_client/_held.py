"""Which processes the agent's brake holds, so that none stays paused if agent and watchdog die at once."""

from __future__ import annotations

from ._system import Pidfd
from ._types import Held


class HeldProcesses:
    """Continues them when the connection is lost, and does nothing else."""

    def __init__(self) -> None:
        self._held: dict[int, Pidfd] = {}

    def note(self, push: Held) -> None:
        """The agent says that a process is held, or is no more."""
        self._forget(push.pid)
        if push.held:
            try:
                # Opened while it is held: what it names later is this process.
                self._held[push.pid] = Pidfd(push.pid)
            except OSError:
                pass  # One that is gone needs nobody.

    def let_go(self) -> None:
        """The agent is gone. To be called again a while later: its hooks may outlive its sockets."""
        for process in self._held.values():
            process.resume()

    def clear(self) -> None:
        """It is another agent's business who is held now."""
        for pid in list(self._held):
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        process = self._held.pop(pid, None)
        if process is not None:
            process.close()
