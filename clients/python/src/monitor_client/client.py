"""The client: calls, workers, pushes, and the way back to an agent that was gone.

Threads: one reads each connection and, when it is lost, looks for the agent; one runs callbacks, so that
a callback may call. Any thread may use a client.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, cast

from ._admission import Admit, wait_for_leave
from ._books import BackOff, Books, Entry, Register
from ._errors import (
    AgentFailedError,
    BusyError,
    ClientClosedError,
    DuplicateError,
    MonitorError,
    NotFoundError,
    PeerTimeoutError,
    RefusedError,
)
from ._held import HeldProcesses
from ._link import Link
from ._mailbox import Mailbox
from ._system import default_socket, start_time
from ._types import (
    Admission,
    Explanation,
    Held,
    Kill,
    KillReport,
    Kind,
    Push,
    Status,
    Verdict,
    Why,
    WorkerRow,
)
from ._wire import Op
from ._worker import Worker

log = logging.getLogger("monitor_client")

#: How long a call may take, in seconds. Longer than the agent gives itself, so that its answer is seen.
TIMEOUT = 15.0

#: How long an agent's kernel programs may outlive its sockets.
_LAST_STOP = 5.0

#: How long an agent may take to see that the connection before this one is closed.
_STILL_THERE = 2.0

#: How many texts of reports, and verdicts on workers that are not known yet, are kept.
_KEPT = 256

T = TypeVar("T", bound=Push)
K = TypeVar("K")
V = TypeVar("V")


class Client:
    """A client of the agent that listens at ``path`` (default: where the ``monitor`` command looks).

    It connects at the first call, and again whenever the agent was gone; :func:`connect` connects at
    once. While it has workers or watches, it looks for a lost agent by itself and registers its workers
    anew, under their numbers.
    """

    def __init__(self, path: Optional[str] = None, *, timeout: float = TIMEOUT) -> None:
        self.path = default_socket() if path is None else os.fspath(path)
        self._timeout = timeout
        self._init_state()
        _CLIENTS.add(self)

    def _init_state(self) -> None:
        self._changed = threading.Condition()
        self._connecting = threading.Lock()
        self._link: Optional[Link] = None
        self._closed: Optional[str] = None
        self._books = Books()
        self._watches = False
        self._held = HeldProcesses()
        self._reports: dict[int, str] = {}
        self._unclaimed: dict[str, Verdict] = {}
        self._callbacks: list[tuple[type[Any], Callable[[Any], object]]] = []
        self._mailboxes: list[Mailbox] = []
        self._caller: Optional[Mailbox] = None

    # Workers

    def register(
        self,
        pid: Optional[int] = None,
        *,
        kind: Kind = "task",
        max_retries: Optional[int] = None,
        max_restarts: Optional[int] = None,
        owner: Optional[str] = None,
        name: Optional[str] = None,
        attempt: Optional[int] = None,
        idle: bool = False,
        priority: Optional[int] = None,
        memory: Optional[int] = None,
        started: Optional[int] = None,
        admitted: Optional[str] = None,
    ) -> Worker:
        """Makes a process, with all its descendants, a worker. ``pid`` None: this process.

        ``started`` is its start time (:func:`start_time`), read here if it is not given. ``priority``
        and ``memory`` need an agent that knows them; they are sent only if they are given.
        ``admitted`` is what :meth:`admit` returned for it.
        """
        pid = os.getpid() if pid is None else pid
        try:
            started = start_time(pid) if started is None else started
        except FileNotFoundError:
            message = f"there is no process {pid}"
            raise NotFoundError("not_found", "op.register.pid", message) from None
        register = Register(
            pid, started, kind, max_retries, max_restarts, owner, name, attempt, priority, memory
        )
        entry = Entry(register, [], idle)
        link = self._reach()
        self._enter(entry, link.call(register.op(idle, admitted)))
        self._keep_up(entry, link)
        return Worker(self, entry)

    def _enter(self, entry: Entry, answer: Any) -> None:
        with self._changed:
            entry.ids.append(str(answer["worker"]))
            # A verdict may have come before this thread got its answer.
            entry.verdict = self._unclaimed.pop(entry.ids[-1], None)
            self._books.enter(entry, lambda register: _lives(register.pid, register.start_time))

    def _keep_up(self, entry: Entry, link: Link) -> None:
        """The connection may have been lost between the answer and the entry in the books."""
        if self._link is link:
            return
        try:
            again = self._call(entry.again())
        except DuplicateError:
            pass  # It was in the books already when the client came back.
        except MonitorError:
            self._forget(entry)
            raise
        else:
            self._renumber(entry, str(again["worker"]))

    def _renumber(self, entry: Entry, worker: str) -> None:
        if worker != entry.ids[-1]:
            entry.ids.append(worker)

    def _forget(self, entry: Entry) -> None:
        with self._changed:
            self._books.drop(entry)

    def _wait_verdict(self, entry: Entry, timeout: float) -> Optional[Verdict]:
        with self._changed:
            self._changed.wait_for(lambda: entry.verdict is not None or self._closed is not None, timeout)
            return entry.verdict

    # Starts

    def admit(
        self,
        *,
        kind: Kind = "task",
        owner: Optional[str] = None,
        name: Optional[str] = None,
        attempt: Optional[int] = None,
        memory: Optional[int] = None,
        reached: Optional[int] = None,
        after_kill: bool = False,
        within_ms: Optional[int] = None,
        since: Optional[int] = None,
        admission: Optional[Admission] = None,
        timeout: Optional[float] = None,
    ) -> Optional[str]:
        """Waits until there is room for a worker that is to be started, in the cgroup of this process.

        Returns its number, for ``register(admitted=...)`` within 10 s; None: there was no room for
        ``timeout`` seconds. After a kill for memory say ``after_kill=True`` and ``reached`` of its
        verdict: then it waits a minute at most. Needs an agent that knows it.
        """
        what = Admit(
            kind, owner, name, attempt, memory, reached, after_kill or None, within_ms, since, admission
        )
        mailbox = self._mailbox()
        try:
            return wait_for_leave(what, self._reach, lambda: self._link, mailbox, timeout)
        finally:
            self._drop(mailbox)

    # Questions

    def status(self) -> Status:
        """The agent, its hooks and its domains."""
        return cast(Status, self._call("status"))

    def workers(self) -> list[WorkerRow]:
        """The registered workers."""
        return cast("list[WorkerRow]", self._call("workers"))

    def explain(self, domain: Optional[str] = None) -> Explanation:
        """The order in which workers would be killed now. ``domain``: ``node`` or ``cgroup:PATH``;
        None: the one closest to its threshold."""
        return cast(Explanation, self._call({"explain": {} if domain is None else {"domain": domain}}))

    def kills(self) -> list[Kill]:
        """Past kills, newest last."""
        return cast("list[Kill]", self._call("kills"))

    def report(self, kill: int) -> dict[str, Any]:
        """The report of one kill, as facts. Refused as not found until it is complete."""
        return cast("dict[str, Any]", self._call({"report": {"kill": kill}}))

    def metrics(self) -> str:
        """The agent's numbers as OpenMetrics text."""
        return cast(str, self._call("metrics"))

    def why(
        self, pid: Optional[int] = None, *, worker: Optional[str] = None, kill: Optional[int] = None
    ) -> Why:
        """What killed a process, also a dead one. Give one of the three. Needs an agent that knows it."""
        about = {"pid": pid, "worker": worker, "kill": kill}
        given = {key: value for key, value in about.items() if value is not None}
        if len(given) != 1:
            raise TypeError("why() takes one of pid, worker and kill")
        return cast(Why, self._call({"why": given}))

    # Pushes

    def watch(self) -> None:
        """Has everything that happens pushed to this client, as :class:`Note`; also by the next agent."""
        self._call("watch")
        self._watches = True

    def on(self, kind: type[T], callback: Callable[[T], object]) -> None:
        """Calls ``callback`` with each push of this kind, in a thread of the client's."""
        with self._changed:
            self._callbacks.append((kind, callback))
            if self._caller is None:
                self._caller = Mailbox()
                thread = threading.Thread(
                    target=_run_callbacks, args=(self._caller, self._callbacks), daemon=True
                )
                thread.name = "monitor-client callbacks"
                thread.start()

    def on_verdict(self, callback: Callable[[Verdict], object]) -> None:
        """Calls ``callback`` with each verdict about a worker of this client's."""
        self.on(Verdict, callback)

    def on_report(self, callback: Callable[[KillReport], object]) -> None:
        """Calls ``callback`` with the report of each such kill."""
        self.on(KillReport, callback)

    def pushes(self, timeout: Optional[float] = None) -> Iterator[Push]:
        """Each push from now on. Ends when the client is closed, or none comes for ``timeout`` seconds."""
        mailbox = self._mailbox()

        def each() -> Iterator[Push]:
            try:
                while (push := mailbox.get(timeout)) is not None:
                    yield push
            finally:
                self._drop(mailbox)

        return each()

    def verdicts(self, timeout: Optional[float] = None) -> Iterator[Verdict]:
        """As :meth:`pushes`, of verdicts only."""
        return (push for push in self.pushes(timeout) if isinstance(push, Verdict))

    def report_text(self, kill: int, timeout: float) -> Optional[str]:
        """The text of the report of a kill of a worker of this client's; None: it did not come in time."""
        with self._changed:
            self._changed.wait_for(lambda: kill in self._reports or self._closed is not None, timeout)
            return self._reports.get(kill)

    def _mailbox(self, wake: Optional[Callable[[], None]] = None) -> Mailbox:
        mailbox = Mailbox(wake)
        with self._changed:
            if self._closed is not None:
                mailbox.close()
            self._mailboxes.append(mailbox)
        return mailbox

    def _drop(self, mailbox: Mailbox) -> None:
        with self._changed:
            self._mailboxes = [kept for kept in self._mailboxes if kept is not mailbox]

    def _heard(self, push: Push) -> None:
        with self._changed:
            if isinstance(push, Verdict):
                entry = self._books.find(push.worker)
                if entry is not None:
                    entry.verdict = push
                else:
                    _bounded(self._unclaimed, push.worker, push)
            elif isinstance(push, KillReport):
                _bounded(self._reports, push.kill, push.text)
            elif isinstance(push, Held):
                self._held.note(push)
            self._changed.notify_all()
            boxes = [*self._mailboxes, *([self._caller] if self._caller is not None else [])]
        for box in boxes:
            box.put(push)

    # The connection

    def connect(self) -> None:
        """Connects, if it is not connected."""
        self._reach()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._link is not None

    def close(self) -> None:
        """Ends the connection. Workers stay workers until their processes end."""
        with self._changed:
            if self._closed is None:
                self._closed = "the client is closed"
            link, self._link = self._link, None
            boxes = [*self._mailboxes, *([self._caller] if self._caller is not None else [])]
            self._changed.notify_all()
        if link is not None:
            link.hang_up(ClientClosedError("the client is closed"))
        for box in boxes:
            box.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _call(self, op: Op) -> Any:
        return self._reach().call(op)

    def _reach(self) -> Link:
        """The connection; makes it if there is none, and registers what has to be."""
        link = self._link
        if link is not None:
            return link
        with self._connecting:
            if self._closed is not None:
                raise ClientClosedError(self._closed)
            if self._link is not None:
                return self._link
            link = Link(self.path, self._heard, self._timeout)
            try:
                self._come_back(link)
            except MonitorError as error:
                link.hang_up(error)
                link.close()
                raise
            with self._changed:
                if self._closed is not None:
                    link.hang_up(ClientClosedError(self._closed))
                else:
                    self._link = link
                self._changed.notify_all()
            thread = threading.Thread(target=self._keep, args=(link,), daemon=True)
            thread.name = "monitor-client"
            thread.start()
            return link

    def _come_back(self, link: Link) -> None:
        """Tells a new connection what the last one knew."""
        self._held.clear()
        self._unclaimed.clear()
        if self._watches:
            link.call_alone("watch")
        for entry in list(self._books.entries):
            try:
                worker = str(_register_again(link, entry)["worker"])
            except DuplicateError:
                log.warning(
                    "%s is another connection's: its verdicts come only by the list of kills",
                    entry.ids[-1],
                )
            except (BusyError, PeerTimeoutError, AgentFailedError):
                raise
            except NotFoundError:
                self._forget(entry)  # Its end is news enough.
            except RefusedError as refused:
                log.warning("%s is not guarded any more: %s", entry.ids[-1], refused.message)
                self._forget(entry)
            else:
                self._renumber(entry, worker)

    def _keep(self, link: Link) -> None:
        """Reads a connection; after its end looks for the agent, as long as somebody needs it."""
        error = link.read()
        link.close()
        with self._changed:
            if self._link is link:
                self._link = None
            self._changed.notify_all()
        if self._closed is not None:
            return
        self._held.let_go()
        if not self._needed():
            log.debug("the connection ended: %s", error)
            return
        log.warning("the agent is gone, and is looked for: %s", error)
        self._look_for_agent()

    def _needed(self) -> bool:
        return self._watches or bool(self._books.entries)

    def _look_for_agent(self) -> None:
        back_off = BackOff()
        busy = False
        while self._needed():
            wait = back_off.next(busy)
            with self._changed:
                self._changed.wait_for(lambda: self._closed is not None or self._link is not None, wait)
                if self._closed is not None or self._link is not None:
                    return
            if back_off.waited < _LAST_STOP:
                self._held.let_go()
            try:
                self._reach()
            except ClientClosedError:
                return
            except RefusedError:
                busy = True
            except MonitorError:
                busy = False
            else:
                log.info("the agent is back")
                return

    def _after_fork(self) -> None:
        link = self._link
        self._init_state()
        self._closed = "the client belongs to the process that forked this one: make another"
        if link is not None:
            link.abandon()


