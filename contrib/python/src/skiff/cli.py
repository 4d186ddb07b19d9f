"""`python -m skiff HOST PORT COMMAND...`: the commands of host-cli that people script.

Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import re
import shlex
import stat
import sys
import tempfile
import time
from typing import BinaryIO, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

from . import __version__, tree
from .client import Client, connect
from .errors import NeedsExtended, NotFound, Refused, SkiffError, printable
from .replies import Entry, Listing, Transfer

EPILOG = """\
examples:
  skiff localhost 50000 put notes.txt
  skiff localhost 50000 get 'logs/*.txt' -o new/
  tar c logs | skiff localhost 50000 put - -o backup.tar
  skiff localhost 50000 --json ls
  skiff localhost 50000 sync push build firmware
  skiff localhost 50000 < commands.txt      stops at the first failure

exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C
"""


class Usage(Exception):
    """Wrong arguments."""


class NoMatch(SkiffError):
    """A glob that matches nothing."""

    code = "no-match"


class Omitted(SkiffError):
    """A listing that is not whole."""

    code = "omitted"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: (.*?) \(", message)
        if unknown:
            message = f"no such command {unknown[1]}"
        raise Usage(message)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-q", "--quiet", action="store_true", help="print no results of transfers")
    common.add_argument("--json", action="store_true", help="print results as JSON, one object a line")
    connection = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    connection.add_argument("--connect-timeout", type=_seconds, metavar="SECONDS", help="default 10")
    connection.add_argument(
        "--idle", type=_seconds, metavar="SECONDS", help="time out after SECONDS without progress; default 60"
    )
    connection.add_argument(
        "--retries", type=_count, metavar="COUNT", help="reconnect a transfer at most COUNT times in a row; default 5"
    )
    parser = _Parser(
        prog="skiff",
        description="Client for skiff servers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, connection],
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"skiff {__version__}")
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("port", metavar="PORT", type=_port)
    _add_commands(parser, [common, connection])
    return parser


def _add_commands(parser: argparse.ArgumentParser, parents: List[_Parser]) -> None:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, about: str, *arguments: str, help_option: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=about, description=about, parents=parents, allow_abbrev=False, add_help=help_option
        )
        for argument in arguments:
            word = argument.rstrip("*+?")
            if argument == word:
                command.add_argument(word.lower(), metavar=word)
            else:
                command.add_argument(word.lower(), metavar=word, nargs=argument[-1])
        return command

    ls = add("ls", "list files on the server", "NAME*")
    ls.add_argument("-l", action="store_true", dest="long", help="size, time and name")
    ls.add_argument("-R", action="store_true", dest="recursive", help="with directories")
    get = add("get", "download files", "NAME+")
    get.add_argument(
        "-o", dest="output", metavar="LOCAL", help="save as LOCAL, or into the directory LOCAL; - is standard output"
    )
    get.add_argument("-f", action="store_true", dest="force", help="replace local files")
    get.add_argument("-c", action="store_true", dest="resume", help="continue an interrupted transfer")
    get.add_argument("-r", action="store_true", dest="recursive", help="with directories")
    put = add("put", "upload files", "LOCAL+")
    put.add_argument("-o", dest="output", metavar="NAME", help="store as NAME, or into the directory NAME/")
    put.add_argument("-f", action="store_true", dest="force", help="send files that are not text to a classic server")
    put.add_argument("-c", action="store_true", dest="resume", help="continue an interrupted transfer")
    put.add_argument("-r", action="store_true", dest="recursive", help="with directories")
    add("cat", "print files", "NAME+")
    add("stat", "show size, time and checksum of files", "NAME+")
    add("sum", "have the server compute checksums", "NAME+")
    add("rm", "remove files", "NAME+")
    add("mv", "rename a file, replacing TO", "FROM", "TO")
    mkdir = add("mkdir", "create directories", "NAME+")
    mkdir.add_argument("-p", action="store_true", dest="parents", help="with those above; they may exist")
    add("rmdir", "remove directories without files", "NAME+")
    add("df", "show disk space on the server")
    ping = add("ping", "measure the round-trip time")
    ping.add_argument("-n", type=_count, default=1, dest="count", metavar="COUNT")
    add("info", "show what the server supports")
    sync = add("sync", "make a directory like another: push LOCAL [DIR] or pull DIR LOCAL; DIR / is the root")
    sync.add_argument("direction", choices=["push", "pull"])
    sync.add_argument("source", metavar="FROM")
    sync.add_argument("target", metavar="TO", nargs="?")
    sync.add_argument("--delete", action="store_true", help="remove files that FROM does not have")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"no port: {text}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"no number: {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"no number of seconds: {text}")
    return value


class Run:
    """One run: the output, and what went wrong."""

    def __init__(self, as_json: bool, quiet: bool, line: Optional[int] = None) -> None:
        self.json, self.quiet, self.line = as_json, quiet, line
        self.failed = False

    def result(self, text: str, shape: str, /, **keys: object) -> None:
        """A result that was asked for."""
        if self.json:
            text = json.dumps({"type": shape, **keys}, separators=(",", ":"))
        elif sys.stdout.isatty():
            text = printable(text)
        sys.stdout.write(text + "\n")

    def note(self, text: str, shape: str, /, **keys: object) -> None:
        """A result that `-q` leaves out."""
        if not self.quiet:
            self.result(text, shape, **keys)

    def error(self, command: Optional[str], name: Optional[str], error: BaseException) -> None:
        """One line on standard error."""
        self.failed = True
        code, message = _describe(error)
        with contextlib.suppress(OSError, ValueError):
            if self.json:
                keys = {"command": command, "name": name, "line": self.line, "code": code, "message": message}
                sys.stderr.write(json.dumps({"type": "error", **keys}, separators=(",", ":")) + "\n")
            else:
                where = [f"line {self.line}"] if self.line else []
                where += [printable(" ".join(word for word in (command, name) if word))] * bool(command)
                sys.stderr.write(": ".join(["skiff", *where, printable(message)]) + "\n")

    def left_out(self, command: str, name: str) -> None:
        """A local entry that is not transferred, on purpose: no failure."""
        with contextlib.suppress(OSError, ValueError):
            if self.json:
                keys = {"command": command, "name": name, "message": "not a regular file"}
                sys.stderr.write(json.dumps({"type": "left-out", **keys}, separators=(",", ":")) + "\n")
            else:
                sys.stderr.write(f"skiff: {command} {printable(name)}: left out, not a regular file\n")

    @contextlib.contextmanager
    def each(self, command: str, name: Optional[str]) -> Iterator[None]:
        """One name of many: its failure does not stop the others, unless there is no connection any more."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (SkiffError, OSError) as error:
            self.error(command, name, error)


