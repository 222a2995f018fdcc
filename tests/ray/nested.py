"""A task starts two others; one leaks. It is the newest, so it dies, and the task that started it goes on."""

import time

import ray
from common import leak, ran, runs, start

start(4)


@ray.remote(max_retries=0)
def inner_leaks():
    ran("leaks")
    leak(0.01)


@ray.remote(max_retries=0)
def inner_sleeps():
    ran("sleeps")
    time.sleep(12)
    return "slept"


@ray.remote(max_retries=0)
def outer():
    ran("outer")
    sleeps = inner_sleeps.remote()
    time.sleep(2)
    try:
        ray.get(inner_leaks.remote())
    except ray.exceptions.OutOfMemoryError:
        return ray.get(sleeps)
    return "no error"


assert ray.get(outer.remote(), timeout=100) == "slept"
assert runs("leaks") == 1, runs("leaks")
print("ok: the inner task failed with OutOfMemoryError, the outer one went on; sleeps ran", runs("sleeps"))
