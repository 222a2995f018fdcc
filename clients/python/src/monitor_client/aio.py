"""The client for asyncio: the same calls to be awaited, and pushes as asynchronous iterators.

The threads are those of :class:`Client`, so it comes back to a lost agent in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar

from ._types import Explanation, Kill, Kind, Push, Status, Verdict, Why, WorkerRow
from ._worker import Worker
from .client import TIMEOUT, Client

T = TypeVar("T")


async def _away(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, partial(call, *args, **kwargs))


class AsyncWorker:
    """A process that this client made a worker. See :class:`Worker`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    @property
    def id(self) -> str:
        """Its number, as ``w17``."""
        return self._worker.id

    @property
    def pid(self) -> int:
        """The process."""
        return self._worker.pid

    @property
    def verdict(self) -> Optional[Verdict]:
        """What was pushed of its kill; None: nothing yet."""
        return self._worker.verdict

    async def set_idle(self, idle: bool) -> None:
        """See :meth:`Worker.set_idle`."""
        await _away(self._worker.set_idle, idle)

    async def unregister(self) -> None:
        """See :meth:`Worker.unregister`."""
        await _away(self._worker.unregister)

    async def find_kill(self) -> Optional[Verdict]:
        """See :meth:`Worker.find_kill`."""
        return await _away(self._worker.find_kill)

    def forget(self) -> None:
        """See :meth:`Worker.forget`."""
        self._worker.forget()


class AsyncClient:
    """A client for asyncio. ``async with AsyncClient() as client: ...`` connects and closes it."""

    def __init__(self, path: Optional[str] = None, *, timeout: float = TIMEOUT) -> None:
        self._client = Client(path, timeout=timeout)

    @property
    def path(self) -> str:
        """The agent's socket."""
        return self._client.path

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client.connected

    async def connect(self) -> None:
        """Connects, if it is not connected."""
        await _away(self._client.connect)

    async def close(self) -> None:
        """Ends the connection. Workers stay workers until their processes end."""
        self._client.close()

    async def __aenter__(self) -> AsyncClient:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    async def register(
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
    ) -> AsyncWorker:
        """See :meth:`Client.register`."""
        worker = await _away(
            self._client.register,
            pid,
            kind=kind,
            max_retries=max_retries,
            max_restarts=max_restarts,
            owner=owner,
            name=name,
            attempt=attempt,
            idle=idle,
            priority=priority,
            memory=memory,
            started=started,
            admitted=admitted,
        )
        return AsyncWorker(worker)

    async def status(self) -> Status:
        """See :meth:`Client.status`."""
        return await _away(self._client.status)

    async def workers(self) -> list[WorkerRow]:
        """See :meth:`Client.workers`."""
        return await _away(self._client.workers)

    async def explain(self, domain: Optional[str] = None) -> Explanation:
        """See :meth:`Client.explain`."""
        return await _away(self._client.explain, domain)

    async def kills(self) -> list[Kill]:
        """See :meth:`Client.kills`."""
        return await _away(self._client.kills)

    async def report(self, kill: int) -> dict[str, Any]:
        """See :meth:`Client.report`."""
        return await _away(self._client.report, kill)

    async def metrics(self) -> str:
        """See :meth:`Client.metrics`."""
        return await _away(self._client.metrics)

    async def why(
        self, pid: Optional[int] = None, *, worker: Optional[str] = None, kill: Optional[int] = None
    ) -> Why:
        """See :meth:`Client.why`."""
        return await _away(self._client.why, pid, worker=worker, kill=kill)

    async def watch(self) -> None:
        """See :meth:`Client.watch`."""
        await _away(self._client.watch)

    def pushes(self) -> AsyncIterator[Push]:
        """Each push from this call on. Ends when the client is closed."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:
                pass  # The loop is closed: nobody reads any more.

        mailbox = self._client._mailbox(wake)

        async def each() -> AsyncIterator[Push]:
            try:
                while not mailbox.over:
                    push = mailbox.get(0)
                    if push is not None:
                        yield push
                        continue
                    await arrived.wait()
                    arrived.clear()
            finally:
                self._client._drop(mailbox)

        return each()

    def verdicts(self) -> AsyncIterator[Verdict]:
        """As :meth:`pushes`, of verdicts only."""
        pushes = self.pushes()

        async def each() -> AsyncIterator[Verdict]:
            async for push in pushes:
                if isinstance(push, Verdict):
                    yield push

        return each()
