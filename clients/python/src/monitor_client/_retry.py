"""What becomes of a task whose process died: again, when, or not at all and why. Pure: it never waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

#: The longest wait before a retry, in seconds.
MAX_DELAY = 60.0


def delay(attempt: int, base: float) -> float:
    """The wait before a task that was killed for memory is run again: base x 2^attempt, at most 60 s."""
    # Doubled 64 times, any base but 0 that a clock can tell from 0 is over a minute.
    return float(min(base * 2 ** min(attempt, 64), MAX_DELAY))


@dataclass(frozen=True)
class Again:
    """Run it again, so many seconds from now."""

    after: float


@dataclass(frozen=True)
class Fail:
    """It failed, and why."""

    reason: str


@dataclass
class Retry:
    """One task through all its processes.

    Kills for memory and crashes have budgets of their own: ``oom_retries`` and ``crash_retries``, -1 for
    no limit.
    """

    oom_retries: int
    oom_retry_base: float
    crash_retries: int
    kills: int = 0
    crashes: int = 0
    #: Kills in a row while the pool ran nothing else.
    _alone: int = 0

    def killed(self, should_retry: bool, alone: bool) -> Union[Again, Fail]:
        """It was killed for memory. ``alone``: the pool ran no other task."""
        before, self.kills = self.kills, self.kills + 1
        self._alone = self._alone + 1 if alone else 0
        if self.oom_retries == 0:
            return Fail("the task was killed, and it may not be run again (oom_retries is 0)")
        if not should_retry:
            return Fail(
                "the task was killed as the last one of its owner: run again it would be killed again"
            )
        if 0 < self.oom_retries < self.kills:
            return Fail(f"the task was killed, and its oom_retries ({self.oom_retries}) are used up")
        if self._alone > 1:
            return Fail("the task was killed twice while the pool ran nothing else: it needs more memory")
        return Again(delay(before, self.oom_retry_base))

    def crashed(self) -> bool:
        """Its process died otherwise. True: run it again."""
        self.crashes += 1
        return self.crash_retries < 0 or self.crashes <= self.crash_retries
