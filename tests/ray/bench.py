"""What `cargo xtask bench --only ray` measures. Usage: bench.py KIND MIB_PER_SECOND, where KIND is leak, child, eight, decoys
(one leak beside five tasks that hold memory) or tasks (the time that a task takes that does nothing). Prints what came of
those that were innocent, or how many tasks ran a second."""

import subprocess
import sys
import time

import ray
from common import MIB, ran, runs, start, take

kind, rate = sys.argv[1], float(sys.argv[2])
start(9)
GROWS = "import sys, time\nkept = []\nwhile True: kept.append(bytearray(b'x') * (4 << 20)); time.sleep(4 / float(sys.argv[1]))"


@ray.remote(max_retries=0)
def leaks(rate: float):
    kept = []
    while True:
        kept.append(bytearray(b"x") * (4 * MIB))
        time.sleep(4 / rate)


@ray.remote(max_retries=0)
def leaks_by_child(rate: float):
    subprocess.run([sys.executable, "-c", GROWS, str(rate)])
    time.sleep(600)


@ray.remote(max_retries=3)
def bystander(number: int, mib: int, seconds: float):
    ran(f"bystander-{number}")
    kept = take(mib)
    time.sleep(seconds)
    return len(kept)


@ray.remote
def nothing():
    return None


def tasks_a_second(number: int) -> float:
    ray.get([nothing.remote() for _ in range(500)])
    began = time.monotonic()
    ray.get([nothing.remote() for _ in range(number)])
    return number / (time.monotonic() - began)


if kind == "tasks":
    print("tasks", round(tasks_a_second(4000)))
    sys.exit()
others = 5 if kind == "decoys" else 1
mib = 100 if kind == "decoys" else 8
innocents = [bystander.remote(number, mib, 12) for number in range(others)]
time.sleep(3)
print("begins", flush=True)
task = leaks_by_child if kind == "child" else leaks
guilty = [task.remote(rate) for _ in range(8 if kind == "eight" else 1)]
failed = 0
for one in guilty:
    try:
        ray.get(one, timeout=150)
    except ray.exceptions.OutOfMemoryError:
        failed += 1
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.GetTimeoutError) as error:
        print("instead:", type(error).__name__)
print("failed", failed, flush=True)
lost = 0
for one in innocents:
    try:
        ray.get(one, timeout=100)
    except ray.exceptions.RayError:
        lost += 1
lost += sum(runs(f"bystander-{number}") - 1 for number in range(others))
print("innocents", lost, flush=True)
