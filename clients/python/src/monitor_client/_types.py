"""The shapes of answers and pushes. No sockets, no behavior.

Answers are plain dictionaries: the keys that this version knows are typed, others are kept. Sizes are
in bytes, times in nanoseconds of the kernel's monotonic clock, and what is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional, TypedDict, Union

Kind = Literal["task", "actor"]

#: Which starts wait for room.
Admission = Literal["off", "retries", "all"]


class _WorkerRow(TypedDict):
    id: str
    kind: str
    owner: Optional[str]
    name: Optional[str]
    pid: int
    processes: list[int]
    uid: int
    attempt: int
    state: str
    retriable: bool
    started: int
    memory: Optional[int]
    domains: list[str]


class WorkerRow(_WorkerRow, total=False):
    """A row of ``workers``. ``state``: waiting, running, idle, being_killed, stuck or refused."""

    ever_leased: bool
    sample: Optional[dict[str, Any]]
    priority: int
    rule: Optional[str]
    memory_declared: Optional[int]
    memory_learned: Optional[int]
    memory_peak: Optional[int]
    growth: Optional[int]
    growth_minute: Optional[int]
    waits_for: Optional[dict[str, Any]]


class Chosen(TypedDict):
    """A victim in an explanation."""

    id: str
    should_retry: bool


class Ranked(TypedDict):
    """A candidate and its place; rank 1 goes first."""

    id: str
    rank: int
    kind: str
    owner: Optional[str]
    memory: Optional[int]
    should_retry: bool
    why: str


class PassedOver(TypedDict):
    """A worker that is no candidate, and why not."""

    id: str
    why: str


class _Explanation(TypedDict):
    domain: str
    policy: str
    total: Optional[int]
    used: Optional[int]
    threshold: Optional[int]
    above: bool
    victims: list[Chosen]
    reason: Optional[str]
    ranking: list[Ranked]
    passed_over: list[PassedOver]


class Explanation(_Explanation, total=False):
    """The answer to ``explain``: the order in which workers would be killed now."""

    in_flight: list[str]


class KillVictim(TypedDict, total=False):
    """A victim in ``kills``."""

    worker: str
    pid: int
    uid: Optional[int]
    name: Optional[str]
    owner: Optional[str]
    kind: str
    should_retry: bool
    why: str
    memory: Optional[int]
    peak: Optional[int]


class KillTimes(TypedDict, total=False):
    """When a kill came to its stages."""

    crossing: Optional[int]
    decision: Optional[int]
    signal: Optional[int]
    dead: Optional[int]
    memory_back: Optional[int]


class _Kill(TypedDict):
    id: int
    domain: str
    victims: list[KillVictim]
    used: int
    threshold: int
    times: KillTimes
    confirmed: bool


class Kill(_Kill, total=False):
    """A row of ``kills``."""

    total: int
    policy: str
    dry_run: bool
    used_after: Optional[int]
    at: str
    by: str


class _Status(TypedDict):
    version: str
    pid: int
    now: int
    uptime_ms: int
    policy: str
    refresh_ms: int
    kills: bool
    dry_run: bool
    protects: bool
    domains: list[dict[str, Any]]
    workers: int


class Status(_Status, total=False):
    """The answer to ``status``: the keys that scripts need most."""

    probes: list[dict[str, Any]]
    processes: dict[str, Any]
    kills_in_flight: int
    counters: dict[str, Any]
    faults: dict[str, Any]
    journal: Optional[dict[str, Any]]
    brake: dict[str, Any]
    watchdog: bool
    http: Optional[dict[str, Any]]


class Why(TypedDict, total=False):
    """The answer to ``why``: what killed a process, as far as is known."""

    pid: int
    killed_by: Optional[str]
    kill: Optional[int]
    at: Optional[str]
    reason: str
    advice: list[str]


@dataclass(frozen=True)
class Verdict:
    """A worker that this client registered is being killed for memory."""

    worker: str
    kill: int
    should_retry: bool
    why: str
    domain: str
    used: int
    threshold: int
    total: int
    decided: int
    #: The most that it held at once, as far as it was measured: another attempt needs at least that.
    reached: Optional[int] = None


@dataclass(frozen=True)
class Admitted:
    """A start that this client waits for may begin."""

    worker: str


@dataclass(frozen=True)
class KillReport:
    """The report of a kill of such a worker. It comes when the kill is over."""

    kill: int
    text: str


@dataclass(frozen=True)
class Held:
    """The brake paused a process of such a worker, or lets it go on."""

    worker: str
    pid: int
    held: bool


@dataclass(frozen=True)
class Note:
    """After ``watch``: something happened."""

    note: Mapping[str, Any]


@dataclass(frozen=True)
class Lost:
    """After ``watch``: this connection read too slowly and lost notes."""

    notes: int


Push = Union[Verdict, KillReport, Held, Admitted, Note, Lost]
