"""One task that leaks, retried without end: as the last task of its owner it fails with an out-of-memory error."""

import ray


@ray.remote(max_retries=-1)
def leaks():
    chunks = []
    while True:
        chunks.append([0] * (8 * 100 * 1024 * 1024))


try:
    ray.get(leaks.remote())
except ray.exceptions.OutOfMemoryError:
    print("ok: the task failed with OutOfMemoryError")
