"""Local files: partial downloads, and the step that puts a whole one in place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from typing import BinaryIO, Iterator, Optional

from .checksum import crc32c
from .errors import BadName

_PIECE = 1 << 18


def numbered(name: str, number: int) -> str:
    """`a.txt` becomes `a(1).txt`: the number precedes the last dot; leading dots do not count."""
    stem = name.lstrip(".")
    dots = name[: len(name) - len(stem)]
    head, dot, tail = stem.rpartition(".")
    return f"{dots}{head}({number}).{tail}" if dot else f"{name}({number})"


def pieces(file: BinaryIO, length: Optional[int] = None) -> Iterator[bytes]:
    """What comes next in a file, `length` bytes at most."""
    while length is None or length > 0:
        data = file.read(_PIECE if length is None else min(_PIECE, length))
        if not data:
            return
        if length is not None:
            length -= len(data)
        yield data


def checksum(file: BinaryIO, length: Optional[int] = None) -> int:
    """The CRC-32C of what comes next in a file."""
    crc = 0
    for piece in pieces(file, length):
        crc = crc32c(piece, crc)
    return crc


def sync_directory(path: str) -> None:
    """Makes the names in a directory durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class Partial:
    """The temporary file of a download, beside its target: `.NAME.SIZE-TAG.skiff-part`, as host-cli names it.

    With a key it is `.NAME.SIZE-TAG~KEY.skiff-part`: it is continued with the same key only (PROTOCOL section 8).

    It remains after an interrupted transfer, so that the next one can resume.
    """

    def __init__(self, target: str, size: int, tag: Optional[str], *, keep: bool, replace: bool, key: str = "") -> None:
        self.target = target
        directory, name = os.path.split(target)
        if not name:
            raise BadName(f"{target}: no file name")
        self._directory = directory or "."
        marks = f".{size}-{tag or '-'}{'~' if key else ''}{key}.skiff-part"
        if len(os.fsencode(name)) + len(marks) + 1 > 255:
            name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        self._path = os.path.join(self._directory, f".{name}{marks}")
        # Until it replaces a file, nobody else can read it.
        mode = 0o600 if replace and os.path.lexists(target) else 0o666
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        fd = os.open(self._path, flags, mode)
        if not _is_ours(os.fstat(fd)) or not _lock(fd):
            # Another process is downloading the same file, or another user owns this one: use a new file.
            os.close(fd)
            fd, self._path = tempfile.mkstemp(".skiff-part", f".{name[:64]}.", self._directory)
            if mode != 0o600 and hasattr(os, "fchmod"):
                os.fchmod(fd, 0o644)
        self.file: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        if not keep:
            self.file.truncate(0)
        #: Its length in bytes.
        self.length = self.file.seek(0, os.SEEK_END)
        if self.length > size:
            self.restart()

    def restart(self) -> None:
        """Empties it."""
        self.file.truncate(0)
        self.file.seek(0)
        self.length = 0

    def checksum(self) -> int:
        """The CRC-32C of its content."""
        self.file.seek(0)
        crc = checksum(self.file)
        self.file.seek(self.length)
        return crc

    def write(self, data: bytes) -> None:
        """Appends."""
        view = memoryview(data)
        while view:
            written = self.file.write(view)
            view = view[written or 0 :]
        self.length += len(data)

    def close(self) -> None:
        """Closes it and keeps it for a later transfer, unless it is empty."""
        self.file.close()
        if self.length == 0:
            self.discard()

    def discard(self) -> None:
        """Removes it."""
        self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def commit(self, replace: bool, mtime: Optional[int]) -> str:
        """Makes it durable and puts it in place in one step; returns the path that it has then."""
        if mtime is not None:
            with contextlib.suppress(OSError, OverflowError, ValueError):
                os.utime(self._path, (mtime, mtime))
        self.file.flush()
        os.fsync(self.file.fileno())
        if replace:
            with contextlib.suppress(OSError):
                old = os.stat(self.target, follow_symlinks=False)
                if stat.S_ISREG(old.st_mode):
                    os.chmod(self._path, stat.S_IMODE(old.st_mode) & 0o777)
            self.file.close()
            os.replace(self._path, self.target)
            place = self.target
        else:
            place = self._place()
        sync_directory(self._directory)
        return place

    def _place(self) -> str:
        """Gives it the first free name, without ever replacing a file."""
        directory, name = os.path.split(self.target)
        self.file.close()
        for number in range(10_000):
            place = os.path.join(directory, numbered(name, number) if number else name)
            try:
                os.link(self._path, place, follow_symlinks=False)
            except FileExistsError:
                continue
            except (OSError, NotImplementedError, AttributeError):
                # No hard links here. Reserve the name, then replace the empty file.
                try:
                    os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
                except FileExistsError:
                    continue
                os.replace(self._path, place)
            else:
                os.unlink(self._path)
            return place
        raise FileExistsError(f"{self.target}: too many numbered copies")


def _is_ours(status: os.stat_result) -> bool:
    """True for a regular file that nobody else owns or has another name for."""
    owned = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1 and owned


def _lock(fd: int) -> bool:
    """True if nobody else has locked it; always where there are no such locks."""
    if sys.platform == "win32":
        return True
    import fcntl  # not on Windows

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
