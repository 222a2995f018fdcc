#!/usr/bin/env python3
"""A custom launcher: starts commands as workers, and restarts those that the agent says.

own_workers.py COMMAND...    runs it three times side by side, as one owner
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from monitor_client import Client, MonitorError, NotFoundError, connect


def run(client: Client, name: str, command: list[str]) -> None:
    """Runs a command, again after kills for memory, with a wait that doubles."""
    wait = 1.0
    while True:
        process = subprocess.Popen(command)
        try:
            worker = client.register(process.pid, owner="own_workers.py", name=name, max_retries=-1)
        except NotFoundError:
            print(f"{name} ended at once with {process.wait()}")
            return
        status = process.wait()
        # The verdict was pushed, or the agent's list of kills has it.
        verdict = worker.find_kill() if status != 0 else None
        worker.forget()
        if verdict is None:
            print(f"{name} ended with {status}")
            return
        print(f"{name} was killed for memory: {verdict.why}")
        if not verdict.should_retry:
            print(client.report_text(verdict.kill, timeout=10) or "no report came")
            return
        time.sleep(wait)
        wait = min(2 * wait, 60.0)


def main() -> int:
    """Three threads, one client."""
    command = sys.argv[1:]
    if not command:
        print(__doc__)
        return 2
    try:
        with connect() as client:
            names = [f"own-{number}" for number in (1, 2, 3)]
            threads = [threading.Thread(target=run, args=(client, name, command)) for name in names]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    except MonitorError as error:
        print(error, file=sys.stderr)
        return 125
    return 0


if __name__ == "__main__":
    sys.exit(main())
