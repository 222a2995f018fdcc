"""Objects in the store, slightly below the threshold: nobody is killed, and each of them can be read."""

import time

import ray
from common import MIB, start

start(2, store=1200)


@ray.remote(max_retries=0)
def adds(ref):
    time.sleep(0.5)
    return len(ref)


refs = [ray.put(bytes(100 * MIB)) for _ in range(10)]
time.sleep(3)
assert sum(ray.get([adds.remote(ref) for ref in refs], timeout=60)) == 1000 * MIB
print("ok: 1000 MiB in the store, nobody was killed")