def _describe(error: BaseException) -> Tuple[str, str]:
    if isinstance(error, SkiffError):
        return error.code, str(error)
    if isinstance(error, Usage):
        return "usage", str(error)
    if isinstance(error, OSError) and error.strerror:
        path = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return "local", path + error.strerror
    return "local", str(error)


# Names and globs

_GLOB = re.compile(r"[*?\[]")


def _server_name(name: str) -> str:
    """`/f` and `./f` mean `f`; `.` and `/` the root."""
    while name.startswith(("/", "./")):
        name = name.lstrip("/") if name.startswith("/") else name[2:]
    return "" if name == "." else name.rstrip("/")


def _pattern(component: str) -> Callable[[str], bool]:
    """`*`, `?` and `[abc]`; none of them matches a `.` at the start."""
    match = re.compile(fnmatch.translate(component)).match
    dotted = component.startswith(".")
    return lambda name: (dotted or not name.startswith(".")) and match(name) is not None


def _expand(client: Client, run: Run, command: str, names: Sequence[str], files_only: bool = True) -> Iterator[str]:
    """The names that the arguments stand for. One that exists as it is written is no glob."""
    for argument in names:
        name = _server_name(argument)
        if not _GLOB.search(name):
            yield name
            continue
        with run.each(command, argument):
            if client.server.extended:
                with contextlib.suppress(Refused):
                    client.stat(name)
                    yield name
                    continue
            found = list(_matches(client, run, command, "", name.split("/")))
            wanted = [entry.name for entry in found if not (files_only and entry.is_directory)]
            if not wanted:
                raise NoMatch("no match on the server")
            yield from wanted


