"""Six tests of which the second one takes all memory."""

import time

import pytest


@pytest.mark.parametrize("number", range(6))
def test_number(number):
    held = bytearray()
    # The second one leaks, after the agent has seen its worker, and so that near the threshold it is measured: every
    # second.
    if number == 1:
        time.sleep(2.5)
    for _ in range(400 if number == 1 else 2):
        held += b"x" * (1 << 20)
        time.sleep(0.05)
