"""One-way synchronization of directories, by size and checksum."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from .client import Client, Path
from .errors import ConnectionLost, NotFound, ProtocolError, SkiffError
from .local import checksum
from .names import check_name, is_local
from .replies import Entry

#: Called with the name of each file before it is transferred or removed, and what is done: `copy` or `remove`.
Progress = Callable[[str, str], None]
#: Called with the name of a file and what went wrong.
Report = Callable[[str, Exception], None]


@dataclass
class SyncResult:
    """What a synchronization did. Names are those on the server."""

    copied: List[str] = field(default_factory=list)
    unchanged: List[str] = field(default_factory=list)
    removed: List[str] = field(default_factory=list)
    #: What could not be copied or removed, and why. Everything else was done.
    failed: List[Tuple[str, Exception]] = field(default_factory=list)
    #: Local links, devices, FIFOs and sockets: they are not transferred, replaced or removed.
    left_out: List[str] = field(default_factory=list)
    #: Entries on the server that no command can name.
    omitted: int = 0

    def fail(self, name: str, error: Exception) -> None:
        """Records a failure."""
        self.failed.append((name, error))

    @property
    def complete(self) -> bool:
        """True if nothing failed and every listing was whole."""
        return not self.failed and not self.omitted


def push(
    client: Client,
    local: Path,
    directory: str = "",
    *,
    delete: bool = False,
    report: Optional[Progress] = None,
) -> SyncResult:
    """Makes `directory` on the server like the local one.

    Files are equal if size and CRC-32C are equal; one listing per directory has both. With `delete`, files that are not
    in the local directory are removed, unless an error occurred before.
    """
    root = os.fspath(local)
    result = SyncResult()
    here = dict(local_files(root, directory, result.left_out, result.fail))
    there = _remote_files(client, directory, result)
    for name, path in sorted(here.items()):
        with _Step(result, name):
            entry = there.get(name)
            if entry is not None and not entry.is_directory and _same(client, entry, path):
                result.unchanged.append(name)
                continue
            if report:
                report(name, "copy")
            client.put(path, check_name(name, client.server.name_max), resume=True)
            result.copied.append(name)
    if delete and result.complete:
        # Deepest first: a directory must be empty before it can be removed.
        kept = {*here, *result.left_out}
        keep = {name[:end] for name in kept for end, char in enumerate(name) if char == "/"}
        for name, entry in sorted(there.items(), reverse=True):
            if name in kept or name in keep:
                continue
            with _Step(result, name):
                if report:
                    report(name, "remove")
                (client.rmdir if entry.is_directory else client.remove)(name)
                result.removed.append(name)
    return result


def pull(
    client: Client,
    directory: str,
    local: Path,
    *,
    delete: bool = False,
    report: Optional[Progress] = None,
) -> SyncResult:
    """Makes a local directory like `directory` on the server (`""` is the root); as `push`, the other way round.

    Nothing is written outside the local directory or through a symbolic link in it.
    """
    root = os.fspath(local)
    result = SyncResult()
    there = _remote_files(client, directory, result, must_exist=True)
    os.makedirs(root, exist_ok=True)
    here = dict(local_files(root, directory, result.left_out, result.fail))
    for name, entry in sorted(there.items()):
        with _Step(result, name):
            path = inside(root, name, directory)
            if entry.is_directory:
                os.makedirs(path, exist_ok=True)
                continue
            if name in here and _same(client, entry, path):
                result.unchanged.append(name)
                continue
            if report:
                report(name, "copy")
            client.get(name, path, replace=True, resume=True)
            result.copied.append(name)
    if delete and result.complete:
        for name, path in sorted(here.items(), reverse=True):
            if name in there:
                continue
            with _Step(result, name):
                if report:
                    report(name, "remove")
                os.unlink(path)
                result.removed.append(name)
    return result


class _Step:
    """Records a failure of one file, so that the others continue. A lost connection ends the synchronization."""

    def __init__(self, result: SyncResult, name: str) -> None:
        self._result, self._name = result, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> bool:
        if isinstance(error, (SkiffError, OSError)) and not isinstance(error, (ConnectionLost, ProtocolError)):
            self._result.fail(self._name, error)
            return True
        return False


def local_files(root: str, directory: str, left_out: List[str], unreadable: Report) -> Iterator[Tuple[str, str]]:
    """Regular files beneath `root`, with their names on the server.

    Partial downloads are passed over. Links, devices, FIFOs and sockets are too; their names are added to `left_out`.
    """

    def failed(error: OSError) -> None:
        unreadable(os.fsdecode(error.filename), error)

    for folder, folders, files in os.walk(root, onerror=failed):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for file in sorted(files + links):
            path = os.path.join(folder, file)
            inner = os.path.relpath(path, root).replace(os.sep, "/")
            name = f"{directory}/{inner}" if directory else inner
            if file in links or not stat.S_ISREG(os.lstat(path).st_mode):
                left_out.append(name)
            elif not file.endswith(".skiff-part"):
                yield name, path


def _remote_files(client: Client, directory: str, result: SyncResult, must_exist: bool = False) -> Dict[str, Entry]:
    found: Dict[str, Entry] = {}
    try:
        for _, listing in client.walk(directory):
            result.omitted += listing.omitted
            found.update((entry.name, entry) for entry in listing)
    except NotFound:
        if must_exist or found:
            raise
    return found


def _same(client: Client, entry: Entry, path: str) -> bool:
    """True if a local file has the size and the checksum of one on the server."""
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != entry.size:
            return False
        if entry.size == 0:
            return True
        crc = entry.crc32c
        if crc is None:
            # The server does not keep checksums: it reads the file, and sends nothing of it.
            total = client.sum(entry.name)
            if total.length != entry.size:
                return False
            crc = total.crc32c
        return checksum(file) == crc


def inside(root: str, name: str, directory: str) -> str:
    """The local path of a name, which no symbolic link leads out of `root`."""
    inner = name[len(directory) + 1 :] if directory else name
    if not is_local(inner):
        raise OSError(f"{inner}: no local file can have this name")
    path = root
    for component in inner.split("/"):
        path = os.path.join(path, component)
        if os.path.islink(path):
            raise OSError(f"{path} is a symbolic link")
    return path
