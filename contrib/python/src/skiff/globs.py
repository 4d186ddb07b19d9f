"""Names on the server as arguments: globs, and what `/` and `.` mean."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from typing import Callable, Iterator, List, Sequence

from .client import Client
from .errors import NeedsExtended, Refused
from .output import NoMatch, Omitted, Run
from .replies import Entry, Listing

GLOB = re.compile(r"[*?\[]")


def server_name(name: str) -> str:
    """`/f` and `./f` mean `f`; `.` and `/` the root."""
    while name.startswith(("/", "./")):
        name = name.lstrip("/") if name.startswith("/") else name[2:]
    return "" if name == "." else name.rstrip("/")


def _pattern(component: str) -> Callable[[str], bool]:
    """`*`, `?` and `[abc]`; none of them matches a `.` at the start."""
    match = re.compile(fnmatch.translate(component)).match
    dotted = component.startswith(".")
    return lambda name: (dotted or not name.startswith(".")) and match(name) is not None


def expand(client: Client, run: Run, command: str, names: Sequence[str], files_only: bool = True) -> Iterator[str]:
    """Expands globs. A name that exists literally takes precedence over a glob."""
    for argument in names:
        name = server_name(argument)
        if not GLOB.search(name):
            yield name
            continue
        with run.each(command, argument):
            if client.server.extended:
                with contextlib.suppress(Refused):
                    client.stat(name)
                    yield name
                    continue
            found = list(matches_of(client, run, command, "", name.split("/")))
            wanted = [entry.name for entry in found if not (files_only and entry.is_directory)]
            if not wanted:
                raise NoMatch("no match on the server")
            yield from wanted


def matches_of(client: Client, run: Run, command: str, directory: str, pattern: List[str]) -> Iterator[Entry]:
    matches, rest = _pattern(pattern[0]), pattern[1:]
    for entry in listed(client, run, command, directory):
        if not matches(entry.name.rpartition("/")[2]):
            continue
        if not rest:
            yield entry
        elif entry.is_directory:
            yield from matches_of(client, run, command, entry.name, rest)


def listed(client: Client, run: Run, command: str, directory: str) -> List[Entry]:
    """The entries of a directory; reports omitted ones."""
    if not client.server.extended:
        if directory:
            raise NeedsExtended("ls DIR")
        return [Entry(name, 0, None, None) for name in client.ls()]
    listing: Listing = client.list(directory)
    if listing.omitted:
        run.error(command, directory or "/", Omitted(f"{listing.omitted} entries can't be listed"))
    return listing
