"""What servers say, as values: PROTOCOL sections 4 and 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .errors import CannotConnect, ProtocolError, Refused
from .messages import Messages, number, optional_crc, optional_number, read_reply, tag, text_of
from .names import is_name


@dataclass(frozen=True)
class Entry:
    """A file or a directory on the server. `None` means unknown."""

    #: Relative to the root of the store, without a `/` at the end.
    name: str
    size: int
    #: Seconds since 1970-01-01 UTC.
    mtime: Optional[int]
    crc32c: Optional[int]
    is_directory: bool = False


class Listing(List[Entry]):
    """The entries of one directory, and how many more there are that no command can name."""

    omitted: int = 0


@dataclass(frozen=True)
class Server:
    """What the server says about itself (PROTOCOL section 4)."""

    extended: bool
    server: Optional[str] = None
    host: Optional[str] = None
    commands: Tuple[str, ...] = ()
    name_max: int = 255
    idle: Optional[int] = None
    nocrc: bool = False


@dataclass(frozen=True)
class Transfer:
    """A finished transfer."""

    name: str
    #: The local path; `None` for data in memory and streams.
    local: Optional[str]
    size: int
    #: Bytes that an interrupted transfer had already transferred.
    resumed: int
    seconds: float
    crc32c: int
    #: Of a download: checked against the server's checksum. Of an upload: the server confirmed that it is durable.
    verified: bool


@dataclass(frozen=True)
class Sum:
    """The checksum of a range of a file on the server."""

    length: int
    crc32c: int


@dataclass(frozen=True)
class Space:
    """Bytes of the store."""

    total: int
    free: int


def parse_hello(payload: bytes) -> Server:
    reply = text_of(payload)
    if reply == "-1":
        return Server(extended=False)
    if reply.startswith("error "):
        raise CannotConnect(f"the server refuses: {Refused(*_two(reply[6:]))}")
    if not reply.startswith("skiff/1 ") and reply != "skiff/1":
        raise ProtocolError("not a skiff server")
    keys: Dict[str, str] = {}
    for word in reply.split(" ")[1:]:
        key, _, value = word.partition("=")
        keys.setdefault(key, value)

    def count(key: str) -> Optional[int]:
        value = keys.get(key, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None

    return Server(
        extended=True,
        server=keys.get("server"),
        host=keys.get("host"),
        commands=tuple(verb for verb in keys.get("commands", "").split(",") if verb),
        name_max=count("name-max") or 255,
        idle=count("idle"),
        nocrc=keys.get("nocrc") == "1",
    )


def _two(text: str) -> Tuple[str, str]:
    code, _, rest = text.partition(" ")
    return code, rest


def read_opened(messages: Messages) -> Tuple[int, int, Optional[str]]:
    """LENGTH, SIZE and TAG of the reply to `read`."""
    words = read_reply(messages, 3)
    length, size = number(words[0]), number(words[1])
    if length > size:
        raise ProtocolError(f"the server announced {length} bytes of {size}")
    return length, size, tag(words[2])


def parse_entry(name: str, words: Sequence[str]) -> Entry:
    return Entry(name, number(words[0]), optional_number(words[1]), optional_crc(words[2]))


def parse_listing(text: str, directory: str, *, deep: bool = False) -> Listing:
    """The lines of a listing; `deep`, of a tree. A name that breaks a rule must never become a local file."""
    prefix = f"{directory}/" if directory else ""
    listing = Listing()
    if text and not text.endswith("\n"):
        raise ProtocolError("the server sent a listing that is cut off")
    for line in text.split("\n")[:-1]:
        words = line.split(" ", 3)
        if len(words) != 4:
            raise ProtocolError("the server sent a malformed listing")
        name = words[3]
        is_directory = name.endswith("/")
        name = name[:-1] if is_directory else name
        below = name[len(prefix) :]
        if not name.startswith(prefix) or not is_name(name) or not is_name(below) or ("/" in below and not deep):
            raise ProtocolError("the server sent a listing with a bad name")
        entry = parse_entry(name, words)
        listing.append(Entry(name, entry.size, entry.mtime, entry.crc32c, is_directory))
    listing.sort(key=lambda entry: entry.name)
    return listing
