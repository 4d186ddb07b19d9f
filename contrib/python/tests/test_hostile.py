"""Servers that break the protocol, go silent or leave: a clear error each time, and no local file."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import unittest
from typing import Callable, List, Tuple, Type

import skiff
from skiff.messages import Messages, read_reply
from skiff.stream import Stream
from support import LIMIT, Listener, answer_hello, message, receive, reset, temporary, until_end

Call = Callable[[skiff.Client], object]


def says(*pieces: bytes, then: Callable[[socket.socket], None] = until_end) -> Callable[[socket.socket], None]:
    """A server that says this, whatever it is asked."""

    def serve(connection: socket.socket) -> None:
        answer_hello(connection)
        connection.sendall(b"".join(pieces))
        then(connection)

    return serve


def closes(connection: socket.socket) -> None:
    connection.recv(65_536)


CRC = b"crc32c %08x" % skiff.crc32c(b"hello")
OPENED = message(b"ok 5 5 t")
END = message(b"")
BODY = OPENED + message(b"hello") + END


class Impatient(skiff.Client):
    """Times out soon, but not before the hello: the listener's thread may need longer to answer that."""

    def reconnect(self) -> None:
        super().reconnect()
        assert self._messages is not None
        self._messages.stream._timeout = 0.5


def connect(listener: Listener, client: Type[skiff.Client] = skiff.Client) -> skiff.Client:
    connected = client("127.0.0.1", listener.port, LIMIT, LIMIT, 0)
    connected.reconnect()
    return connected