def _matches(client: Client, run: Run, command: str, directory: str, pattern: List[str]) -> Iterator[Entry]:
    matches, rest = _pattern(pattern[0]), pattern[1:]
    for entry in _listed(client, run, command, directory):
        if not matches(entry.name.rpartition("/")[2]):
            continue
        if not rest:
            yield entry
        elif entry.is_directory:
            yield from _matches(client, run, command, entry.name, rest)


def _listed(client: Client, run: Run, command: str, directory: str) -> List[Entry]:
    """A directory; reports what its listing leaves out."""
    if not client.server.extended:
        if directory:
            raise NeedsExtended("ls DIR")
        return [Entry(name, 0, None, None) for name in client.ls()]
    listing: Listing = client.list(directory)
    if listing.omitted:
        run.error(command, directory or "/", Omitted(f"{listing.omitted} entries can't be listed"))
    return listing


# Commands


def _ls(client: Client, run: Run, args: argparse.Namespace) -> None:
    entries: List[Entry] = []

    def directory(name: str) -> None:
        for entry in _listed(client, run, "ls", name):
            entries.append(entry)
            if args.recursive and entry.is_directory:
                directory(entry.name)

    for argument in args.name or ["/"]:
        with run.each("ls", argument):
            name = _server_name(argument)
            if not name or not client.server.extended:
                directory(name)
                continue
            try:
                entries.append(client.stat(name))
            except NotFound:
                found = list(_matches(client, run, "ls", "", name.split("/"))) if _GLOB.search(name) else []
                if not found:
                    raise
                entries += found
            except Refused as error:
                if error.code != "is-directory":
                    raise
                directory(name)
    known = client.server.extended
    sizes = [str(entry.size) if known and not entry.is_directory else "-" for entry in entries]
    width = max(map(len, sizes), default=0)
    for entry, size in zip(entries, sizes):
        name = entry.name + "/" * entry.is_directory
        text = f"{size:>{width}}  {_time(entry.mtime)}  {name}" if args.long else name
        run.result(text, "entry", **_keys(entry))


def _keys(entry: Entry) -> Dict[str, object]:
    kind, size = ("directory", None) if entry.is_directory else ("file", entry.size)
    crc = None if entry.crc32c is None else f"{entry.crc32c:08x}"
    return {"name": entry.name, "kind": kind, "size": size, "mtime": entry.mtime, "crc32c": crc}


def _time(mtime: Optional[int]) -> str:
    if mtime is not None:
        with contextlib.suppress(ValueError, OSError, OverflowError):
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mtime))
    return f"{'-':<19}"


def _get(client: Client, run: Run, args: argparse.Namespace) -> None:
    output = args.output
    names = list(_expand(client, run, "get", args.name, files_only=not args.recursive))
    stream = output == "-" or (output is not None and _is_stream(output))
    into = output is not None and (output.endswith("/") or os.path.isdir(output))
    if len(names) > 1 and output is not None and not stream and not into:
        raise Usage(f"get: several files, but {output} is no directory; write {output}/")
    if stream and args.recursive:
        raise Usage(f"get -r: {output} is no directory")
    if into:
        os.makedirs(output, exist_ok=True)
    if output == "-":
        _copy(client, run, "get", names, sys.stdout.buffer)
        return
    if stream:
        with open(output, "wb", buffering=0) as file:
            _copy(client, run, "get", names, file)
        return
    for name in names:
        base = name.rpartition("/")[2]
        target = output or base or "."
        if into:
            target = os.path.join(output, base) if base else output
        with run.each("get", name):
            if args.recursive and _is_directory(client, name):
                for inner, path in _beneath(client, run, name, target):
                    with run.each("get", inner):
                        _get_one(client, run, args, inner, path)
            else:
                _get_one(client, run, args, name, target)


