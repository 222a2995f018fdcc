"""What the tests on the real kernel need: a memory cgroup of their own, and the real agent to guard it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

T = TypeVar("T")

TOP = Path(__file__).resolve().parents[3]
CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20

#: A loaded machine is slow, and a hung test must end.
PATIENCE = 60.0


def wait_for(what: str, look: Callable[[], T], patience: float = PATIENCE) -> T:
    """What ``look`` returns, as soon as that is something."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s for {what}")
        time.sleep(0.02)
    return found


def binary() -> Path:
    """The agent: ``MONITOR_BINARY``, or what cargo built last."""
    named = os.environ.get("MONITOR_BINARY")
    if named:
        return Path(named)
    return Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target") / "debug" / "monitor"


def obstacle() -> Optional[str]:
    """Why the tests on the real kernel cannot run here; None: they can."""
    if os.geteuid() != 0:
        return "they need root"
    if not binary().exists():
        return f"{binary()} is not built"
    if not v1() and "memory" not in _read(CGROUPS / "cgroup.controllers"):
        return "there is no memory controller"
    return None


def v1() -> bool:
    return (CGROUPS / "memory" / "memory.limit_in_bytes").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def sweep() -> None:
    """Removes what tests left over that were killed: names of our own form whose maker is dead."""
    for folder in (CGROUPS / "memory" if v1() else CGROUPS).glob("monitor-test-*-*"):
        maker = folder.name.split("-")[2]
        if maker.isdigit() and not os.path.exists(f"/proc/{maker}"):
            Box.at(folder).close()


class Box:
    """A memory cgroup with a limit and without swap. Closed, it kills whoever is in it and is removed."""

    _next = 0

    @classmethod
    def at(cls, folder: Path) -> Box:
        """One that is there already."""
        box = cls.__new__(cls)
        box.path, box.dir = f"/{folder.name}", folder
        return box

    def __init__(self, mib: int) -> None:
        Box._next += 1
        self.path = f"/monitor-test-{os.getpid()}-{Box._next}"
        self.dir = Path(f"{CGROUPS}/memory{self.path}" if v1() else f"{CGROUPS}{self.path}")
        self.dir.mkdir()
        limit = str(mib * MIB)
        if v1():
            (self.dir / "memory.swappiness").write_text("0")
            (self.dir / "memory.limit_in_bytes").write_text(limit)
        else:
            if (self.dir / "memory.swap.max").exists():
                (self.dir / "memory.swap.max").write_text("0")
            (self.dir / "memory.max").write_text(limit)

    @property
    def procs(self) -> str:
        return str(self.dir / "cgroup.procs")

    def members(self) -> list[int]:
        return [int(pid) for pid in _read(self.dir / "cgroup.procs").split()]

    def oom_kills(self) -> int:
        """How often the kernel killed here."""
        events = _read(self.dir / ("memory.oom_control" if v1() else "memory.events"))
        rows = dict(line.split() for line in events.splitlines())
        return int(rows["oom_kill"])

    def kill(self) -> None:
        """Ends whoever is in it."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        def empty() -> bool:
            self.kill()
            try:
                self.dir.rmdir()
            except FileNotFoundError:
                return True
            except OSError:
                return False
            return True

        wait_for(f"{self.dir} to be empty", empty)


class Agent:
    """The real agent, which guards a box. Closed, it is killed."""

    def __init__(self, box: Box, folder: Path, *flags: str) -> None:
        self.socket = str(folder / "agent.sock")
        self._command = [str(binary()), "agent", "--cgroup", box.path, "--socket", self.socket]
        self._command += ["--journal", str(folder / "journal"), *flags]
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("MONITOR_", "RAY_"))
        }
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr, ready), daemon=True)
        self._reader.start()
        wait_for("the agent to listen", lambda: ready.is_set() or self.process.poll() is not None)
        assert self.process.poll() is None, "\n".join(self.said)

    def _read(self, stderr: Any, ready: threading.Event) -> None:
        with stderr:
            for line in stderr:
                self.said.append(line.decode(errors="replace").rstrip())
                if b"listening on" in line:
                    ready.set()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
