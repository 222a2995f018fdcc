"""A task that is killed for memory twice although its max_retries is 1, and finishes: such kills have a budget of their own."""

import time

import ray
from common import ran, runs, start, take

start(3)


@ray.remote(max_retries=1)
def grows_twice():
    ran("grows")
    if runs("grows") < 3:
        take(4000)
    time.sleep(1)
    return "finished"


@ray.remote
def older():
    time.sleep(30)
    return "slept"


first = older.remote()
time.sleep(2)
assert ray.get(grows_twice.remote(), timeout=100) == "finished"
assert runs("grows") == 3, runs("grows")
assert ray.get(first) == "slept"
print("ok: killed twice, max_retries=1, finished")
