"""Classic servers: the stand-in for the original one, and scripts."""

from __future__ import annotations

import contextlib
import socket
import unittest
from pathlib import Path
from typing import Callable, Tuple

import skiff
from support import Listener, answer_hello, classic_serv, cli, exactly, message, receive, reset, temporary, until_end


class Original(unittest.TestCase):
    def test_text_goes_there_and_back(self) -> None:
        with temporary() as root, temporary() as here, classic_serv(root) as port:
            with contextlib.closing(skiff.connect("127.0.0.1", port)) as client:
                self.assertFalse(client.server.extended)
                text = "olá, ça va? ".encode() * 9000
                local = Path(here, "t.txt")
                local.write_bytes(text)
                done = client.put(local)
                self.assertEqual((done.size, done.verified), (len(text), False))
                self.assertEqual(Path(root, "t.txt").read_bytes(), text)
                client.write_bytes("empty", b"")
                self.assertEqual(client.ls(), ["empty", "t.txt"])
                back = client.get("t.txt", here)
                self.assertEqual((back.local, back.verified), (str(Path(here, "t(1).txt")), False))
                self.assertEqual(Path(here, "t(1).txt").read_bytes(), text)
                self.assertEqual(client.read_bytes("empty"), b"")
                self.assertGreater(client.ping(), 0)

    def test_what_it_can_not_do_is_said(self) -> None:
        with temporary() as root, classic_serv(root) as port:
            with contextlib.closing(skiff.connect("127.0.0.1", port)) as client:
                with self.assertRaises(skiff.NotText):
                    client.write_bytes("x", b"\xff\xfe")
                for name in ("a b", "ä"):
                    with self.assertRaises(skiff.Refused):
                        client.write_bytes(name, b"")
                with self.assertRaises(skiff.NotFound):
                    client.read_bytes("none")
                for call in (client.space, client.list, lambda: client.stat("x"), lambda: client.ls("d")):
                    self.assertRaises(skiff.NeedsExtended, call)
                self.assertEqual(client.ls(), [])

    def test_the_program_works_with_it(self) -> None:
        with temporary() as root, temporary() as here, classic_serv(root) as port:
            Path(here, "a.txt").write_text("hello")

            def run(*words: str) -> Tuple[int, bytes, bytes]:
                ran = cli("127.0.0.1", str(port), *words, cwd=here)
                return ran.returncode, ran.stdout, ran.stderr

            code, out, err = run("put", "a.txt")
            self.assertEqual((code, err), (0, b""))
            self.assertIn(b"sent (this server does not confirm)", out)
            self.assertEqual(run("ls"), (0, b"a.txt\n", b""))
            self.assertEqual(run("cat", "a.txt"), (0, b"hello", b""))
            self.assertEqual(run("df")[0], 1)
            self.assertIn(b"protocol  classic", run("info")[1])


class Scripted(unittest.TestCase):
    def get(self, data: Callable[[socket.socket], None]) -> bytes:
        """A `get` whose data connection is served by `data`."""
        with Listener(data) as listener:

            def control(connection: socket.socket) -> None:
                answer_hello(connection, b"-1")
                self.assertEqual(receive(connection), b"get f")
                connection.sendall(message(b"%d" % listener.port))
                until_end(connection)

            with Listener(control) as server:
                with contextlib.closing(skiff.connect("127.0.0.1", server.port, timeout=2)) as client:
                    return client.read_bytes("f")

    def test_a_length_counts_bytes_or_characters(self) -> None:
        for data in (b"0000000005ol\xc3\xa1!\n", b"0000000006ol\xc3\xa1!\n", b"0000000000", b"0000000002\xff\xff"):
            self.assertEqual(self.get(lambda connection: connection.sendall(data)), data[10:])  # noqa: B023

    def test_anything_else_is_an_error(self) -> None:
        table = (b"", b"00000", b"0000000003ol\xc3\xa1!\n", b"0000000009abc", b"0000000003\xff", b"x000000003abc")
        for data in table:
            with self.subTest(data), self.assertRaises(skiff.SkiffError):
                self.get(lambda connection: connection.sendall(data))  # noqa: B023

        def cut(connection: socket.socket) -> None:
            connection.sendall(b"0000000003ab")
            reset(connection)

        with self.assertRaises(skiff.DataConnectionFailed):
            self.get(cut)

    def test_ports_and_listings_that_are_none(self) -> None:
        def call(reply: bytes, what: Callable[[skiff.Client], object]) -> None:
            def control(connection: socket.socket) -> None:
                answer_hello(connection, b"-1")
                connection.sendall(reply)
                until_end(connection)

            with Listener(control) as server:
                with contextlib.closing(skiff.connect("127.0.0.1", server.port, timeout=2)) as client:
                    what(client)

        for port in (b"", b"0", b"65536", b"-2", b"+1", b"12345678901234567890", b"x"):
            with self.subTest(port), self.assertRaises(skiff.ProtocolError):
                call(message(port), lambda client: client.read_bytes("f"))
        for listing in (message(b"\xff\xff"), b"9999999999"):
            with self.assertRaises(skiff.ProtocolError):
                call(listing, lambda client: client.ls())
        # Characters, not bytes; and any number of line ends.
        call(b"0000000005\xc3\xa4\nb\n\n", lambda client: self.assertEqual(client.ls(), ["b", "ä"]))

    def test_an_upload_that_the_server_resets_has_failed(self) -> None:
        def drops(connection: socket.socket) -> None:
            exactly(connection, 10)
            reset(connection)

        with Listener(drops) as data:

            def control(connection: socket.socket) -> None:
                answer_hello(connection, b"-1")
                receive(connection)
                connection.sendall(message(b"%d" % data.port))
                until_end(connection)

            with Listener(control) as server:
                with contextlib.closing(skiff.connect("127.0.0.1", server.port, timeout=2)) as client:
                    with self.assertRaises(skiff.DataConnectionFailed):
                        client.write_bytes("f", b"x" * 1_000_000)


if __name__ == "__main__":
    unittest.main()
