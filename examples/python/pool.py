#!/usr/bin/env python3
"""A pool in which one task leaks: the agent kills its process, the others finish.

The agent decides how often the leak is tried again. At the end it raises, with the agent's report.
"""

from __future__ import annotations

import time

from monitor_client import OutOfMemoryError, ProcessPoolExecutor

MIB = 1 << 20


def work(number: int) -> int:
    """Holds 10 MiB for two seconds."""
    held = bytearray(b"x" * (10 * MIB))
    time.sleep(2)
    return number * len(held)


def leak() -> None:
    """Never returns: allocates 10 MiB, at most 200 MiB a second, and touches it."""
    held = []
    while True:
        held.append(b"x" * (10 * MIB))
        time.sleep(0.05)


def main() -> None:
    """Submits a leak among other tasks."""
    with ProcessPoolExecutor(4, oom_retries=1) as pool:
        leaking = pool.submit(leak)
        others = [pool.submit(work, number) for number in range(12)]
        print("the others:", [other.result() // MIB for other in others])
        try:
            leaking.result()
        except OutOfMemoryError as error:
            print(f"the leak was killed {error.kills} times: {error}")


if __name__ == "__main__":
    main()
