"""One of Ray's own tests, named on the command line: FILE and the test in it. Needs pytest, pytest-asyncio and numpy."""

import sys
import time

import pytest

import ray


class Fixtures:
    """What Ray's conftest has that this file needs."""

    @pytest.fixture
    def shutdown_only(self):
        yield None
        ray.shutdown()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self):
        # The raylet sums up its kills once a second.
        time.sleep(1.5)


if __name__ == "__main__":
    file, test = sys.argv[1:]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", f"{file}::{test}"]
    code = pytest.main(options, plugins=[Fixtures()])
    if code == 0:
        print(f"ok: {test}")
    sys.exit(int(code))
