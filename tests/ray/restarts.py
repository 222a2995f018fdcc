"""An actor whose max_restarts is 1: killed for memory once it comes back, killed twice it is dead."""

import time

import ray
from common import ran, runs, start, take

start(3)


@ray.remote(max_restarts=1, max_task_retries=1)
class Actor:
    def __init__(self):
        ran("init")

    def grow(self, until: int):
        ran("grow")
        if runs("grow") < until:
            take(4000)
        return "grew"


actor = Actor.remote()
assert ray.get(actor.grow.remote(2), timeout=60) == "grew"
assert runs("init") == 2, runs("init")
try:
    ray.get(actor.grow.remote(100), timeout=60)
    raise SystemExit("the actor was not killed")
except (ray.exceptions.OutOfMemoryError, ray.exceptions.RayActorError) as error:
    print("then", type(error).__name__)
assert runs("init") == 2, runs("init")
time.sleep(1)
print("ok: restarted once, then dead")
