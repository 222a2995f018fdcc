"""Two actors that hold 30% each where the threshold is 40%: the retriable one dies, the other one finishes."""

from math import ceil

import ray
from ray._private.utils import get_system_memory, get_used_memory

ray.init(address="auto")


@ray.remote
class Hog:
    def __init__(self):
        self.kept = []

    def allocate(self, size: float) -> None:
        self.kept.append([0] * ceil(size / 8))


size = int(get_system_memory() * 0.3) - get_used_memory()
assert size > 0, "more is used already"
first = Hog.options(max_restarts=1, max_task_retries=1).remote()
second = Hog.options(max_restarts=0, max_task_retries=0).remote()
one, other = first.allocate.remote(size), second.allocate.remote(size)
try:
    ray.get(one)
    raise SystemExit("the retriable actor was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
ray.get(other)
print("ok: the retriable actor failed, the other one finished")
