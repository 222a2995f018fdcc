"""Dask as people start it: a scheduler, a nanny with two workers, a client. A task takes all memory the first time it
runs; its worker dies, the nanny starts another one, and Dask runs the task again."""

import os
import subprocess
import sys

from dask.distributed import Client, wait
from hold import hold

HERE = os.getcwd()


def grow():
    """Counts its runs in a file; only the second one is modest."""
    with open(os.path.join(HERE, "runs"), "a") as file:
        file.write("x")
    runs = os.path.getsize(os.path.join(HERE, "runs"))
    hold(2000 if runs == 1 else 5)
    return runs


def small(number):
    return number * number


def start(name, *args):
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{name}", *args])


if __name__ == "__main__":
    scheduler_file = os.path.join(HERE, "scheduler.json")
    common = ["--scheduler-file", scheduler_file, "--no-dashboard"]
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", *common)
    # Dask's own limit of memory is off: it would act before anybody else.
    nanny = start("worker", "--nworkers", "2", "--nthreads", "1", "--memory-limit", "0", *common)
    client = Client(scheduler_file=scheduler_file)
    client.wait_for_workers(2)
    before = set(client.run(os.getpid).values())
    print("small:", client.gather(client.map(small, range(4))), flush=True)
    sys.stdin.readline()
    future = client.submit(grow, pure=False)
    others = client.map(small, range(100, 104))
    wait(future)
    print("it finished in run", future.result(), flush=True)
    print("others:", client.gather(others), flush=True)
    client.wait_for_workers(2)
    after = set(client.run(os.getpid).values())
    print("workers replaced:", len(after - before), flush=True)
    print("nanny and scheduler live:", nanny.poll() is None and scheduler.poll() is None, flush=True)
    client.close()
    for process in (nanny, scheduler):
        process.terminate()
        process.wait()
