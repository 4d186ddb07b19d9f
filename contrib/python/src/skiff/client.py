"""The client: one control connection, one command after the other."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import posixpath
import time
from typing import (
    BinaryIO,
    Callable,
    Iterator,
    List,
    Optional,
    Tuple,
    Union,
)

from . import classic
from .checksum import crc32c
from .errors import (
    BadName,
    ConnectionLost,
    KeyFileError,
    NeedsExtended,
    ProtocolError,
    Refused,
    VerificationFailed,
)
from .local import Partial, checksum
from .messages import (
    Body,
    Upload,
    number,
    optional_crc,
    read_reply,
    text_of,
)
from .names import is_local
from .replies import Entry, Listing, Space, Sum, Transfer, parse_entry, parse_listing, read_opened
from .secure import Key
from .session import Session

#: Called during a transfer with the bytes done and the bytes in all. It may raise to stop the transfer.
Progress = Callable[[int, int], None]
Path = Union[str, "os.PathLike[str]"]

_LISTING_MAX = 1 << 26
#: PROTOCOL section 7 recommends 64 KiB or more.
_MESSAGE = 1 << 16


def connect(
    host: str,
    port: int,
    *,
    timeout: float = 60.0,
    connect_timeout: float = 10.0,
    retries: int = 5,
    key: Union[Key, Path, None] = None,
) -> Client:
    """Connects to a server and asks what it knows.

    Args:
        timeout: how many seconds the server may make no progress.
        retries: how often in a row a transfer that lost its connection reconnects and resumes.
        key: encrypts every connection; a `Key` or the path of its file. A server that does not encrypt is refused.

    Raises:
        CannotConnect: no server responds there. `KeyRefused`: it refuses the key, or does not encrypt.
        KeyFileError: the file is not a key, or the package `cryptography` is not installed.
    """
    if key is not None and not isinstance(key, Key):
        key = Key.read(key)
    if key is not None and importlib.util.find_spec("cryptography") is None:
        raise KeyFileError("encryption needs the package cryptography: pip install 'skiff-client[secure]'")
    client = Client(host, port, timeout, connect_timeout, retries, key)
    client.reconnect()
    return client


class Client(Session):
    """A client of one server, made by `connect`. Not for use by several threads at once.

    A client stays usable after an error; it reconnects when necessary.
    """

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Looking

    def ls(self, directory: str = "") -> List[str]:
        """Names, sorted; directories end in `/`. A classic server lists its root only."""
        if self._server.extended:
            listing = self.list(directory)
            return sorted(entry.name + "/" * entry.is_directory for entry in listing)
        if directory:
            raise NeedsExtended("ls DIR")
        with self._connection() as messages:
            messages.send(b"ls")
            return sorted(classic.names(messages))

    def list(self, directory: str = "") -> Listing:
        """The entries of a directory, the root if none is given, sorted by name."""
        return self._listing("list", directory)

    def tree(self, directory: str = "") -> Listing:
        """The entries of a directory and of all directories below it, sorted by name.

        Raises:
            Refused: with the code `bad-command` or `unsupported`, the server does not have this command; `walk` works
                with every server.
        """
        return self._listing("tree", directory)

    def _listing(self, verb: str, directory: str) -> Listing:
        command = f"{verb} {self._name(directory)}" if directory else verb
        with self._connection() as messages:
            self._need_extended(command)
            messages.send(command.encode())
            words = read_reply(messages, 0)
            omitted = number(words[0]) if words else 0
            text = b"".join(Body(messages, None, _LISTING_MAX))
            listing = parse_listing(text_of(text), directory, deep=verb == "tree")
        listing.omitted = omitted
        return listing

    def walk(self, directory: str = "") -> Iterator[Tuple[str, Listing]]:
        """All directories from `directory` down, each with its listing."""
        listing = self.list(directory)
        yield directory, listing
        for entry in listing:
            if entry.is_directory:
                yield from self.walk(entry.name)

    def stat(self, name: str) -> Entry:
        """Size, time and, if the server knows it, checksum of a file."""
        return parse_entry(name, self._command(f"stat {self._name(name)}", 3))

    def sum(self, name: str, offset: int = 0, length: Optional[int] = None) -> Sum:
        """Has the server compute the checksum of a range; to the end, if no length is given."""
        wanted = "*" if length is None else str(length)
        words = self._command(f"sum {offset} {wanted} {self._name(name)}", 2)
        crc = optional_crc(words[1])
        if crc is None:
            raise ProtocolError("the server sent no checksum")
        return Sum(number(words[0]), crc)

    def space(self) -> Space:
        """The size of the store, and what is free of it."""
        words = self._command("space", 2)
        return Space(number(words[0]), number(words[1]))

    def read_only(self) -> Optional[bool]:
        """True if the server accepts no changes from this client, `None` if it can't be asked."""
        if "resume" not in self.server.commands:
            return None
        try:
            # It is answered as a `write` would be.
            self._command("resume 0 skiff-info", 2)
        except Refused as error:
            return error.code in ("read-only", "denied")
        return False

    def ping(self) -> float:
        """The round-trip time of a request, in seconds."""
        with self._connection() as messages:
            begin = time.perf_counter()
            if self._server.extended:
                messages.send(b"ping")
                read_reply(messages, 0)
            else:
                messages.send(b"get /skiff/1")
                messages.receive(65_536)
            return time.perf_counter() - begin

    # Changing

    def remove(self, name: str) -> None:
        """Removes a file."""
        self._command(f"remove {self._name(name)}", 0)

    def rename(self, name: str, to: str) -> None:
        """Renames a file; an existing file `to` is replaced in one step. A directory replaces nothing."""
        self._command(f"rename {self._name(name)}\n{self._name(to)}", 0)

    def copy(self, name: str, to: str) -> None:
        """Has the server copy a file; an existing file `to` is replaced in one step."""
        self._command(f"copy {self._name(name)}\n{self._name(to)}", 2)

    def mkdir(self, name: str, *, parents: bool = False) -> None:
        """Creates a directory. With `parents` also those above it; then it may exist."""
        self._name(name)
        if not parents:
            self._command(f"mkdir {name}", 0)
            return
        components = name.split("/")
        for end in range(1, len(components) + 1):
            directory = "/".join(components[:end])
            try:
                self._command(f"mkdir {directory}", 0)
            except Refused as error:
                if error.code != "exists":
                    raise
                self.list(directory)  # a file of this name is an error

    def rmdir(self, name: str) -> None:
        """Removes a directory without files."""
        self._command(f"rmdir {self._name(name)}", 0)

    # Downloads

    def get(
        self,
        name: str,
        local: Optional[Path] = None,
        *,
        replace: bool = False,
        resume: bool = False,
        progress: Optional[Progress] = None,
    ) -> Transfer:
        """Downloads a file, verifies it, and moves it to `local` atomically.

        Args:
            local: a path, or a directory; by default the last component of `name`.
            replace: replace a local file. Otherwise the new one is saved as `name(1).txt` and so on.
            resume: continue an interrupted download after verifying the partial file.

        Raises:
            VerificationFailed: the data does not match the data on the server.
        """
        target = os.fspath(local) if local is not None else ""
        if not target or os.path.isdir(target) or target.endswith(("/", os.sep)):
            base = posixpath.basename(name)
            if not is_local(base):
                raise BadName(f"{name}: no local file can have this name; give another")
            target = os.path.join(target, base)
        if not self._server.extended:
            return self._get_classic(name, target, replace, progress)
        self._name(name)
        begin = time.perf_counter()

        def attempt(again: bool) -> Transfer:
            return self._get_once(name, target, replace, again, progress, begin)

        return self._persist(attempt, resume)

    def _get_once(
        self,
        name: str,
        target: str,
        replace: bool,
        resume: bool,
        progress: Optional[Progress],
        begin: float,
    ) -> Transfer:
        part: Optional[Partial] = None
        try:
            with self._connection() as messages:
                # To resume, first ask for size and tag: the name of the partial file contains them.
                messages.send(f"stat {name}".encode(), f"read 0 {'0' if resume else '*'} {name}".encode())
                mtime = None
                with contextlib.suppress(Refused):
                    mtime = parse_entry(name, read_reply(messages, 3)).mtime
                length, size, mark = read_opened(messages)
                body = Body(messages, length, length)
                owner = self._key.fingerprint() if self._key else ""
                part = Partial(target, size, mark, keep=resume, replace=replace, key=owner)
                if not resume:
                    _save(body, part, size, progress)
                elif b"".join(body):
                    raise ProtocolError("the server sent data that nobody asked for")
            resumed, crc, verified = 0, body.crc, body.verified
            if resume:
                crc = self._verify_part(name, part) if part.length else 0
                resumed = part.length
                with self._connection() as messages:
                    messages.send(f"read {resumed} * {name}".encode())
                    length, new_size, new_mark = read_opened(messages)
                    if (new_size, new_mark, length) != (size, mark, size - resumed):
                        raise ConnectionLost("the file changed on the server")
                    body = Body(messages, length, length)
                    crc = _save(body, part, size, progress, crc)
                verified = body.verified
            if resumed and mark is None:
                # The server has no tag to identify the version of the file: verify all of it.
                if self.sum(name) != Sum(size, crc):
                    raise VerificationFailed(f"the checksum of {name} does not match")
                verified = True
            place = part.commit(replace, mtime)
        except (Refused, VerificationFailed):
            if part is not None:
                part.discard()
            raise
        finally:
            if part is not None:
                part.close()
        return Transfer(name, place, size, resumed, time.perf_counter() - begin, crc, verified)

    def _verify_part(self, name: str, part: Partial) -> int:
        """Compares a partial file with the file on the server; restarts it if they differ. Returns its checksum."""
        crc = part.checksum()
        try:
            if self.sum(name, 0, part.length) == Sum(part.length, crc):
                return crc
        except Refused:
            pass  # shorter now, or no `sum` here
        part.restart()
        return 0

    def _get_classic(self, name: str, target: str, replace: bool, progress: Optional[Progress]) -> Transfer:
        begin = time.perf_counter()
        part = Partial(target, (1 << 63) - 1, None, keep=False, replace=replace)
        crc = 0
        try:
            for data in self._classic_pieces(name):
                part.write(data)
                crc = crc32c(data, crc)
                if progress:
                    progress(part.length, part.length)
            size = part.length
            place = part.commit(replace, None)
        finally:
            part.discard()
        return Transfer(name, place, size, 0, time.perf_counter() - begin, crc, False)

    def _classic_pieces(self, name: str) -> Iterator[bytes]:
        command = classic.command("get", name)
        with self._connection() as messages:
            messages.send(command)
            port = classic.port(messages, "get")
        with classic.data_connection(self._open, port) as stream:
            yield from classic.download(stream)

    def copy_to(self, name: str, file: BinaryIO, *, progress: Optional[Progress] = None) -> Transfer:
        """Writes a file to a stream, as it arrives. After an error, part of it has been written."""
        begin = time.perf_counter()
        size, crc, verified = 0, 0, False
        if not self._server.extended:
            for data in self._classic_pieces(name):
                file.write(data)
                size, crc = size + len(data), crc32c(data, crc)
        else:
            self._name(name)
            with self._connection() as messages:
                messages.send(f"read 0 * {name}".encode())
                length, _, _ = read_opened(messages)
                body = Body(messages, length, length)
                for data in body:
                    file.write(data)
                    if progress:
                        progress(body.total, length)
                size, crc, verified = length, body.crc, body.verified
        return Transfer(name, None, size, 0, time.perf_counter() - begin, crc, verified)

    def read_bytes(
        self,
        name: str,
        offset: int = 0,
        length: Optional[int] = None,
        *,
        limit: int = 1 << 30,
    ) -> bytes:
        """A file, or a range of it, in memory.

        Raises:
            ValueError: it is longer than `limit`.
        """
        if not self._server.extended:
            data = b"".join(self._classic_pieces(name))
            return data[offset : None if length is None else offset + length]
        self._name(name)
        wanted = "*" if length is None else str(length)
        with self._connection() as messages:
            messages.send(f"read {offset} {wanted} {name}".encode())
            announced, _, _ = read_opened(messages)
            if announced > limit:
                raise ValueError(f"{name}: {announced} bytes, the limit is {limit}")
            if length is not None and announced > length:
                raise ProtocolError(f"the server announced {announced} bytes instead of {length}")
            return b"".join(Body(messages, announced, announced))

    # Uploads

    def put(
        self,
        local: Path,
        name: Optional[str] = None,
        *,
        resume: bool = False,
        force: bool = False,
        progress: Optional[Progress] = None,
    ) -> Transfer:
        """Uploads a file. On return, the server has stored it durably, replacing an existing file.

        Args:
            name: on the server; by default the last component of `local`.
            resume: continue an interrupted upload after verifying the staged bytes.
            force: send files that are not text to a classic server.
        """
        path = os.fspath(local)
        with open(path, "rb", buffering=0) as raw:
            file: BinaryIO = raw
            status = os.fstat(raw.fileno())
            return self.put_file(
                file,
                name if name is not None else os.path.basename(path),
                size=status.st_size,
                mtime=int(status.st_mtime) if status.st_mtime >= 0 else None,
                resume=resume,
                force=force,
                progress=progress,
                local=path,
            )

    def write_bytes(self, name: str, data: bytes, *, mtime: Optional[int] = None) -> Transfer:
        """Stores `data` as a file, durably, replacing an existing file."""
        return self.put_file(io.BytesIO(data), name, size=len(data), mtime=mtime)

    def put_file(
        self,
        file: BinaryIO,
        name: str,
        *,
        size: int,
        mtime: Optional[int] = None,
        resume: bool = False,
        force: bool = False,
        progress: Optional[Progress] = None,
        local: Optional[str] = None,
    ) -> Transfer:
        """Stores the first `size` bytes of a file that can seek."""
        begin = time.perf_counter()
        if not self._server.extended:
            return self._put_classic(file, name, force, progress, local)
        self._name(name)

        def attempt(again: bool) -> Tuple[int, int]:
            offset, crc = self._staged(file, name, size) if again else (0, 0)
            try:
                return offset, self._write(file, name, offset, size, crc, mtime, progress)
            except Refused as error:
                if error.code != "mismatch" or not offset:
                    raise
            # The staged bytes are gone or damaged.
            return 0, self._write(file, name, 0, size, 0, mtime, progress)

        resumed, crc = self._persist(attempt, resume)
        return Transfer(name, local, size, resumed, time.perf_counter() - begin, crc, True)

    def _staged(self, file: BinaryIO, name: str, size: int) -> Tuple[int, int]:
        """How many bytes of this file the server has already, and their checksum."""
        words = self._command(f"resume {size} {name}", 2)
        offset, crc = number(words[0]), optional_crc(words[1])
        if offset > size or crc is None:
            raise ProtocolError(f"the server has {offset} bytes of {size}")
        file.seek(0)
        return (offset, crc) if checksum(file, offset) == crc else (0, 0)

    def _write(
        self,
        file: BinaryIO,
        name: str,
        offset: int,
        size: int,
        crc: int,
        mtime: Optional[int],
        progress: Optional[Progress],
    ) -> int:
        before = _modified(file)
        file.seek(offset)
        with self._connection() as messages:
            time_word = "-" if mtime is None else str(mtime)
            body = Upload(messages, f"write {offset} {size} {time_word} {name}".encode(), crc)
            done = offset
            if progress:
                progress(done, size)
            answered = False
            try:
                while done < size and not answered:
                    data = file.read(min(_MESSAGE, size - done))
                    if not data:
                        break
                    answered = not body.send(data)
                    done += len(data)
                    if progress:
                        progress(done, size)
                changed = (done < size and not answered) or _changed(before, _modified(file))
                if answered:
                    body.abort("cancelled", "refused")
                elif changed:
                    body.abort("changed", "the file changed")
                else:
                    body.finish()
            except ConnectionLost:
                # The server may have sent the reason before it closed.
                if not messages.stream.has_ended():
                    read_reply(messages, 2)
                raise
            try:
                words = read_reply(messages, 2)
            except Refused:
                if changed and not answered:
                    raise VerificationFailed("the local file changed during the transfer") from None
                raise
            if answered or changed:
                raise ProtocolError("the server confirms a file that was not sent")
            if number(words[0]) != size or optional_crc(words[1]) != body.crc:
                raise ProtocolError("the server confirms another file than was sent")
        return body.crc

    def _put_classic(
        self,
        file: BinaryIO,
        name: str,
        force: bool,
        progress: Optional[Progress],
        local: Optional[str],
    ) -> Transfer:
        begin = time.perf_counter()
        command = classic.command("put", name)
        size, length = classic.announce(file, force)
        file.seek(0)
        crc = checksum(file)
        file.seek(0)
        with self._connection() as messages:
            messages.send(command)
            port = classic.port(messages, "put")
        with classic.data_connection(self._open, port) as stream:
            for done in classic.upload(stream, file, size, length):
                if progress:
                    progress(done, size)
        return Transfer(name, local, size, 0, time.perf_counter() - begin, crc, False)


def _save(body: Body, part: Partial, size: int, progress: Optional[Progress], crc: int = 0) -> int:
    """Appends a body to a partial file; the checksum of the whole, `crc` being that of what is there."""
    resumed = part.length > 0
    if progress:
        progress(part.length, size)
    for data in body:
        part.write(data)
        if resumed:
            crc = crc32c(data, crc)
        if progress:
            progress(part.length, size)
    return crc if resumed else body.crc


def _modified(file: BinaryIO) -> Optional[os.stat_result]:
    try:
        return os.fstat(file.fileno())
    except (OSError, AttributeError, ValueError):
        return None  # no file of the system


def _changed(before: Optional[os.stat_result], after: Optional[os.stat_result]) -> bool:
    """True if a file changed; one that only grew, such as a log, did not."""
    if before is None or after is None:
        return False
    return after.st_size < before.st_size or (
        after.st_size == before.st_size and after.st_mtime_ns != before.st_mtime_ns
    )