def connect(path: Optional[str] = None, *, timeout: float = TIMEOUT) -> Client:
    """A client that is connected.

    Raises :class:`NoAgentError`, :class:`AccessDeniedError` or :class:`ConnectionLostError`.
    """
    client = Client(path, timeout=timeout)
    try:
        client.connect()
    except MonitorError:
        client.close()
        raise
    return client


def _register_again(link: Link, entry: Entry) -> Any:
    """The agent may not have seen yet that the connection before this one is closed."""
    deadline = time.monotonic() + _STILL_THERE
    while True:
        try:
            return link.call_alone(entry.again())
        except DuplicateError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _bounded(kept: dict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        del kept[next(iter(kept))]


def _lives(pid: int, started: int) -> bool:
    try:
        return start_time(pid) == started
    except (OSError, ValueError):
        return False


def _run_callbacks(mailbox: Mailbox, callbacks: list[tuple[type[Any], Callable[[Any], object]]]) -> None:
    while not mailbox.over:
        push = mailbox.get()
        for kind, callback in list(callbacks):
            if isinstance(push, kind):
                try:
                    callback(push)
                except Exception:
                    log.exception("a callback failed")


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _forked() -> None:
    for client in list(_CLIENTS):
        client._after_fork()


os.register_at_fork(after_in_child=_forked)
