"""What a client gives for a process that it registered. The client does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ._books import Entry
from ._types import Verdict

if TYPE_CHECKING:
    from .client import Client


class Worker:
    """A process that this client made a worker. Get one by :meth:`Client.register`."""

    def __init__(self, client: Client, entry: Entry) -> None:
        self._client = client
        self._entry = entry

    @property
    def id(self) -> str:
        """Its number, as ``w17``. It keeps it when the agent is restarted, if that is free."""
        return self._entry.ids[-1]

    @property
    def pid(self) -> int:
        """The process."""
        return self._entry.register.pid

    @property
    def verdict(self) -> Optional[Verdict]:
        """What was pushed of its kill; None: nothing yet."""
        return self._entry.verdict

    def set_idle(self, idle: bool) -> None:
        """It waits for work from now on, or got some. What is set is told again to the next agent."""
        self._entry.idle = idle
        self._client._call({"set_idle": {"worker": self.id, "idle": idle}})

    def unregister(self) -> None:
        """It is no worker any more. Nobody is killed."""
        self.forget()
        self._client._call({"unregister": {"worker": self.id}})

    def forget(self) -> None:
        """Its process is gone: it is not registered again. The agent sees the end by itself."""
        self._client._forget(self._entry)

    def find_kill(self) -> Optional[Verdict]:
        """Whether the agent killed it: by its push, else by the agent's list of kills."""
        if self._entry.verdict is None:
            kill = self._entry.kill_in(self._client.kills())
            # The push may have come meanwhile: it says more.
            self._entry.verdict = self._entry.verdict or kill
        return self._entry.verdict

    def wait_verdict(self, timeout: float) -> Optional[Verdict]:
        """The verdict, once it is pushed; None: it was not in time."""
        return self._client._wait_verdict(self._entry, timeout)

    def __repr__(self) -> str:
        return f"<Worker {self.id} pid={self.pid}>"
