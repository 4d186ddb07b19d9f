"""What the tests share: servers that are started, servers that follow a script, links that break."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from unittest import SkipTest

REPOSITORY = Path(__file__).resolve().parents[3]
VECTORS = REPOSITORY / "docs" / "vectors"
HELLO = b"skiff/1 server=test/1 commands=ping,list,stat,read,resume,write,sum name-max=255 idle=60"
#: How long anything may take before a test fails. Nothing waits for it to pass.
LIMIT = 30.0


def message(payload: bytes) -> bytes:
    return b"%010d" % len(payload) + payload


def program(name: str) -> str:
    """A program of the workspace: from SKIFF_PROGRAMS, or the newest that was built."""
    folders = [Path(os.environ["SKIFF_PROGRAMS"])] if "SKIFF_PROGRAMS" in os.environ else []
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    folders += [target / profile for profile in ("debug", "release")]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        raise SkipTest(f"{name} is not built (cargo build, or set SKIFF_PROGRAMS)")
    return str(found[0])


@contextlib.contextmanager
def running(*command: str, cwd: Optional[str] = None) -> Iterator[Tuple[int, subprocess.Popen[str]]]:
    """A server that prints `port N` or `listening on N` first; and its process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=cwd)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().split()[-1]), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def host_serv(root: str, *options: str) -> Iterator[int]:
    with running(program("host-serv"), "0", "--root", root, *options) as (port, _):
        yield port


@contextlib.contextmanager
def device_serv(*options: str) -> Iterator[int]:
    with running(program("device-serv"), "--listen", "0", *options) as (port, _):
        yield port


@contextlib.contextmanager
def classic_serv(root: str) -> Iterator[int]:
    """The stand-in for the original server."""
    if sys.version_info < (3, 10):
        raise SkipTest("the stand-in for the original server needs Python 3.10")
    script = str(REPOSITORY / "tests" / "python" / "serv.py")
    with running(sys.executable, "-u", script, "0", cwd=root) as (port, _):
        yield port


class Listener:
    """Serves connections one after the other in a thread, each with the next of `scripts` (the last one again)."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.errors: List[BaseException] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            connection.settimeout(LIMIT)
            try:
                with connection:
                    script(connection)
            except (AssertionError, ValueError) as error:
                self.errors.append(error)
            except ConnectionError:
                pass  # the client left

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT)
        if self.errors:
            raise AssertionError(f"the server saw: {self.errors}")


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ValueError(f"the client left after {data!r}")
        data += piece
    return data


def receive(connection: socket.socket) -> bytes:
    return exactly(connection, int(exactly(connection, 10)))


def answer_hello(connection: socket.socket, hello: bytes = HELLO) -> None:
    assert receive(connection) == b"get /skiff/1"
    connection.sendall(message(hello))


def until_end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class Link:
    """A link to a server that breaks: `down` and `up` see each piece with its offset, per connection.

    They return what is passed on, or `None` to reset the connection.
    """

    Filter = Callable[[int, int, bytes], Optional[bytes]]

    def __init__(self, port: int, down: Optional[Filter] = None, up: Optional[Filter] = None) -> None:
        self._to = port
        self._down, self._up = down, up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                client, _ = self._listener.accept()
                self._ends.append(client)
                server = socket.create_connection(("127.0.0.1", self._to))
                self._ends.append(server)
            except OSError:
                return
            for source, target, change in ((client, server, self._up), (server, client, self._down)):
                threading.Thread(target=self._carry, args=(number, source, target, change), daemon=True).start()
            number += 1

    def _carry(self, number: int, source: socket.socket, target: socket.socket, change: Optional[Link.Filter]) -> None:
        offset = 0
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(4096)
                passed = change(number, offset, data) if change and data else data
                if passed is None:
                    break
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                offset += len(data)
                target.sendall(passed)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for end in (self._listener, *self._ends):
            end.close()


def cut(after: int, connections: int = 1) -> Link.Filter:
    """Resets the first connections once `after` bytes have passed."""

    def change(number: int, offset: int, data: bytes) -> Optional[bytes]:
        return None if number < connections and offset + len(data) > after else data

    return change


def flip(at: int) -> Link.Filter:
    """Changes the byte at an offset, on every connection."""

    def change(number: int, offset: int, data: bytes) -> Optional[bytes]:
        if not offset <= at < offset + len(data):
            return data
        changed = bytearray(data)
        changed[at - offset] ^= 1
        return bytes(changed)

    return change


def temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="skiff-")


_BYTECODE = temporary()


def environment() -> Dict[str, str]:
    """For programs that use the module; compiled once, and not beside the sources."""
    found = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    source = str(REPOSITORY / "contrib" / "python" / "src")
    return {**found, "PYTHONPATH": source, "PYTHONPYCACHEPREFIX": _BYTECODE.name, "TZ": "UTC"}


def cli(*words: str, cwd: str, stdin: bytes = b"", **more: object) -> subprocess.CompletedProcess[bytes]:
    """Runs `python -m skiff`."""
    command: Sequence[str] = [sys.executable, "-m", "skiff", *words]
    arguments: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, cwd=cwd, env=environment(), input=stdin, timeout=120, check=False, **arguments
    )
