"""Each vector of docs/vectors: played by a script that checks every byte of the client, and with real servers."""

from __future__ import annotations

import contextlib
import io
import os
import time
import unittest
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import skiff
from skiff import classic
from skiff.client import Client
from skiff.messages import Body, Messages, Upload, read_reply
from skiff.replies import Server
from support import LIMIT, VECTORS, device_serv, host_serv, temporary
from vectors import Player

Test = unittest.TestCase


def messages(client: Client) -> Messages:
    """The message layer, for what the client's own methods refuse to send."""
    assert client._messages is not None
    return client._messages


def refusal(test: Test, client: Client, *payloads: bytes) -> str:
    """Sends messages, and returns the code of the `error` that answers them."""
    messages(client).send(*payloads)
    with test.assertRaises(skiff.Refused) as caught:
        read_reply(messages(client), 0)
    return caught.exception.code


def upload(client: Client, command: bytes, *pieces: bytes) -> Upload:
    body = Upload(messages(client), command, 0)
    for piece in pieces:
        body.send(piece)
    return body


def bad_length(test: Test, client: Client) -> None:
    messages(client).stream.send(b"+000000005get x")
    with test.assertRaises(skiff.Refused) as caught:
        read_reply(messages(client), 0)
    test.assertEqual(caught.exception.code, "bad-length")
    test.assertEqual(messages(client).stream.some(1), b"")


def classic_get(test: Test, client: Client) -> None:
    test.assertEqual(client.read_bytes("teste.txt"), b"hello\n")
    with test.assertRaises(skiff.NotFound):
        client.read_bytes("none.txt")
    stream = messages(client).stream
    messages(client).send(b"quit")
    test.assertEqual(stream.some(1), b"")


def classic_ls(test: Test, client: Client) -> None:
    test.assertEqual(client.ls(), ["a.txt", "b.txt"])
    test.assertEqual(refusal(test, client, b"ls now"), "bad-command")


def classic_ls_empty(test: Test, client: Client) -> None:
    test.assertEqual(client.ls(), [])


def classic_put(test: Test, client: Client) -> None:
    client.write_bytes("teste.txt", b"a" * 711)


def classic_put_accents(test: Test, client: Client) -> None:
    client.write_bytes("a.txt", "olá!\n".encode())


def classic_put_raw(client: Client, command: bytes, length: int, content: bytes) -> None:
    messages(client).send(command)
    port = classic.port(messages(client), "put")
    with classic.data_connection(client._open, port) as stream:
        for _ in classic.upload(stream, io.BytesIO(content), len(content), length):
            pass


def classic_put_path(test: Test, client: Client) -> None:
    classic_put_raw(client, b"put ../docs/teste.txt", 1, b"x")


def classic_put_too_much(test: Test, client: Client) -> None:
    with test.assertRaises(skiff.DataConnectionFailed):
        classic_put_raw(client, b"put a.txt", 3, b"abcd")


def classic_refused(test: Test, client: Client) -> None:
    def refuses(*payloads: bytes) -> None:
        messages(client).send(*payloads)
        with test.assertRaises(skiff.Refused):
            classic.port(messages(client), "get")

    refuses(b"get")
    refuses(b"get a b")
    refuses(b"get ../etc/passwd")
    refuses(b"put ..")
    refuses(b"GET none")
    refuses(b"", b"get \x01")


def copy(test: Test, client: Client) -> None:
    client.copy("a", "b")
    client.write_bytes("a", b"2")
    test.assertEqual(client.read_bytes("b"), b"1")
    with test.assertRaises(skiff.NotFound):
        client.copy("none", "b")
    client.copy("a", "a")
    test.assertEqual(refusal(test, client, b"copy a b"), "bad-command")


def hello(test: Test, client: Client) -> None:
    test.assertTrue(client.server.extended)
    client.ping()


def list_omitted(test: Test, client: Client) -> None:
    listing = client.list()
    test.assertEqual([(entry.name, entry.size) for entry in listing], [("keep", 1)])
    test.assertEqual(listing.omitted, 2)
    client.ping()


def pipeline(test: Test, client: Client) -> None:
    sent = messages(client)
    commands = (b"rename a\nb", b"read 0 * b", b"remove b", b"stat b", b"ping", b"quit")
    sent.send(b"write 0 1 - a", b"1", b"", b"crc32c 90f599e3", *commands)
    test.assertEqual(read_reply(sent, 2), ["1", "90f599e3"])
    read_reply(sent, 0)
    test.assertEqual(read_reply(sent, 3)[:2], ["1", "1"])
    test.assertEqual(b"".join(Body(sent, 1, 1)), b"1")
    read_reply(sent, 0)
    with test.assertRaises(skiff.NotFound):
        read_reply(sent, 0)
    read_reply(sent, 0)
    test.assertEqual(sent.stream.some(1), b"")


