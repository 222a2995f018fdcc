"""Leave to start a worker: asked for, waited for, and asked for again where the agent was gone meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

from ._errors import ConnectionLostError, NoAgentError
from ._link import Link
from ._mailbox import Mailbox
from ._types import Admission, Admitted, Kind
from ._wire import Op

#: How often it is checked whether the connection is still the one that was asked.
_LOOK = 1.0

#: How long an agent that is gone is looked for.
_GONE = 60.0


@dataclass(frozen=True)
class Admit:
    """What is said of a worker that is to be started. What is None is not sent."""

    kind: Kind = "task"
    owner: Optional[str] = None
    name: Optional[str] = None
    attempt: Optional[int] = None
    memory: Optional[int] = None
    reached: Optional[int] = None
    after_kill: Optional[bool] = None
    within_ms: Optional[int] = None
    since: Optional[int] = None
    admission: Optional[Admission] = None

    def op(self, pid: int, since: Optional[int]) -> Op:
        """The call."""
        given: dict[str, Any] = {key: value for key, value in vars(self).items() if value is not None}
        if since is not None:
            given["since"] = since
        return {"admit": {"pid": pid, **given}}


def wait_for_leave(
    admit: Admit,
    reach: Callable[[], Link],
    current: Callable[[], Optional[Link]],
    mailbox: Mailbox,
    timeout: Optional[float],
) -> Optional[str]:
    """The number of the start, once it may begin; None: not within ``timeout`` seconds.

    ``reach`` is a connection, a new one if need be; ``current`` is the one that there is now, if any. The
    start waits as long as the very connection lasts that it was asked for on.
    """
    end = None if timeout is None else time.monotonic() + timeout
    since, gone = admit.since, 0.0
    while True:
        try:
            link = reach()
            answer = link.call(admit.op(os.getpid(), since))
        except (NoAgentError, ConnectionLostError):
            # One that waited keeps its place: the agent comes back, as a rule.
            if since is None or gone > _GONE or (end is not None and time.monotonic() >= end):
                raise
            gone += _LOOK
            time.sleep(_LOOK)
            continue
        gone = 0.0
        worker, since = str(answer["worker"]), int(answer["since"])
        if answer["admitted"]:
            return worker
        while current() is link:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                reach().call({"unregister": {"worker": worker}})
                return None
            push = mailbox.get(_LOOK if left is None else min(_LOOK, left))
            if isinstance(push, Admitted) and push.worker == worker:
                return worker
            if push is None and mailbox.over:
                raise ConnectionLostError("the client was closed while a start waited")
