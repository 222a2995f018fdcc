"""Takes memory, slowly enough to be stopped."""

import time


def hold(mib):
    held = bytearray()
    for _ in range(mib):
        held += b"x" * (1 << 20)
        time.sleep(0.004)
    return len(held)
