"""Retries for memory that are bounded: with task_oom_retries=1 a task is killed twice and fails, whatever its max_retries."""

import time

import ray
from common import ran, runs, start, take

start(3, _system_config={"task_oom_retries": 1})


@ray.remote(max_retries=5)
def leaks():
    ran("leaks")
    take(4000)


@ray.remote
def older():
    time.sleep(20)
    return "slept"


first = older.remote()
time.sleep(2)
try:
    ray.get(leaks.remote(), timeout=100)
    raise SystemExit("it was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert runs("leaks") == 2, runs("leaks")
assert ray.get(first) == "slept"
print("ok: killed twice, then OutOfMemoryError")
