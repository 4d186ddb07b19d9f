"""Classic transfers, PROTOCOL section 3: what a server can do that knows no extended commands."""

from __future__ import annotations

import codecs
import contextlib
from typing import BinaryIO, Callable, Iterator, List, Optional, Tuple

from .errors import ConnectionLost, DataConnectionFailed, NotText, ProtocolError, refused
from .local import pieces
from .messages import Messages
from .names import check_name
from .stream import Stream

#: Opens a data connection to a port of the server.
Connect = Callable[[int], Stream]
_LISTING_MAX = 1 << 24


def command(verb: str, name: str = "") -> bytes:
    """`verb name`, if a classic server can read it: ASCII, no white space."""
    if name:
        check_name(name)
        if not name.isascii() or name.split() != [name]:
            raise refused("bad-name")
    return f"{verb} {name}".strip().encode()


def port(messages: Messages, verb: str) -> int:
    """Receives the reply to `get` or `put`: the port to connect to."""
    reply = messages.receive(65_536)
    if reply == b"-1":
        raise refused("not-found" if verb == "get" else "refused")
    if not reply.isdigit() or len(reply) > 5 or not 1 <= int(reply) <= 65_535:
        raise ProtocolError(f"the server sent {reply[:40]!r} instead of a port")
    return int(reply)


def names(messages: Messages) -> List[str]:
    """Receives the reply to `ls`, whose length counts characters."""
    length = messages.begin()
    if length > _LISTING_MAX:
        raise ProtocolError(f"the server sent a listing of {length} characters")
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = ""
    while len(text) < length:
        # A character is at least one byte, so this never reads into the next message.
        try:
            text += decoder.decode(messages.take(length - len(text)))
        except UnicodeDecodeError:
            raise ProtocolError("the server sent a listing that is not UTF-8") from None
    return [name for name in text.split("\n") if name]


class Characters:
    """Counts the bytes and, as long as they are UTF-8 text, the characters of what passes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.bytes = 0
        self._characters: Optional[int] = 0

    def count(self, data: bytes, final: bool = False) -> None:
        """Counts."""
        self.bytes += len(data)
        if self._characters is not None:
            try:
                self._characters += len(self._decoder.decode(data, final))
            except UnicodeDecodeError:
                self._characters = None

    def finish(self) -> Optional[int]:
        """The number of characters; `None` if the data is not UTF-8 text."""
        self.count(b"", final=True)
        return self._characters


def download(stream: Stream) -> Iterator[bytes]:
    """A file from a data connection, to the end of the stream."""
    messages = Messages(stream)
    try:
        length = messages.begin()
        counted = Characters()
        while True:
            data = stream.some(1 << 18)
            if not data:
                break
            counted.count(data)
            if counted.bytes > 4 * length:
                break
            yield data
    except ConnectionLost as error:
        raise DataConnectionFailed(f"the transfer failed: {error}") from error
    if length not in (counted.bytes, counted.finish()):
        raise DataConnectionFailed(f"{counted.bytes} bytes arrived instead of {length}")


def announce(file: BinaryIO, force: bool) -> Tuple[int, int]:
    """How many bytes a file has, and the length to announce for it: its characters.

    Raises:
        NotText: the file is not UTF-8 text. With `force`, the length in bytes is announced.
    """
    counted = Characters()
    for piece in pieces(file):
        counted.count(piece)
    characters = counted.finish()
    if characters is None and not force:
        raise NotText
    return counted.bytes, counted.bytes if characters is None else characters


def upload(stream: Stream, file: BinaryIO, size: int, length: int) -> Iterator[int]:
    """Sends a file on a data connection, and waits until the server has closed; yields what is sent."""
    head = b"%010d" % length
    sent = 0
    try:
        for piece in pieces(file, size):
            stream.send(head + piece)
            head = b""
            sent += len(piece)
            yield sent
        if sent < size:
            raise DataConnectionFailed("the local file became shorter during the transfer")
        stream.send(head)
        stream.shut_down()
        if stream.some(1):
            raise ProtocolError("the server sent data during an upload")
    except ConnectionLost as error:
        raise DataConnectionFailed(f"the server did not take the file: {error}") from error


@contextlib.contextmanager
def data_connection(connect: Connect, number: int) -> Iterator[Stream]:
    """A data connection, closed in the end."""
    try:
        stream = connect(number)
    except ConnectionLost as error:
        raise DataConnectionFailed(str(error)) from error
    with contextlib.closing(stream):
        yield stream
