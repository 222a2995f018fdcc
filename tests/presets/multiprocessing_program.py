"""A pool of processes of which one takes all memory: the pool breaks, and the program makes another one."""

import concurrent.futures as futures
import multiprocessing
import sys

from hold import hold


def pool(workers):
    return futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


if __name__ == "__main__":
    first = pool(2)
    print("small:", first.submit(hold, 5).result(), flush=True)
    sys.stdin.readline()
    try:
        first.submit(hold, 400).result()
    except futures.process.BrokenProcessPool:
        print("the pool is broken", flush=True)
    print("again:", pool(1).submit(hold, 5).result(), flush=True)
