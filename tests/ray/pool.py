"""Idle workers beside a leak: the one that leaks dies, and the idle ones run the next tasks."""

import os
import time

import ray
from common import leak, ran, runs, start

start(4)


@ray.remote
def pid():
    # As long as it takes to start four.
    time.sleep(6)
    return os.getpid()


@ray.remote(max_retries=0)
def leaks():
    ran("leaks")
    leak(0.02)


before = set(ray.get([pid.remote() for _ in range(4)]))
try:
    ray.get(leaks.remote(), timeout=60)
    raise SystemExit("it was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
after = set(ray.get([pid.remote() for _ in range(4)]))
assert runs("leaks") == 1
assert len(before) == 4 and len(before & after) == 3, (before, after)
print("ok: the leak died, the three idle workers live")
