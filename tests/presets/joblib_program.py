"""A pool of loky's processes of which one takes all memory: the pool breaks, and the program makes another one."""

import sys

from hold import hold
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

if __name__ == "__main__":
    print("small:", Parallel(n_jobs=2)(delayed(hold)(5) for _ in range(2)), flush=True)
    sys.stdin.readline()
    try:
        Parallel(n_jobs=2)(delayed(hold)(mib) for mib in (400, 5))
    except TerminatedWorkerError:
        print("a worker was terminated", flush=True)
    print("again:", Parallel(n_jobs=2)(delayed(hold)(5) for _ in range(2)), flush=True)
