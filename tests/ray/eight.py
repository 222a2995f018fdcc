"""Eight tasks leak at once: each fails with an out-of-memory error, one after the other."""

import ray
from common import leak, ran, runs, start

start(8)


@ray.remote(max_retries=0)
def leaks(number: int):
    ran(f"leaks-{number}")
    leak(0.05)


failed = 0
for task in [leaks.remote(number) for number in range(8)]:
    try:
        ray.get(task, timeout=200)
    except ray.exceptions.OutOfMemoryError:
        failed += 1
assert failed == 8, failed
assert all(runs(f"leaks-{number}") == 1 for number in range(8))
print("ok: eight OutOfMemoryErrors, each task ran once")
