"""The commands of the program."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
import tempfile
import time
from typing import BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple, cast

from . import tree
from .client import Client
from .errors import NotFound, Refused, printable
from .globs import GLOB, expand, listed, matches_of, server_name
from .output import Bar, Omitted, Run, Usage
from .replies import Entry, Transfer


def _ls(client: Client, run: Run, args: argparse.Namespace) -> None:
    entries: List[Entry] = []

    def directory(name: str) -> None:
        for entry in listed(client, run, "ls", name):
            entries.append(entry)
            if args.recursive and entry.is_directory:
                directory(entry.name)

    for argument in args.name or ["/"]:
        with run.each("ls", argument):
            name = server_name(argument)
            if not name or not client.server.extended:
                directory(name)
                continue
            try:
                entries.append(client.stat(name))
            except NotFound:
                found = list(matches_of(client, run, "ls", "", name.split("/"))) if GLOB.search(name) else []
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
    names = list(expand(client, run, "get", args.name, files_only=not args.recursive))
    stream = output == "-" or (output is not None and _is_stream(output))
    into = output is not None and (output.endswith("/") or os.path.isdir(output))
    if len(names) > 1 and output is not None and not stream and not into:
        raise Usage(f"get: several files, but {output} is not a directory; write {output}/")
    if stream and args.recursive:
        raise Usage(f"get -r: {output} is not a directory")
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
    with Bar(run, f"get {name}") as bar:
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
    for entry in listed(client, run, "get", name):
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
    _copy(client, run, "cat", list(expand(client, run, "cat", args.name)), sys.stdout.buffer)


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
        raise Usage(f"put: several files, but {output} is not a directory; write {output}/")
    for local in args.local:
        if local == "-" and (output is None or into):
            raise Usage("put -: give the name on the server with -o")
    for local in args.local:
        # `put -r .` stores what is in it, not it.
        base = os.path.basename(os.path.normpath(local))
        base = "" if base in (".", "..") else base
        name = base if output is None else server_name(output)
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
    with Bar(run, f"put {local}") as bar:
        done = _send(client, args, local, name, bar)
    stored = f", stored as {name}" if name != local else ""
    if not done.verified:
        stored += ", sent (this server does not confirm)"
    run.note(f"put {local}: {_figures(done)}{stored}", "put", **_transfer(done, confirmed=done.verified))


def _send(client: Client, args: argparse.Namespace, local: str, name: str, bar: Bar) -> Transfer:
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
            cast(BinaryIO, spool),
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
    for name in expand(client, run, "stat", args.name, files_only=False):
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
    for name in expand(client, run, "sum", args.name):
        with run.each("sum", name):
            found = client.sum(name)
            text = f"{found.crc32c:08x} {found.length} {name}"
            run.result(text, "sum", name=name, size=found.length, crc32c=f"{found.crc32c:08x}")


def _rm(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in list(expand(client, run, "rm", args.name)):
        with run.each("rm", name):
            client.remove(name)
            run.note(f"rm {name}: removed", "done", command="rm", name=name)


def _mv(client: Client, run: Run, args: argparse.Namespace) -> None:
    name, to = server_name(getattr(args, "from")), server_name(args.to)
    if args.to.endswith("/"):
        base = name.rpartition("/")[2]
        to = f"{to}/{base}" if to else base
    with run.each("mv", name):
        client.rename(name, to)
        run.note(f"mv {name}: renamed to {to}", "done", command="mv", name=name, to=to)


def _mkdir(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in map(server_name, args.name):
        with run.each("mkdir", name):
            client.mkdir(name, parents=args.parents)
            run.note(f"mkdir {name}: created", "done", command="mkdir", name=name)


def _rmdir(client: Client, run: Run, args: argparse.Namespace) -> None:
    for name in map(server_name, args.name):
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
        "key": client.keyid,
        "read_only": client.read_only(),
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
            raise Usage(f"sync push: {args.source} is not a directory")
        where = server_name(args.target or "")
        result = tree.push(client, args.source, where, delete=args.delete, report=report)
    else:
        where = server_name(args.source)
        result = tree.pull(client, where, args.target, delete=args.delete, report=report)
    for name, error in result.failed:
        run.error("sync", name, error)
    for name in result.left_out:
        run.left_out("sync", name)
    if result.omitted:
        run.error("sync", where or "/", Omitted(f"{result.omitted} entries can't be listed"))
    counts = {"copied": len(result.copied), "unchanged": len(result.unchanged), "removed": len(result.removed)}
    run.note("sync: " + ", ".join(f"{n} {what}" for what, n in counts.items()), "synced", **counts)


COMMANDS: Dict[str, Callable[[Client, Run, argparse.Namespace], None]] = {
    "cat": _cat, "df": _df, "get": _get, "info": _info, "ls": _ls, "mkdir": _mkdir, "mv": _mv, "ping": _ping,
    "put": _put, "rm": _rm, "rmdir": _rmdir, "stat": _stat, "sum": _sum, "sync": _sync,
}  # fmt: skip