class Hostile(unittest.TestCase):
    def setUp(self) -> None:
        folder = temporary()
        self.addCleanup(folder.cleanup)
        self.here = folder.name

    def fails(self, serve: Callable[[socket.socket], None], call: Call, error: Type[BaseException]) -> BaseException:
        with Listener(serve) as listener:
            kind = Impatient if error is skiff.TimedOut else skiff.Client
            with contextlib.closing(connect(listener, kind)) as client:
                with self.assertRaises(error) as caught:
                    call(client)
        # What arrived before may stay for a later transfer, which checks it.
        for name in os.listdir(self.here):
            self.assertTrue(name.endswith(".skiff-part") or not os.listdir(os.path.join(self.here, name)), name)
        self.assertNotIn("\n", str(caught.exception))
        return caught.exception

    def get(self, client: skiff.Client) -> object:
        return client.get("x", os.path.join(self.here, "x"))

    def test_replies_that_break_the_protocol(self) -> None:
        table: List[Tuple[bytes, Type[BaseException]]] = [
            (b"+000000002ok", skiff.ProtocolError),
            (b"00000000 2ok", skiff.ProtocolError),
            (b"\xff" * 10, skiff.ProtocolError),
            (b"9999999999ok", skiff.ProtocolError),
            (message(b""), skiff.ProtocolError),
            (message(b"OK 5 5 t"), skiff.ProtocolError),
            (message(b"okay 5 5 t"), skiff.ProtocolError),
            (message(b"ok"), skiff.ProtocolError),
            (message(b"ok 5"), skiff.ProtocolError),
            (message(b"ok  5 5 t"), skiff.ProtocolError),
            (message(b"ok 5 5 T"), skiff.ProtocolError),
            (message(b"ok -1 5 t"), skiff.ProtocolError),
            (message(b"ok 99999999999999999999 5 t"), skiff.ProtocolError),
            (message(b"ok 6 5 t"), skiff.ProtocolError),
            (message(b"ok 5 5 \xff"), skiff.ProtocolError),
            (message(b"error"), skiff.ProtocolError),
            (message(b"error not-found"), skiff.NotFound),
            (message(b"error never-heard-of \x1b[2J text"), skiff.Refused),
        ]
        for reply, error in table:
            with self.subTest(reply):
                seen = self.fails(says(reply, reply), lambda client: client.read_bytes("x"), error)
                self.assertNotIn("\x1b", str(seen))

    def test_bodies_that_break_the_protocol(self) -> None:
        table: List[Tuple[bytes, Type[BaseException]]] = [
            (OPENED + message(b"hello!"), skiff.ProtocolError),
            (OPENED + message(b"hell") + message(b"o!"), skiff.ProtocolError),
            (OPENED + b"9999999999", skiff.ProtocolError),
            (OPENED + b"-000000005", skiff.ProtocolError),
            (OPENED + message(b"hell") + END + message(CRC), skiff.VerificationFailed),
            (BODY + message(b"crc32c 00000001"), skiff.VerificationFailed),
            (BODY + message(b"crc32c"), skiff.ProtocolError),
            (BODY + message(b"crc32c E3069283"), skiff.ProtocolError),
            (BODY + message(b"crc16 0000"), skiff.ProtocolError),
            (BODY + message(b"crc32c " + b"0" * 600), skiff.ProtocolError),
            (BODY + message(b"abort changed it did"), skiff.Refused),
            (BODY + message(b"abort io"), skiff.Refused),
            (BODY + message(b"abort"), skiff.ProtocolError),
        ]
        stat = message(b"ok 5 - -")
        for answer, error in table:
            with self.subTest(answer):
                self.fails(says(stat, answer), self.get, error)

    def test_servers_that_leave_or_go_silent(self) -> None:
        whole = message(b"ok 5 - -") + BODY + message(CRC)
        for length in range(len(whole)):
            self.fails(says(whole[:length], then=closes), self.get, skiff.ConnectionLost)
        for length in (0, 5, 10, 40, 55):
            with self.subTest(length):
                self.fails(says(whole[:length]), self.get, skiff.TimedOut)
                self.fails(says(whole[:length], then=reset), self.get, skiff.ConnectionLost)

    def test_listings_that_break_the_protocol(self) -> None:
        for line in (b"1 - - ../x\n", b"1 - - /etc/passwd\n", b"1 - - a/b\n", b"1 - - \xff\n", b"1 - - a", b"x\n"):
            with self.subTest(line):
                answer = message(b"ok") + message(line) + END + message(b"crc32c -")
                self.fails(says(answer), lambda client: client.list(), skiff.ProtocolError)
        self.fails(says(message(b"ok") + b"0999999999"), lambda client: client.list(), skiff.ProtocolError)

    def test_pull_writes_nothing_outside_its_directory(self) -> None:
        inside = os.path.join(self.here, "target")
        os.mkdir(inside)
        for name in (b"../evil", b"/tmp/evil", b"d/../../evil", b".skiff-x"):
            answer = message(b"ok") + message(b"1 - - " + name + b"\n") + END + message(b"crc32c -")
            self.fails(says(answer), lambda client: skiff.pull(client, "", inside), skiff.ProtocolError)

    def test_uploads_that_are_refused_early_or_cut(self) -> None:
        data = b"x" * 5_000_000

        def refuses(connection: socket.socket) -> None:
            answer_hello(connection)
            self.assertEqual(receive(connection), b"write 0 5000000 - x")
            connection.sendall(message(b"error no-space full"))
            sent = 0
            while True:
                piece = receive(connection)
                if not piece:
                    break
                sent += len(piece)
            self.assertEqual(receive(connection)[:16], b"abort cancelled ")
            self.assertLess(sent, len(data))
            self.assertEqual(receive(connection), b"ping")
            connection.sendall(message(b"ok"))

        with Listener(refuses) as listener:
            with contextlib.closing(skiff.connect("127.0.0.1", listener.port, timeout=5)) as client:
                with self.assertRaises(skiff.Refused) as caught:
                    client.write_bytes("x", data)
                self.assertEqual(caught.exception.code, "no-space")
                client.ping()
        write: Call = lambda client: client.write_bytes("x", data)  # noqa: E731
        self.fails(says(then=lambda connection: None), write, skiff.ConnectionLost)
        failed = threading.Event()
        with Listener(says(then=lambda connection: _ignore(failed.wait(LIMIT)))) as listener:
            with contextlib.closing(connect(listener, Impatient)) as client:
                self.assertRaises(skiff.TimedOut, write, client)
            failed.set()
        self.fails(
            says(message(b"ok 5000000 00000000")), lambda client: client.write_bytes("x", b"1"), skiff.SkiffError
        )

    def test_what_is_no_skiff_server(self) -> None:
        def greets(connection: socket.socket) -> None:
            connection.sendall(b"220 ready\r\n")
            until_end(connection)

        def web(connection: socket.socket) -> None:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        for serve, error in (
            (greets, skiff.ProtocolError),
            (web, skiff.ProtocolError),
            (lambda connection: None, skiff.CannotConnect),
            (until_end, skiff.CannotConnect),
            (lambda connection: answer_hello(connection, b"skiff/2 x"), skiff.ProtocolError),
            (lambda connection: answer_hello(connection, b"error denied no"), skiff.CannotConnect),
        ):
            with Listener(serve) as listener, self.assertRaises(error):
                skiff.connect("127.0.0.1", listener.port, timeout=0.3 if serve is until_end else LIMIT)
        with self.assertRaises(skiff.CannotConnect):
            skiff.connect("no such host.invalid", 1, connect_timeout=1)

    def test_the_hello_may_hold_anything_unknown(self) -> None:
        hello = b"skiff/1 future name-max=x idle=99999999999999 commands= server=a=b name-max=5 nocrc=2"
        with Listener(lambda connection: answer_hello(connection, hello)) as listener:
            with contextlib.closing(skiff.connect("127.0.0.1", listener.port, timeout=5)) as client:
                self.assertEqual(client.server, skiff.Server(True, server="a=b"))

    def test_damaged_conversations_end_in_an_error_or_the_right_bytes(self) -> None:
        whole = message(b"ok 5 1700000000 -") + BODY + message(CRC) + message(b"ok 5 353dd8be")
        source = random.Random(18)
        for _ in range(3000):
            data = bytearray(whole)
            for _ in range(source.randrange(1, 4)):
                at = source.randrange(len(data))
                kind = source.randrange(3)
                if kind == 0:
                    data[at] = source.choice(b"0123456789 ok\n\xff\0" + bytes([source.randrange(256)]))
                elif kind == 1:
                    del data[at : at + source.randrange(1, 12)]
                else:
                    data[at:at] = data[source.randrange(len(data)) :][: source.randrange(1, 12)]
            here, there = socket.socketpair()
            with there, contextlib.closing(Stream(here, 5)) as stream:
                there.sendall(data)
                there.shutdown(socket.SHUT_WR)
                messages = Messages(stream)
                with contextlib.suppress(skiff.SkiffError):
                    read_reply(messages, 3)
                    client = skiff.Client("", 0, 5, 5, 0)
                    client._messages, client._server = messages, skiff.Server(True)
                    self.assertEqual(client.read_bytes("x"), b"hello")


def _ignore(_: object) -> None:
    pass


if __name__ == "__main__":
    unittest.main()
