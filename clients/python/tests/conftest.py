"""Fixtures: a fake agent, the real one, and what is to be gone after each test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from box import Agent, Box, obstacle, sweep, wait_for
from fake import Connection, FakeAgent

StartFake = Callable[[Callable[[Connection], None]], FakeAgent]
StartAgent = Callable[..., Agent]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[StartFake]:
    """Starts an agent that answers by a script."""
    agents: list[FakeAgent] = []

    def start(script: Callable[[Connection], None]) -> FakeAgent:
        agents.append(FakeAgent(str(tmp_path / "fake.sock"), script))
        return agents[-1]

    yield start
    for agent in agents:
        agent.close()


@pytest.fixture
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """A memory cgroup of 300 MiB."""
    why = obstacle()
    if why is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true does not accept that a test is left out: {why}")
        notes = os.environ.get("MONITOR_TEST_SKIPS")
        if notes:
            with open(notes, "a") as file:
                file.write(f"python {request.node.name}\t{why}\n")
        pytest.skip(why)
    sweep()
    box = Box(300)
    yield box
    box.close()


@pytest.fixture
def agent(box: Box, tmp_path: Path) -> Iterator[StartAgent]:
    """Starts the real agent, which guards the box."""
    agents: list[Agent] = []

    def start(*flags: str) -> Agent:
        agents.append(Agent(box, tmp_path, *flags))
        return agents[-1]

    yield start
    for one in agents:
        one.close()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Threads of this package end with the test."""
    before = set(threading.enumerate())
    yield

    def ended() -> bool:
        return not [one for one in threading.enumerate() if one not in before and "#" in one.name]

    wait_for("the places of the pool to end", ended)
