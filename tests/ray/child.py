"""A child process holds the memory: the task that started it dies with it, and a small bystander lives."""

import subprocess
import sys
import time

import ray
from common import ran, runs, start

start(3)


@ray.remote(max_retries=0)
def bystander():
    ran("bystander")
    time.sleep(25)
    return "lives"


@ray.remote(max_retries=0)
def parent():
    ran("parent")
    code = "import time\nkept = []\nwhile True: kept.append(bytearray(b'x') * (8 << 20)); time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", code])
    time.sleep(60)


older = bystander.remote()
time.sleep(2)
try:
    ray.get(parent.remote(), timeout=60)
    raise SystemExit("the parent was not killed")
except ray.exceptions.OutOfMemoryError:
    pass
assert ray.get(older, timeout=60) == "lives"
assert (runs("parent"), runs("bystander")) == (1, 1)
print("ok: the parent died with its child, the bystander lives")