def rename_directory(test: Test, client: Client) -> None:
    for to in ("e", "d/x"):
        with test.assertRaises(skiff.Refused) as caught:
            client.rename("d", to)
        test.assertEqual(caught.exception.code, "is-directory")
    client.rename("d", "f/g")
    test.assertEqual(client.read_bytes("f/g/a"), b"1")
    with test.assertRaises(skiff.NotFound):
        client.list("d")


def tree(test: Test, client: Client) -> None:
    listing = client.tree()
    test.assertEqual([(entry.name, entry.size) for entry in listing], [("keep", 1)])
    test.assertEqual(listing.omitted, 1)
    with test.assertRaises(skiff.NotFound):
        client.tree("none")
    client.ping()


def write_chunks(test: Test, client: Client) -> None:
    body = upload(client, b"write 0 9 1700000000 d", b"123", b"4", b"56789")
    body.finish()
    test.assertEqual(read_reply(messages(client), 2), ["9", "e3069283"])
    entry = client.stat("d")
    test.assertEqual(entry.size, 9)
    test.assertIn(entry.mtime, (1700000000, None))
    test.assertIn(entry.crc32c, (0xE3069283, None))


def write_empty(test: Test, client: Client) -> None:
    test.assertEqual(client.write_bytes("empty", b"").crc32c, 0)
    test.assertEqual(client.read_bytes("empty"), b"")


def write_mismatch(test: Test, client: Client) -> None:
    def ends(content: bytes, end: Callable[[Upload], None]) -> str:
        end(upload(client, b"write 0 4 - d", content))
        with test.assertRaises(skiff.Refused) as caught:
            read_reply(messages(client), 0)
        return caught.exception.code

    def wrong(body: Upload) -> None:
        body.crc = 1
        body.finish()

    test.assertEqual(ends(b"evil", wrong), "mismatch")
    test.assertEqual(ends(b"evi", Upload.finish), "mismatch")
    test.assertEqual(ends(b"evi", lambda body: body.abort("io", "disk on fire")), "io")
    test.assertEqual(client.read_bytes("d"), b"good")


def write_read(test: Test, client: Client) -> None:
    name = "a b.txt"
    done = client.write_bytes(name, b"hello\n")
    test.assertEqual((done.size, done.crc32c, done.verified), (6, 0x353DD8BE, True))
    test.assertEqual(client.read_bytes(name), b"hello\n")
    test.assertEqual(client.read_bytes(name, 4, 1), b"o")
    test.assertEqual(client.read_bytes(name, 6), b"")
    with test.assertRaises(skiff.Refused) as caught:
        client.read_bytes(name, 7)
    test.assertEqual(caught.exception.code, "range")
    test.assertEqual(client.sum(name), skiff.Sum(6, 0x353DD8BE))


def write_refused(test: Test, client: Client) -> None:
    body = upload(client, b"write 0 3 - ../d", b"abc")
    body.finish()
    with test.assertRaises(skiff.Refused) as caught:
        read_reply(messages(client), 0)
    test.assertEqual(caught.exception.code, "bad-name")
    client.ping()


