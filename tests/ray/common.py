"""What the programs share: starting Ray, counting how often something ran, taking memory."""

import os
import tempfile
import time

import ray

MIB = 1 << 20
# Ray's workers inherit it.
if "RAY_TEST_COUNTS" not in os.environ:
    os.environ["RAY_TEST_COUNTS"] = tempfile.mkdtemp(prefix="counts-")
COUNTS = os.environ["RAY_TEST_COUNTS"]


def start(cpus: int, store: int = 100, **more) -> None:
    """With so many MiB for objects."""
    ray.init(
        num_cpus=cpus, include_dashboard=False, log_to_driver=False, object_store_memory=store * MIB, **more
    )
    # The agent looks for raylets once a second.
    time.sleep(4)


def ran(what: str) -> None:
    """Notes in a file that it ran once more."""
    with open(os.path.join(COUNTS, what), "a") as file:
        file.write("x")


def runs(what: str) -> int:
    path = os.path.join(COUNTS, what)
    return os.path.getsize(path) if os.path.exists(path) else 0


def take(mib: int, chunk: int = 8) -> list:
    """Takes memory and touches all of it."""
    kept = []
    for _ in range(0, mib, chunk):
        kept.append(bytearray(b"x") * (chunk * MIB))
    return kept


def leak(pause: float = 0.0) -> None:
    kept = []
    while True:
        kept.append(bytearray(b"x") * (8 * MIB))
        time.sleep(pause)
