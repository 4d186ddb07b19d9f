"""A TCP connection with a timeout on every operation, which also reads while it writes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time

from .errors import CannotConnect, ConnectionLost, TimedOut

NO_SESSION = "no skiff server, or one without a free session"

#: How much is read ahead while a send is stuck; a server has no reason to send more.
_AHEAD = 1 << 20
_CHUNK = 1 << 18


class Stream:
    """Bytes in both directions. Without progress for `timeout` seconds, every call raises `TimedOut`."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._events = selectors.EVENT_READ
        self._input = bytearray()
        self._ended = False

    @classmethod
    def connect(cls, host: str, port: int, connect_timeout: float, timeout: float) -> Stream:
        """Connects to the first address of `host` that answers."""
        try:
            sock = socket.create_connection((host, port), connect_timeout)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            if isinstance(error, ConnectionResetError):
                # A server without a free session may reset the connection this early.
                why += f"; {NO_SESSION}"
            raise CannotConnect(f"can't connect to {host} port {port}: {why}") from error
        return cls(sock, timeout)

    @property
    def peer(self) -> str:
        """The address of the server."""
        try:
            return str(self._sock.getpeername()[0])
        except OSError:
            return ""

    def close(self) -> None:
        """Closes the connection; may be called twice."""
        self._selector.close()
        self._sock.close()

    def reset(self) -> None:
        """Makes `close` reset the connection."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def shut_down(self) -> None:
        """Ends the stream to the server."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from error

    def send(self, data: bytes) -> None:
        """Sends everything; buffers what arrives in the meantime."""
        view = memoryview(data)
        deadline = time.monotonic() + self._timeout
        while view:
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                # The server may have said why before it closed.
                self._fill_quietly()
                raise ConnectionLost(f"connection lost: {error.strerror}") from error
            if sent:
                view = view[sent:]
                deadline = time.monotonic() + self._timeout
                continue
            read = not self._ended and len(self._input) < _AHEAD
            wanted = selectors.EVENT_WRITE | (selectors.EVENT_READ if read else 0)
            if self._wait(wanted, deadline) & selectors.EVENT_READ and self._fill():
                deadline = time.monotonic() + self._timeout

    def arrived(self) -> bool:
        """True if something can be read at once, the end of the stream included."""
        if not self._input and not self._ended:
            self._fill_quietly()
        return bool(self._input) or self._ended

    def has_ended(self) -> bool:
        """True if the server has closed and everything was read."""
        return self.arrived() and not self._input

    def some(self, limit: int) -> bytes:
        """1 to `limit` bytes; none at the end of the stream."""
        if not self._input and not self._ended:
            data = self._receive(min(limit, _CHUNK))
            if data or self._ended:
                return data
        data = bytes(self._input[:limit])
        del self._input[:limit]
        return data

    def exactly(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        while len(self._input) < count:
            if self._ended:
                raise ConnectionLost("the server closed the connection")
            self._input += self._receive(_CHUNK)
        data = bytes(self._input[:count])
        del self._input[:count]
        return data

    def _receive(self, limit: int) -> bytes:
        """Waits for input; nothing means that the stream has ended."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                data = self._sock.recv(limit)
            except (BlockingIOError, InterruptedError):
                self._wait(selectors.EVENT_READ, deadline)
                continue
            except OSError as error:
                raise ConnectionLost(f"connection lost: {error.strerror}") from error
            self._ended = not data
            return data

    def _fill(self) -> bool:
        """Takes what has arrived; true if that is anything."""
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from error
        self._input += data
        self._ended = not data
        return True

    def _fill_quietly(self) -> None:
        try:
            self._fill()
        except ConnectionLost:
            self._ended = True

    def _wait(self, events: int, deadline: float) -> int:
        left = deadline - time.monotonic()
        if left > 0:
            if events != self._events:
                self._selector.modify(self._sock, events)
                self._events = events
            ready = self._selector.select(left)
            if ready:
                return ready[0][1]
        if time.monotonic() >= deadline:
            raise TimedOut(f"no progress for {self._timeout:g} s")
        return 0
