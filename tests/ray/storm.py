"""Two tasks leak at a time, again and again, until the file `enough` is there: meanwhile agents are killed and started. Then,
without an agent, one more leak fails with an out-of-memory error: Ray's own monitor works."""

import os
import time

import ray
from common import COUNTS, leak, ran, runs, start

start(3)


@ray.remote(max_retries=0)
def leaks():
    ran("leaks")
    leak(0.03)


def there(name: str) -> bool:
    return os.path.exists(os.path.join(COUNTS, name))


ended = {}
running = [leaks.remote() for _ in range(2)]
print("begins", flush=True)
while not there("enough"):
    done, running = ray.wait(running, timeout=1)
    for task in done:
        try:
            ray.get(task)
        except ray.exceptions.RayError as error:
            ended[type(error).__name__] = ended.get(type(error).__name__, 0) + 1
        running.append(leaks.remote())
for task in running:
    ray.cancel(task, force=True)
while not there("alone"):
    time.sleep(0.1)
before = runs("leaks")
try:
    ray.get(leaks.remote(), timeout=60)
    raise SystemExit("it was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert runs("leaks") == before + 1
# While there is no agent a leak may be faster than Ray's monitor: then the kernel kills.
assert set(ended) <= {"OutOfMemoryError", "WorkerCrashedError"}, ended
assert ended.get("OutOfMemoryError", 0) >= 2, ended
print("ok: leaks failed with OutOfMemoryError while agents came and went, and without an agent:", ended)
