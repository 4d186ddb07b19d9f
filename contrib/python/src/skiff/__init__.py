"""Client for skiff, file transfer for devices too small for FTP.

    import skiff

    with skiff.connect("localhost", 50000) as client:
        client.put("notes.txt")
        for entry in client.list():
            print(entry.name, entry.size)
        config = client.read_bytes("config.json")

It is written from docs/PROTOCOL.md and needs nothing but Python.
"""

from .checksum import crc32c
from .client import Client, Progress, connect
from .errors import (
    BadName,
    CannotConnect,
    ConnectionLost,
    DataConnectionFailed,
    KeyFileError,
    KeyRefused,
    NeedsExtended,
    NotFound,
    NotText,
    ProtocolError,
    Refused,
    SkiffError,
    TimedOut,
    VerificationFailed,
)
from .replies import Entry, Listing, Server, Space, Sum, Transfer
from .secure import Key
from .tree import SyncResult, pull, push

__version__ = "0.1.0"

__all__ = [
    "BadName",
    "CannotConnect",
    "Client",
    "ConnectionLost",
    "DataConnectionFailed",
    "Entry",
    "Key",
    "KeyFileError",
    "KeyRefused",
    "Listing",
    "NeedsExtended",
    "NotFound",
    "NotText",
    "Progress",
    "ProtocolError",
    "Refused",
    "Server",
    "SkiffError",
    "Space",
    "Sum",
    "SyncResult",
    "TimedOut",
    "Transfer",
    "VerificationFailed",
    "connect",
    "crc32c",
    "pull",
    "push",
]
