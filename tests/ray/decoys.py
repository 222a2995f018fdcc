"""One leak that may not be retried beside five tasks of 100 MiB that may: whoever is killed, the leak ends with an
out-of-memory error, and the others finish in the end."""

import time

import ray
from common import leak, ran, runs, start, take

start(6)


@ray.remote(max_retries=0)
def leaks():
    ran("leaks")
    leak(0.01)


@ray.remote(max_retries=3)
def bystander(number: int):
    ran(f"bystander-{number}")
    kept = take(100)
    time.sleep(10)
    return len(kept)


others = [bystander.remote(number) for number in range(5)]
time.sleep(4)
try:
    ray.get(leaks.remote(), timeout=60)
    raise SystemExit("it was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert runs("leaks") == 1
assert all(ray.get(others, timeout=100))
again = sum(runs(f"bystander-{number}") - 1 for number in range(5))
print("ok: the leak failed with OutOfMemoryError; bystanders ran once more:", again)
