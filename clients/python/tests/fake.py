"""An agent of a test's own: it answers by a script, so that it can answer badly."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any, Callable, Optional


class Connection:
    """One connection, as the fake agent has it."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self._lines = peer.makefile("rb")

    def read(self) -> Optional[dict[str, Any]]:
        """The next call; None: the client hung up."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def send(self, value: Any) -> None:
        self.raw(json.dumps(value).encode() + b"\n")

    def ok(self, call: dict[str, Any], answer: Any = None) -> None:
        self.send({"seq": call["seq"], "ok": answer})

    def raw(self, data: bytes) -> None:
        self.peer.sendall(data)

    def close(self) -> None:
        self._lines.close()
        self.peer.close()


class FakeAgent:
    """Serves ``script`` to each connection, one after the other."""

    def __init__(self, path: str, script: Callable[[Connection], None]) -> None:
        self.path = path
        self.connections = 0
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection = Connection(peer)
            try:
                self._script(connection)
            except (BrokenPipeError, ConnectionResetError):
                pass
            except BaseException as error:
                self.errors.append(error)
            connection.close()

    def close(self) -> None:
        # Wakes the thread that accepts, which closing does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        os.unlink(self.path)
        assert self.errors == []