class Breaks(io.BytesIO):
    """A file that fails after its first four bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 4:
            raise OSError("disk on fire")
        return super().read(4)


def write_resume(test: Test, client: Client) -> None:
    with test.assertRaises(OSError):
        client.put_file(Breaks(b"123456789"), "d", size=9)
    client.reconnect()
    deadline = time.monotonic() + LIMIT
    while True:
        # A server that has not seen the close yet says so.
        messages(client).send(b"resume 9 d")
        with contextlib.suppress(skiff.Refused):
            if read_reply(messages(client), 2) == ["4", "f63af4ee"]:
                break
        test.assertLess(time.monotonic(), deadline)
        time.sleep(0.01)
    upload(client, b"write 5 9 - d", b"6789").finish()
    with test.assertRaises(skiff.Refused) as caught:
        read_reply(messages(client), 0)
    test.assertEqual(caught.exception.code, "mismatch")
    body = Upload(messages(client), b"write 4 9 - d", skiff.crc32c(b"1234"))
    body.send(b"56789")
    body.finish()
    test.assertEqual(read_reply(messages(client), 2), ["9", "e3069283"])


def write_then_command_in_body(test: Test, client: Client) -> None:
    trailer = b"crc32c 00000000"
    test.assertEqual(refusal(test, client, b"write", b"remove keep", b"", trailer), "bad-command")
    test.assertEqual(client.stat("keep").size, 1)


Files = List[Tuple[bytes, bytes]]
Vector = Tuple[Callable[[Test, Client], None], Files, Files]
#: The client's side, the store before, and what has to be in it afterwards.
TABLE: Dict[str, Vector] = {
    "bad-length": (bad_length, [], []),
    "classic-get": (classic_get, [(b"teste.txt", b"hello\n")], []),
    "classic-ls": (classic_ls, [(b"a.txt", b""), (b"b.txt", b""), (b".hidden", b"")], []),
    "classic-ls-empty": (classic_ls_empty, [], []),
    "classic-put": (classic_put, [], [(b"teste.txt", b"a" * 711)]),
    "classic-put-accents": (classic_put_accents, [], [(b"a.txt", "olá!\n".encode())]),
    "classic-put-path": (classic_put_path, [(b"teste.txt", b"")], [(b"teste(1).txt", b"x")]),
    "classic-put-too-much": (classic_put_too_much, [], []),
    "classic-refused": (classic_refused, [], []),
    "copy": (copy, [(b"a", b"1"), (b"b", b"old")], [(b"a", b"2"), (b"b", b"1")]),
    "hello": (hello, [], []),
    "list-omitted": (list_omitted, [(b"keep", b"x"), (b"\xff1", b""), (b"\xff2", b"")], []),
    "pipeline": (pipeline, [], []),
    "rename-directory": (rename_directory, [(b"d/a", b"1"), (b"e/", b"")], [(b"f/g/a", b"1")]),
    "tree": (tree, [(b"keep", b"x"), (b"\xff1", b"")], []),
    "write-chunks": (write_chunks, [], [(b"d", b"123456789")]),
    "write-empty": (write_empty, [], [(b"empty", b"")]),
    "write-mismatch": (write_mismatch, [(b"d", b"good")], [(b"d", b"good")]),
    "write-read": (write_read, [], [(b"a b.txt", b"hello\n")]),
    "write-refused": (write_refused, [], []),
    "write-resume": (write_resume, [], [(b"d", b"123456789")]),
    "write-then-command-in-body": (write_then_command_in_body, [(b"keep", b"x")], [(b"keep", b"x")]),
}


def connect(port: int, name: str) -> Client:
    client = skiff.connect("127.0.0.1", port, timeout=LIMIT, retries=0)
    if name.startswith("classic"):
        client._server = Server(extended=False)
    return client


class Vectors(unittest.TestCase):
    def test_every_vector_is_in_the_table(self) -> None:
        self.assertEqual(sorted(TABLE), sorted(path.stem for path in VECTORS.glob("*.txt")))

    def test_the_client_sends_what_the_vectors_say(self) -> None:
        for name, (play, _, _) in TABLE.items():
            with self.subTest(name):
                player = Player(VECTORS / f"{name}.txt", name.startswith("classic"))
                with player.listener as listener, contextlib.closing(connect(listener.port, name)) as client:
                    play(self, client)
                self.assertTrue(player.finished)

    def on_servers(self, serve: Callable[[str], contextlib.AbstractContextManager[int]], leave_out: List[str]) -> None:
        for name, (play, before, after) in TABLE.items():
            if name in leave_out:
                continue
            with self.subTest(name), temporary() as root:
                for file, content in before:
                    path = Path(os.fsdecode(os.fsencode(root) + b"/" + file))
                    path.parent.mkdir(exist_ok=True)
                    if file.endswith(b"/"):
                        path.mkdir()
                    else:
                        path.write_bytes(content)
                with serve(root) as port:
                    with contextlib.closing(connect(port, name)) as client:
                        play(self, client)
                    with contextlib.closing(skiff.connect("127.0.0.1", port)) as client:
                        for file, content in after:
                            self.assertEqual(client.read_bytes(file.decode()), content)
                        left = {entry.name.encode() for entry in client.list()}
                        hidden = {b".hidden", b"\xff1", b"\xff2", b"d"}
                        roots = {file.split(b"/")[0] for file, _ in [*before, *after]}
                        self.assertEqual(left - hidden, roots - hidden)

    def test_host_serv_passes_the_vectors(self) -> None:
        self.on_servers(host_serv, [])

    def test_device_serv_passes_the_vectors(self) -> None:
        @contextlib.contextmanager
        def serve(root: str) -> Iterator[int]:
            with device_serv("--preload", root) as port:
                yield port

        self.on_servers(serve, ["list-omitted", "rename-directory", "tree"])


if __name__ == "__main__":
    unittest.main()
