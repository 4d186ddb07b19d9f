"""Messages, replies and bodies: PROTOCOL sections 1, 5, 6 and 7.

`Messages` is the only code that knows how messages are cut out of the stream. On a protected connection (section 8),
`secure.Sealed` takes its place: the same methods, whose payloads are plaintext.
"""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

from .checksum import crc32c
from .errors import ProtocolError, SkiffError, VerificationFailed, printable, refused
from .stream import Stream

#: The longest reply to an extended command that is read, except for the body of a listing.
REPLY_MAX = 65_536
TRAILER_MAX = 512
_LENGTH_MAX = 9_999_999_999
_U64_MAX = (1 << 64) - 1


class Messages:
    """The messages of one connection."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def send(self, *payloads: bytes) -> None:
        """Sends messages, all in one write."""
        pieces: List[bytes] = []
        for payload in payloads:
            pieces += (b"%010d" % len(payload), payload)
        self.stream.send(b"".join(pieces))

    def begin(self) -> int:
        """Begins to receive a message: the length of its payload, which `take` then gives."""
        digits = self.stream.exactly(10)
        if not digits.isdigit():
            raise ProtocolError(f"the server sent {digits!r} instead of a length")
        return int(digits)

    def take(self, limit: int) -> bytes:
        """The next 1 to `limit` bytes of the payload; `limit` is not more than what is left of it."""
        data = self.stream.some(limit)
        if not data:
            return self.stream.exactly(limit)  # raises: the stream has ended
        return data

    def receive(self, limit: int, what: str = "reply") -> bytes:
        """A whole message of at most `limit` bytes."""
        length = self.begin()
        if length > limit:
            raise ProtocolError(f"the server sent a {what} of {length} bytes")
        return self.stream.exactly(length)


def number(word: str) -> int:
    """A number on the wire: digits alone, 64 bits."""
    if word.isascii() and word.isdigit():
        digits = word.lstrip("0")
        if len(digits) <= 20 and int(digits or "0") <= _U64_MAX:
            return int(digits or "0")
    raise ProtocolError(f"the server sent {printable(word[:40])!r} instead of a number")


def optional_number(word: str) -> Optional[int]:
    """A number or `-`."""
    return None if word == "-" else number(word)


def optional_crc(word: str) -> Optional[int]:
    """A checksum or `-`."""
    if word == "-":
        return None
    if len(word) != 8 or word.strip("0123456789abcdef"):
        raise ProtocolError(f"the server sent {printable(word)!r} instead of a checksum")
    return int(word, 16)


def tag(word: str) -> Optional[str]:
    """A tag or `-`."""
    if word == "-":
        return None
    if not 1 <= len(word) <= 32 or word.strip("0123456789abcdefghijklmnopqrstuvwxyz"):
        raise ProtocolError(f"the server sent {printable(word)!r} instead of a tag")
    return word


def text_of(payload: bytes) -> str:
    """A reply or a trailer as text."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError("the server sent a reply that is not UTF-8") from None


def failure(line: str) -> SkiffError:
    """The exception for `CODE TEXT`, of an `error` or an `abort`. Either may come without TEXT."""
    code, _, said = line.partition(" ")
    if not code:
        return ProtocolError("the server sent an error without a code")
    return refused(code, said[:200])


def read_reply(messages: Messages, words: int) -> List[str]:
    """Receives `ok` with at least `words` words, and returns all of them.

    Raises:
        Refused: the server answers `error`.
    """
    reply = text_of(messages.receive(REPLY_MAX))
    verdict, _, rest = reply.partition(" ")
    if verdict == "error":
        raise failure(rest)
    found = rest.split(" ") if rest else []
    if verdict != "ok" or len(found) < words:
        raise ProtocolError(f"the server sent an unexpected reply: {printable(reply[:80])!r}")
    return found


class Body:
    """A body that is received. Iterate over it for its bytes; then `crc` and `verified` hold.

    Raises (while iterating):
        Refused: the server aborted the transfer (`abort`).
        ProtocolError: it sent more than `length` bytes, or a malformed trailer.
        VerificationFailed: the checksum or the length is not what was announced.
    """

    def __init__(self, messages: Messages, length: Optional[int], limit: int) -> None:
        self._messages = messages
        self._length = length
        self._limit = limit if length is None else length
        self.total = 0
        self.crc = 0
        #: Whether the server sent a checksum, and it is right.
        self.verified = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            left = self._messages.begin()
            if left == 0:
                break
            if self.total + left > self._limit:
                raise ProtocolError(f"the server sent a body of more than {self._limit} bytes")
            while left:
                piece = self._messages.take(left)
                left -= len(piece)
                self.total += len(piece)
                self.crc = crc32c(piece, self.crc)
                yield piece
        self._check(text_of(self._messages.receive(TRAILER_MAX, "trailer")))

    def _check(self, trailer: str) -> None:
        kind, _, rest = trailer.partition(" ")
        if kind == "abort":
            raise failure(rest)
        if kind != "crc32c":
            raise ProtocolError(f"the server sent an unexpected trailer: {printable(trailer[:80])!r}")
        crc = optional_crc(rest)
        if self._length is not None and self.total != self._length:
            raise VerificationFailed(f"{self.total} bytes arrived instead of {self._length}")
        if crc is not None and crc != self.crc:
            raise VerificationFailed(f"checksum {self.crc:08x} instead of {crc:08x}")
        self.verified = crc is not None


class Upload:
    """A body that is sent: of a `write` of bytes `offset` to `size`, `crc` being that of the first `offset` bytes."""

    def __init__(self, messages: Messages, command: bytes, crc: int) -> None:
        self._messages = messages
        self._head: Tuple[bytes, ...] = (command,)
        self.crc = crc

    def send(self, data: bytes) -> bool:
        """Sends a data message; false if the server has answered already, that is, refused."""
        if data:
            self.crc = crc32c(data, self.crc)
            self._messages.send(*self._head, data)
            self._head = ()
        return not self._messages.stream.arrived()

    def finish(self) -> None:
        """Sends the end and the trailer with the checksum."""
        self._messages.send(*self._head, b"", b"crc32c %08x" % self.crc)

    def abort(self, code: str, text: str) -> None:
        """Aborts: the server keeps the old file and drops the staged bytes."""
        self._messages.send(*self._head, b"", f"abort {code} {text}".encode())
