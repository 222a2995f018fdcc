"""One connection to the agent: calls by any thread, and one reader. It ends once and does not come back."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import Any, Callable, Optional

from ._errors import (
    AccessDeniedError,
    CallTimeoutError,
    ConnectionLostError,
    MonitorError,
    NoAgentError,
    ProtocolError,
)
from ._types import Push
from ._wire import LineBuffer, Op, Reply, decode, encode

#: How long a crowd before the socket is waited for.
_CONNECT_PATIENCE = 10.0

_CHUNK = 1 << 16


class _Waiter:
    """A call whose reply has not come."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.reply: Optional[Reply] = None
        self.error: Optional[MonitorError] = None


class Link:
    """A connection. ``heard`` is called with each push, by the thread that reads."""

    def __init__(self, path: str, heard: Callable[[Push], None], timeout: float) -> None:
        self.path = path
        self._heard = heard
        self._timeout = timeout
        self._socket = _connect(path)
        # A peer that does not read must not hold a call for longer than its answer may take.
        self._socket.settimeout(timeout)
        self._buffer = LineBuffer()
        self._seq = 0
        self._waiting: dict[int, _Waiter] = {}
        self._state = threading.Lock()
        self._writing = threading.Lock()
        self._ended: Optional[MonitorError] = None

    def call(self, op: Op) -> Any:
        """Makes a call; somebody else reads. Raises what the agent refused, or how the connection ended."""
        waiter = _Waiter()
        line, seq = self._begin(op, waiter)
        try:
            self._write(line)
            if not waiter.done.wait(self._timeout):
                raise CallTimeoutError(f"{self.path}: the agent did not answer within {self._timeout:g} s")
        finally:
            with self._state:
                self._waiting.pop(seq, None)
        return _answer(waiter)

    def call_alone(self, op: Op) -> Any:
        """Makes a call and reads its answer. For the time in which nobody else reads."""
        waiter = _Waiter()
        line, _ = self._begin(op, waiter)
        deadline = time.monotonic() + self._timeout
        self._write(line)
        while not waiter.done.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                raise CallTimeoutError(f"{self.path}: the agent did not answer within {self._timeout:g} s")
            self._socket.settimeout(left)
            try:
                self._read_some()
            except MonitorError as error:
                self._end(error)
        self._socket.settimeout(self._timeout)
        return _answer(waiter)

    def read(self) -> MonitorError:
        """Reads until the connection ends; says how it did."""
        try:
            while True:
                self._read_some(patient=True)
        except MonitorError as error:
            return self._end(error)

    def hang_up(self, why: MonitorError) -> None:
        """Ends it: whoever reads or waits hears why."""
        self._end(why)

    def abandon(self) -> None:
        """In a forked child: the connection is the parent's. Closes this copy, says nothing to the agent."""
        os.close(self._socket.detach())

    def _begin(self, op: Op, waiter: _Waiter) -> tuple[bytes, int]:
        with self._state:
            if self._ended is not None:
                raise ConnectionLostError(str(self._ended))
            self._seq += 1
            seq = self._seq
            line = encode(seq, op)
            self._waiting[seq] = waiter
        return line, seq

    def _write(self, line: bytes) -> None:
        try:
            with self._writing:
                self._socket.sendall(line)
        except OSError as error:
            # Why the agent closed is told on the socket, if it is: the reader ends the connection.
            if not _hung_up(error):
                self._end(ConnectionLostError(f"{self.path}: {error}"))

    def _read_some(self, patient: bool = False) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except socket.timeout:
            if patient:
                return
            raise CallTimeoutError(f"{self.path}: the agent did not answer in time") from None
        except OSError as error:
            raise ConnectionLostError(f"{self.path}: {error}") from error
        if not data:
            raise ConnectionLostError(f"{self.path}: the agent closed the connection")
        for line in self._buffer.feed(data):
            said = decode(line)
            if isinstance(said, Reply):
                self._answered(said)
            elif said is not None:
                self._heard(said)

    def _answered(self, reply: Reply) -> None:
        if reply.seq == 0 and reply.error is not None:
            raise reply.error
        with self._state:
            waiter = self._waiting.pop(reply.seq, None)
        # A late reply, to a call that was given up, is nobody's.
        if waiter is not None:
            waiter.reply = reply
            waiter.done.set()

    def _end(self, error: MonitorError) -> MonitorError:
        with self._state:
            if self._ended is not None:
                return self._ended
            self._ended = error
            waiting, self._waiting = self._waiting, {}
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The other side was first.
        for waiter in waiting.values():
            waiter.error = error
            waiter.done.set()
        return error

    def close(self) -> None:
        """Gives the descriptor back. After the reader has ended."""
        self._socket.close()


def _answer(waiter: _Waiter) -> Any:
    if waiter.error is not None:
        raise waiter.error
    if waiter.reply is None:
        raise ProtocolError("a reply without an answer")
    if waiter.reply.error is not None:
        raise waiter.reply.error
    return waiter.reply.ok


def _hung_up(error: OSError) -> bool:
    return error.errno in (errno.EPIPE, errno.ECONNRESET)


def _connect(path: str) -> socket.socket:
    """Connects; waits while more connections wait than the socket lets wait."""
    deadline = time.monotonic() + _CONNECT_PATIENCE
    while True:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            peer.connect(path)
            return peer
        except BlockingIOError as error:
            peer.close()
            if time.monotonic() > deadline:
                raise ConnectionLostError(f"{path}: {error}") from error
            time.sleep(0.01)
        except (FileNotFoundError, ConnectionRefusedError):
            peer.close()
            raise NoAgentError(path) from None
        except PermissionError:
            peer.close()
            raise AccessDeniedError(path) from None
        except OSError as error:
            peer.close()
            raise ConnectionLostError(f"{path}: {error}") from error