def _get_one(client: Client, run: Run, args: argparse.Namespace, name: str, target: str) -> None:
    with _Bar(run, f"get {name}") as bar:
        done = client.get(name, target, replace=args.force, resume=args.resume, progress=bar)
    saved = f", saved as {done.local}" if done.local != name else ""
    saved += f" since {target} exists (-f replaces it)" if done.local != target else ""
    checked = "" if done.verified else ", not verified"
    run.note(f"get {name}: {_figures(done)}{checked}{saved}", "get", **_transfer(done, verified=done.verified))


def _is_directory(client: Client, name: str) -> bool:
    if not name:
        return True
    try:
        client.stat(name)
    except Refused as error:
        if error.code != "is-directory":
            raise
        return True
    return False


def _beneath(client: Client, run: Run, name: str, target: str) -> Iterator[Tuple[str, str]]:
    """The files beneath a directory of the server, with their local paths; makes the directories."""
    os.makedirs(target, exist_ok=True)
    for entry in _listed(client, run, "get", name):
        with run.each("get", entry.name):
            path = tree.inside(target, entry.name, name)
            if entry.is_directory:
                yield from _beneath(client, run, entry.name, path)
            else:
                yield entry.name, path


def _is_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _cat(client: Client, run: Run, args: argparse.Namespace) -> None:
    _copy(client, run, "cat", list(_expand(client, run, "cat", args.name)), sys.stdout.buffer)


def _copy(client: Client, run: Run, command: str, names: List[str], file: BinaryIO) -> None:
    sys.stdout.flush()
    for name in names:
        with run.each(command, name):
            client.copy_to(name, file)
    file.flush()


def _put(client: Client, run: Run, args: argparse.Namespace) -> None:
    output = args.output
    into = output is not None and (output.endswith("/") or output == ".")
    if len(args.local) > 1 and output is not None and not into:
        raise Usage(f"put: several files, but {output} is no directory; write {output}/")
    for local in args.local:
        if local == "-" and (output is None or into):
            raise Usage("put -: give the name on the server with -o")
    for local in args.local:
        # `put -r .` stores what is in it, not it.
        base = os.path.basename(os.path.normpath(local))
        base = "" if base in (".", "..") else base
        name = base if output is None else _server_name(output)
        if into:
            name = "/".join(part for part in (name, base) if part)
        with run.each("put", local):
            if args.recursive and os.path.isdir(local):
                _put_directory(client, run, args, local, name)
            else:
                _put_one(client, run, args, local, name)


def _put_directory(client: Client, run: Run, args: argparse.Namespace, local: str, directory: str) -> None:
    left_out: List[str] = []
    for name, path in tree.local_files(local, directory, left_out, lambda path, error: run.error("put", path, error)):
        path = os.path.normpath(path)
        with run.each("put", path):
            _put_one(client, run, args, path, name)
    for name in left_out:
        run.left_out("put", name)


def _put_one(client: Client, run: Run, args: argparse.Namespace, local: str, name: str) -> None:
    with _Bar(run, f"put {local}") as bar:
        done = _send(client, args, local, name, bar)
    stored = f", stored as {name}" if name != local else ""
    if not done.verified:
        stored += ", sent (this server does not confirm)"
    run.note(f"put {local}: {_figures(done)}{stored}", "put", **_transfer(done, confirmed=done.verified))


def _send(client: Client, args: argparse.Namespace, local: str, name: str, bar: _Bar) -> Transfer:
    source: Optional[BinaryIO] = None
    if local == "-":
        source = sys.stdin.buffer
    else:
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "is a directory (-r sends it)", local)
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            # A pipe, or a file of /proc, whose size is not known.
            source = open(local, "rb")
    if source is None:
        return client.put(local, name, resume=args.resume, force=args.force, progress=bar)
    with tempfile.TemporaryFile() as spool:
        with contextlib.ExitStack() as stack:
            if local != "-":
                stack.callback(source.close)
            while True:
                data = source.read(1 << 18)
                if not data:
                    break
                spool.write(data)
        spool.flush()
        return client.put_file(
            spool,
            name,
            size=spool.tell(),
            resume=args.resume,
            force=args.force,
            progress=bar,
            local=None if local == "-" else local,
        )


