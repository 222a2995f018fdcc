"""An older task that may be retried and a newer one that may not: the older one dies, is retried, and both finish."""

import time

import ray
from common import ran, runs, start, take

start(3)


@ray.remote(max_retries=-1)
def older():
    ran("older")
    # The second time there is room.
    kept = take(700 if runs("older") == 1 else 10)
    time.sleep(25 if runs("older") == 1 else 1)
    return len(kept) > 0


@ray.remote(max_retries=0)
def newer():
    ran("newer")
    kept = take(1100)
    time.sleep(6)
    return len(kept) > 0


first = older.remote()
time.sleep(4)
assert ray.get(newer.remote(), timeout=60)
assert ray.get(first, timeout=60)
assert (runs("older"), runs("newer")) == (2, 1), (runs("older"), runs("newer"))
print("ok: the older one, which may be retried, was killed; the newer one finished")
