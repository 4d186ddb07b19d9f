"""The control connection: connects, runs commands, reconnects."""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Iterator, List, Optional, TypeVar

from .errors import CannotConnect, ConnectionLost, NeedsExtended, Refused, SkiffError, VerificationFailed
from .messages import Messages, read_reply
from .names import check_name
from .replies import Server, parse_hello
from .secure import Key, protect
from .stream import NO_SESSION, Stream

T = TypeVar("T")

#: Seconds between attempts to reconnect.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Session:
    """One server and the connection to it."""

    def __init__(
        self, host: str, port: int, timeout: float, connect_timeout: float, retries: int, key: Optional[Key] = None
    ) -> None:
        self._host, self._port, self._key = host, port, key
        self._timeout, self._connect_timeout, self._retries = timeout, connect_timeout, retries
        self._messages: Optional[Messages] = None
        self._server = Server(extended=False)

    @property
    def server(self) -> Server:
        """What the server said when the connection began."""
        return self._server

    @property
    def keyid(self) -> Optional[str]:
        """The KEYID that protects the connection."""
        return self._key.keyid if self._key else None

    @property
    def address(self) -> str:
        """The IP address of the server."""
        return self._messages.stream.peer if self._messages else ""

    def close(self) -> None:
        """Closes the connection (`quit`). The next command reconnects."""
        if self._messages is not None:
            with contextlib.suppress(SkiffError):
                self._messages.send(b"quit")
        self._drop()

    def reconnect(self) -> None:
        """Makes a new connection and asks for the hello."""
        self._drop()
        stream = self._open(self._port)
        try:
            if self._key is None:
                messages = Messages(stream)
                messages.send(b"get /skiff/1")
                self._server = parse_hello(messages.receive(65_536))
            else:
                hello, messages = protect(stream, self._key)
                self._server = parse_hello(hello)
        except BaseException as error:
            stream.close()
            if isinstance(error, ConnectionLost) and not isinstance(error, CannotConnect):
                raise CannotConnect(f"{self._host} port {self._port}: {error}; {NO_SESSION}") from error
            raise
        self._messages = messages

    def _open(self, port: int) -> Stream:
        return Stream.connect(self._host, port, self._connect_timeout, self._timeout)

    def _drop(self) -> None:
        if self._messages is not None:
            self._messages.stream.close()
            self._messages = None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Messages]:
        """The connection for one command. It is dropped if an error occurs in the middle of a message or body."""
        if self._messages is not None and self._messages.stream.arrived():
            # The server closed an idle connection (or sent what nobody asked for).
            self._drop()
        if self._messages is None:
            self.reconnect()
        messages = self._messages
        assert messages is not None
        try:
            yield messages
        except Refused as error:
            if error.code in ("bad-length", "timeout"):
                self._drop()
            raise
        except (VerificationFailed, NeedsExtended):
            raise
        except BaseException:
            self._drop()
            raise

    def _command(self, text: str, words: int) -> List[str]:
        """One command without a body."""
        with self._connection() as messages:
            self._need_extended(text)
            messages.send(text.encode())
            return read_reply(messages, words)

    def _need_extended(self, command: str) -> None:
        if not self._server.extended:
            raise NeedsExtended(command.partition(" ")[0])

    def _name(self, name: str) -> str:
        return check_name(name, self._server.name_max)

    def _persist(self, attempt: Callable[[bool], T], resume: bool) -> T:
        """Calls `attempt(resume)` until it does not lose its connection."""
        failures = 0
        while True:
            try:
                return attempt(resume or failures > 0)
            except (ConnectionLost, Refused) as error:
                # `busy`: the server takes a dead connection of ours for another writer; it gives it up after 5 s.
                dead = error.code == "busy" and (resume or failures > 0)
                if not (dead or isinstance(error, ConnectionLost)) or failures >= self._retries:
                    raise
            time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1
