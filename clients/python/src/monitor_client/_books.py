"""What a client has registered, so that it can do so again. Pure: no sockets, no threads, no clocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ._types import Kill, Kind, Verdict
from ._wire import Op

#: The waits between two tries to reach the agent, in seconds. A new agent kills nobody for half a
#: second, so that all workers are back before one of them is chosen: for a minute a client is not later.
_FIRST, _SOON, _LATE, _ON_ITS_WAY = 0.1, 0.25, 5.0, 60.0


@dataclass
class BackOff:
    """How long to wait before the next try."""

    last: float = 0.0
    waited: float = 0.0

    def next(self, busy: bool = False) -> float:
        """``busy``: an agent listens, and has no room or time."""
        longest = _SOON if self.waited < _ON_ITS_WAY and not busy else _LATE
        self.last = min(max(self.last * 2, _FIRST), longest)
        self.waited += self.last
        return self.last


@dataclass(frozen=True)
class Register:
    """What a launcher says of a worker. What is None is not sent."""

    pid: int
    start_time: int
    kind: Kind = "task"
    max_retries: Optional[int] = None
    max_restarts: Optional[int] = None
    owner: Optional[str] = None
    name: Optional[str] = None
    attempt: Optional[int] = None
    priority: Optional[int] = None
    memory: Optional[int] = None

    def op(self, idle: bool, worker: Optional[str]) -> Op:
        """The call. ``worker``: the number that an agent before this one gave it."""
        given: dict[str, Any] = {key: value for key, value in vars(self).items() if value is not None}
        if idle:
            given["idle"] = True
        if worker is not None:
            given["worker"] = worker
        return {"register": given}


@dataclass
class Entry:
    """A worker of this client's."""

    register: Register
    #: All numbers it ever had, the last one now: one for each agent that did not know it.
    ids: list[str]
    idle: bool
    verdict: Optional[Verdict] = None

    def again(self) -> Op:
        """The call that registers it with the next agent."""
        return self.register.op(self.idle, self.ids[-1])

    def kill_in(self, kills: list[Kill]) -> Optional[Verdict]:
        """The verdict on it in the agent's list: for one whose push was lost with the connection.

        Number and pid have to match: numbers begin anew with an agent that lost its books.
        """
        for kill in reversed(kills):
            for victim in kill.get("victims") or ():
                worker = victim.get("worker")
                if worker in self.ids and victim.get("pid") == self.register.pid:
                    return Verdict(
                        worker=str(worker),
                        kill=kill["id"],
                        should_retry=bool(victim.get("should_retry")),
                        why=victim.get("why") or "read from the list of kills",
                        domain=kill.get("domain") or "",
                        used=kill.get("used") or 0,
                        threshold=kill.get("threshold") or 0,
                        total=kill.get("total") or 0,
                        decided=(kill.get("times") or {}).get("decision") or 0,
                        reached=victim.get("peak"),
                    )
        return None


@dataclass
class Books:
    """All workers of a client's that may still live."""

    entries: list[Entry] = field(default_factory=list)
    #: From this number on the dead are looked for.
    _many: int = 64

    def enter(self, entry: Entry, lives: Callable[[Register], bool]) -> None:
        """Adds one. Drops those whose processes are gone, from time to time: nobody may have said so."""
        if len(self.entries) >= self._many:
            self.entries = [kept for kept in self.entries if lives(kept.register)]
            self._many = max(64, 2 * len(self.entries))
        self.entries = [*self.entries, entry]

    def find(self, worker: str) -> Optional[Entry]:
        """The worker that has, or had, this number. The newest, where an agent gave one twice."""
        return next((entry for entry in reversed(self.entries) if worker in entry.ids), None)

    def drop(self, entry: Entry) -> None:
        """It is gone, or is no worker any more."""
        self.entries = [kept for kept in self.entries if kept is not entry]
