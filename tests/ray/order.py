"""An older task that may be retried and a newer one that may not: the older one dies, as the last one of its owner that may be
retried, and the newer one finishes."""

import time

import ray
from common import ran, runs, start, take

start(3)


@ray.remote(max_retries=-1)
def older():
    ran("older")
    kept = take(700)
    time.sleep(60)
    return len(kept)


@ray.remote(max_retries=0)
def newer():
    ran("newer")
    kept = take(1100)
    time.sleep(3)
    return len(kept)


first = older.remote()
time.sleep(4)
assert ray.get(newer.remote(), timeout=60)
try:
    ray.get(first, timeout=60)
    raise SystemExit("the older one was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert (runs("older"), runs("newer")) == (1, 1), (runs("older"), runs("newer"))
print("ok: the older one, which may be retried, was killed; the newer one finished")
