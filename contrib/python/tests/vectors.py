"""The wire vectors of docs/vectors: reading them, and playing the server of one."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import List, NamedTuple, Optional

import skiff
from support import HELLO, Listener, answer_hello, exactly, reset, until_end

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\*(\d+))?')
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"'}


class Step(NamedTuple):
    """A line of a vector: who, and `send`, `connect` or `close`."""

    who: str
    what: str
    strings: List[bytes]


def steps(path: Path) -> List[Step]:
    found = []
    for line in path.read_text("ascii").splitlines():
        if not line or line.startswith("#"):
            continue
        who, _, rest = line.partition(" ")
        if rest in ("connect", "close"):
            found.append(Step(who, rest, []))
        else:
            strings = [_unescape(text) * int(times or 1) for text, times in _STRING.findall(rest)]
            found.append(Step(who, "send", strings))
    return found


def _unescape(text: str) -> bytes:
    data = b""
    for piece in re.findall(r"\\x[0-9a-f]{2}|\\.|[^\\]+", text):
        if piece.startswith("\\x"):
            data += bytes([int(piece[2:], 16)])
        elif piece.startswith("\\"):
            data += _ESCAPES[piece[1]]
        else:
            data += piece.encode("ascii")
    return data


class Wildcards:
    """What a server chooses."""

    def __init__(self) -> None:
        self._body = b""

    def fill(self, strings: List[bytes], port: int) -> bytes:
        """The bytes of a line."""
        if len(strings) == 1:
            return strings[0]
        payload = strings[1]
        crc = b"%08x" % skiff.crc32c(self._body) if payload.startswith(b"crc32c ") else b"-"
        values = ((b"port", b"%d" % port), (b"text", b"some text"), (b"mtime", b"1700000000"))
        for name, value in (*values, (b"tag", b"7f3"), (b"crc", crc)):
            payload = payload.replace(b"<%s>" % name, value)
        self._body = payload
        return strings[0].replace(b"<len>", b"%010d" % len(payload)) + payload


class Player:
    """Plays the server of a vector: what the client sends has to be what the vector says, byte for byte.

    Every connection begins with the question of section 4, which the vectors leave out (but for `hello.txt`).
    """

    def __init__(self, path: Path, classic: bool) -> None:
        self._steps = steps(path)
        self._hello = None if path.name == "hello.txt" else b"-1" if classic else HELLO
        self._resets = path.name == "classic-put-too-much.txt"
        self._at = 0
        self._wildcards = Wildcards()
        self.listener = Listener(self._serve)

    @property
    def finished(self) -> bool:
        """True if the conversation took place to its end."""
        return self._at == len(self._steps)

    def _serve(self, control: socket.socket) -> None:
        if self._hello is not None:
            answer_hello(control, self._hello)
        ports: Optional[socket.socket] = None
        port = 0
        data: Optional[socket.socket] = None
        while self._at < len(self._steps):
            step = self._steps[self._at]
            self._at += 1
            if step.who in ("C", "D>") and step.what == "send":
                wanted = b"".join(step.strings)
                source = control if step.who == "C" else data
                assert source is not None
                sent = exactly(source, len(wanted))
                assert sent == wanted, f"{sent!r} instead of {wanted!r}"
            elif step.what == "send":
                target = control if step.who == "S" else data
                assert target is not None
                if b"<port>" in step.strings[-1]:
                    ports = socket.create_server(("127.0.0.1", 0))
                    port = ports.getsockname()[1]
                target.sendall(self._wildcards.fill(step.strings, port))
            elif step.what == "connect":
                assert ports is not None
                data, _ = ports.accept()
                ports.close()
            elif step.who == "D":
                assert data is not None
                if self._steps[self._at - 2].who == "D>":
                    assert data.recv(1) == b"", "the client sends more"
                    if self._resets:
                        reset(data)
                data.close()
            elif step.who == "C":
                assert control.recv(1) == b"", "the client does not close"
                return
            else:
                return
        until_end(control)