def _figures(done: Transfer) -> str:
    resumed = f" ({done.resumed} were there)" if done.resumed else ""
    return f"{done.size} bytes{resumed}, {done.seconds:.6f} s, crc32c {done.crc32c:08x}"


def _transfer(done: Transfer, **more: object) -> Dict[str, object]:
    return {
        "name": done.name,
        "local": done.local,
        "size": done.size,
        "resumed": done.resumed,
        "seconds": round(done.seconds, 6),
        "crc32c": f"{done.crc32c:08x}",
        **more,
    }


def _stat(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in _expand(client, run, "stat", args.name, files_only=False):
        with run.each("stat", name):
            try:
                entry = client.stat(name)
            except Refused as error:
                if error.code != "is-directory":
                    raise
                run.result(f"{name}/: directory", "entry", **_keys(Entry(name, 0, None, None, True)))
                continue
            crc = "-" if entry.crc32c is None else f"{entry.crc32c:08x}"
            text = f"{name}: {entry.size} bytes, {_time(entry.mtime).strip()}, crc32c {crc}"
            run.result(text, "entry", **_keys(entry))


def _sum(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in _expand(client, run, "sum", args.name):
        with run.each("sum", name):
            found = client.sum(name)
            text = f"{found.crc32c:08x} {found.length} {name}"
            run.result(text, "sum", name=name, size=found.length, crc32c=f"{found.crc32c:08x}")


def _rm(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in list(_expand(client, run, "rm", args.name)):
        with run.each("rm", name):
            client.remove(name)
            run.note(f"rm {name}: removed", "done", command="rm", name=name)


def _mv(client: Client, run: Run, args: argparse.Namespace) -> None:
    name, to = _server_name(getattr(args, "from")), _server_name(args.to)
    if args.to.endswith("/"):
        base = name.rpartition("/")[2]
        to = f"{to}/{base}" if to else base
    with run.each("mv", name):
        client.rename(name, to)
        run.note(f"mv {name}: renamed to {to}", "done", command="mv", name=name, to=to)


def _mkdir(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in map(_server_name, args.name):
        with run.each("mkdir", name):
            client.mkdir(name, parents=args.parents)
            run.note(f"mkdir {name}: created", "done", command="mkdir", name=name)


def _rmdir(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in map(_server_name, args.name):
        with run.each("rmdir", name):
            client.rmdir(name)
            run.note(f"rmdir {name}: removed", "done", command="rmdir", name=name)


def _df(client: Client, run: Run, args: argparse.Namespace) -> None:
    with run.each("df", None):
        space = client.space()
        used = 100 * (space.total - space.free) // max(space.total, 1)
        text = f"{space.total} bytes in all, {space.free} bytes free, {used}% used"
        run.result(text, "space", total=space.total, free=space.free)


def _ping(client: Client, run: Run, args: argparse.Namespace) -> None:
    for count in range(1, args.count + 1):
        with run.each("ping", None):
            seconds = client.ping()
            run.result(
                f"{args.host}:{args.port}: {seconds * 1000:.3f} ms", "ping", number=count, seconds=round(seconds, 6)
            )
        if run.failed:
            return


def _info(client: Client, run: Run, args: argparse.Namespace) -> None:
    server = client.server
    keys: Dict[str, object] = {
        "address": f"{args.host}:{args.port}",
        "ip": client.address,
        "protocol": "extended" if server.extended else "classic",
        "server": server.server,
        "host": server.host,
        "commands": list(server.commands),
        "name_max": server.name_max if server.extended else None,
        "idle": server.idle,
        "nocrc": server.nocrc,
    }
    if run.json:
        run.result("", "info", **keys)
        return
    for key, value in keys.items():
        if value is not None and value != []:
            text = " ".join(server.commands) if key == "commands" else str(value)
            run.result(f"{key:<9} {printable(text)}", "info")


def _sync(client: Client, run: Run, args: argparse.Namespace) -> None:
    if args.direction == "pull" and args.target is None:
        raise Usage("sync pull: give a local directory; DIR / is the root")

    def report(name: str, what: str) -> None:
        run.note(f"{what} {name}", "sync", name=name, action=what)

    if args.direction == "push":
        if not os.path.isdir(args.source):
            raise Usage(f"sync push: {args.source} is no directory")
        where = _server_name(args.target or "")
        result = tree.push(client, args.source, where, delete=args.delete, report=report)
    else:
        where = _server_name(args.source)
        result = tree.pull(client, where, args.target, delete=args.delete, report=report)
    for name, error in result.failed:
        run.error("sync", name, error)
    for name in result.left_out:
        run.left_out("sync", name)
    if result.omitted:
        run.error("sync", where or "/", Omitted(f"{result.omitted} entries can't be listed"))
    counts = {"copied": len(result.copied), "unchanged": len(result.unchanged), "removed": len(result.removed)}
    run.note("sync: " + ", ".join(f"{n} {what}" for what, n in counts.items()), "synced", **counts)


_COMMANDS: Dict[str, Callable[[Client, Run, argparse.Namespace], None]] = {
    "cat": _cat, "df": _df, "get": _get, "info": _info, "ls": _ls, "mkdir": _mkdir, "mv": _mv, "ping": _ping,
    "put": _put, "rm": _rm, "rmdir": _rmdir, "stat": _stat, "sum": _sum, "sync": _sync,
}  # fmt: skip


class _Bar:
    """The progress of a transfer, if standard error is a terminal and it takes longer than half a second."""

    def __init__(self, run: Run, title: str) -> None:
        self._on = sys.stderr.isatty() and not run.quiet
        self._title = printable(title)
        self._next = time.monotonic() + 0.5
        self._shown = False

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._on and now >= self._next:
            self._next, self._shown = now + 0.1, True
            sys.stderr.write(f"\r{self._title}: {done} of {total} bytes, {100 * done // max(total, 1)} %\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _script(client: Client, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Carries out the lines of standard input, until one fails."""
    for count, raw in enumerate(sys.stdin.buffer, 1):
        run = Run(getattr(args, "json", False), getattr(args, "quiet", False), count)
        try:
            text = raw.decode("utf-8-sig" if count == 1 else "utf-8")
            words = shlex.split(text, comments=True)
            if not words:
                continue
            if words[0] in ("quit", "exit"):
                break
            line = parser.parse_args([args.host, str(args.port), *words])
            if line.command == "put" and "-" in line.local:
                raise Usage("put - does not work in a script")
            _COMMANDS[line.command](client, run, line)
        except (Usage, ValueError) as error:
            run.error(None, None, error if isinstance(error, Usage) else Usage(str(error)))
            return 2
        except (SkiffError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            run.error(None, None, error)
        if run.failed:
            return 1
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    run = Run("--json" in words, False)
    try:
        return _main(words, run)
    except Usage as error:
        run.error(None, None, error)
        return 2
    except BrokenPipeError:
        # The reader of standard output has gone: no error. Nothing is flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1 if run.failed else 0
    except (SkiffError, OSError) as error:
        run.error(None, None, error)
        return 1
    except KeyboardInterrupt:
        return 130


def _main(words: List[str], run: Run) -> int:
    parser = _parser()
    args = parser.parse_args(words)
    run.json, run.quiet = getattr(args, "json", False), getattr(args, "quiet", False)
    with connect(
        args.host,
        args.port,
        timeout=getattr(args, "idle", 60.0),
        connect_timeout=getattr(args, "connect_timeout", 10.0),
        retries=getattr(args, "retries", 5),
    ) as client:
        if args.command is None:
            if sys.stdin.isatty():
                raise Usage("give a command, or a script on standard input")
            return _script(client, parser, args)
        _COMMANDS[args.command](client, run, args)
    sys.stdout.flush()
    return 1 if run.failed else 0
