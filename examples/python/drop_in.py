#!/usr/bin/env python3
"""What the death of one process costs: the whole pool in concurrent.futures, one task here.

Needs no agent: the process kills itself, as the kernel would when memory runs out.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from concurrent.futures import Executor, Future
from typing import Any

import monitor_client


def work(number: int) -> int:
    """Takes a moment."""
    time.sleep(0.5)
    return number


def die() -> None:
    """Ends like a process that is killed for memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(pool: Executor) -> None:
    """Prints what becomes of six tasks, one of which dies."""
    with pool:
        tasks: list[Future[Any]] = [pool.submit(work, 0), pool.submit(die)]
        tasks += [pool.submit(work, number) for number in range(1, 5)]
        for task in tasks:
            error = task.exception()
            print("   ", task.result() if error is None else type(error).__name__)


def main() -> None:
    """Both pools."""
    print("concurrent.futures:")
    run(concurrent.futures.ProcessPoolExecutor(2))
    print("monitor_client:")
    run(monitor_client.ProcessPoolExecutor(2))


if __name__ == "__main__":
    main()
