"""What the tests' pools run. A module of its own: a spawned process imports it."""

from __future__ import annotations

import os
import time
from pathlib import Path

MIB = 1 << 20


def enter(procs: str) -> None:
    """The process goes into the cgroup: what it allocates from now on is charged there."""
    Path(procs).write_text(str(os.getpid()))


def pid() -> int:
    return os.getpid()


def square(number: int) -> int:
    return number * number


def leak(mib: int = 1000) -> int:
    """Allocates 5 MiB every 10 ms, and touches it."""
    held = []
    for _ in range(mib // 5):
        held.append(bytearray(os.urandom(1) * (5 * MIB)))
        time.sleep(0.01)
    return len(held)


def leak_but(times: int, marks: str) -> str:
    """Leaks so many times, then returns the times at which it was run."""
    with open(marks, "a") as file:
        file.write(f"{time.monotonic()}\n")
    runs = Path(marks).read_text().splitlines()
    if len(runs) <= times:
        leak()
    return " ".join(runs)


def hold(mib: int, until: str) -> int:
    """Holds memory until a file is there."""
    held = bytearray(b"x" * (mib * MIB))
    while not os.path.exists(until):
        time.sleep(0.02)
    return len(held) // MIB


def big_result(mib: int) -> bytes:
    # The agent sees within a quarter of a second that this process moved into the box.
    time.sleep(1)
    return b"x" * (mib * MIB)


def fail(text: str) -> None:
    raise ValueError(text)


class AwkwardError(Exception):
    """Cannot be unpickled: its constructor wants more than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def fail_awkwardly() -> None:
    raise AwkwardError("a", "b")


def end(code: int) -> None:
    os._exit(code)


def end_once(code: int, marks: str) -> str:
    if not os.path.exists(marks):
        Path(marks).write_text("")
        os._exit(code)
    return "second"


def unpicklable() -> object:
    return lambda: None


def bad_start() -> None:
    raise RuntimeError("no database")
