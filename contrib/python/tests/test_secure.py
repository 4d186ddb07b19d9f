"""Keys and encryption (PROTOCOL section 8): the vector, and connections to host-serv and device-serv."""

from __future__ import annotations

import os
import socket
import subprocess
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

import skiff
from skiff.secure import Handshake, Sealed
from skiff.stream import Stream
from support import LIMIT, VECTORS, Link, cli, cut, device_serv, flip, host_serv, program, temporary

try:
    import cryptography  # noqa: F401
except ImportError:
    raise unittest.SkipTest("no package cryptography (pip install 'skiff-client[secure]')") from None


class Vector(unittest.TestCase):
    """secure/session.txt: what each side sends, byte for byte."""

    def setUp(self) -> None:
        self.values: Dict[str, str] = {}
        self.said: Dict[str, List[bytes]] = {"C": [], "S": []}
        self.records: Dict[str, Tuple[bytes, bytes]] = {}
        for line in (VECTORS / "secure" / "session.txt").read_text("ascii").splitlines():
            words = line.split('"')
            if line.startswith(("C: ", "S: ")):
                self.said[line[0]].append(words[3].encode())
            elif line[:1] in ("C", "S") and line[1:2].isdigit():
                length, record = words[2].split()
                self.records[line[:2]] = (words[1].encode().replace(b"\\n", b"\n"), bytes.fromhex(record))
                self.assertEqual(int(length), len(record) // 2)
            elif line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                self.values[name.strip()] = value

    def test_the_handshake_and_every_record_are_those_of_the_vector(self) -> None:
        hello = self.said["S"][0]
        ephemeral = bytes.fromhex(self.values["client e secret"])
        handshake = Handshake("rw.alice.1", bytes.fromhex(self.values["PSK"]), hello, ephemeral)
        self.assertEqual(handshake.command, self.said["C"][1])
        up, down = handshake.finish(self.said["S"][1])
        self.assertEqual((up.hex(), down.hex()), (self.values["k client to server"], self.values["k server to client"]))
        ours, theirs = socket.socketpair()
        with theirs:
            client = Sealed(Stream(ours, LIMIT), (up, down), 1014)
            for at in range(7):
                plain, record = self.records[f"C{at}"]
                client.send(plain)
                self.assertEqual(theirs.recv(4096), b"%010d" % len(record) + record)
            for at in range(6):
                plain, record = self.records[f"S{at}"]
                theirs.sendall(b"%010d" % len(record) + record)
                self.assertEqual(client.receive(4096), plain)
            # An altered record, and lengths that no record has.
            _, record = self.records["S0"]
            theirs.sendall(b"%010d" % len(record) + record)
            with self.assertRaises(skiff.ProtocolError):
                client.receive(4096)
            for length in (15, 1015):
                theirs.sendall(b"%010d" % length)
                with self.assertRaises(skiff.ProtocolError):
                    client.receive(4096)
            client.stream.close()

    def test_another_tag_is_not_accepted(self) -> None:
        psk = bytes.fromhex(self.values["PSK"])
        ephemeral = bytes.fromhex(self.values["client e secret"])
        reply = self.said["S"][1]
        for wrong in (reply[:-1] + b"d", reply.replace(b"ok 4", b"ok 5"), b"ok " + b"0" * 96, b"ok", b"error denied x"):
            handshake = Handshake("rw.alice.1", psk, self.said["S"][0], ephemeral)
            with self.assertRaises(skiff.KeyRefused):
                handshake.finish(wrong)


class Servers(unittest.TestCase):
    def setUp(self) -> None:
        folder = temporary()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name)
        (self.here / "root").mkdir()
        self.secret = str(self.here / "secret")
        self.keys("key", "new", self.secret)
        for role in ("rw", "ro"):
            self.keys("key", "grant", "--secret", self.secret, "--role", role, "alice", "-o", str(self.here / role))

    def keys(self, *words: str) -> None:
        subprocess.run([program("host-cli"), *words], check=True, stdout=subprocess.DEVNULL)

    def test_files_go_both_ways_with_both_servers(self) -> None:
        content = os.urandom(300_000)
        root = str(self.here / "root")
        servers = (host_serv(root, "--secret", self.secret), device_serv("--secret", self.secret))
        for server in servers:
            with server as port, skiff.connect("127.0.0.1", port, key=self.here / "rw", timeout=LIMIT) as client:
                client.write_bytes("a b", content)
                self.assertEqual(client.read_bytes("a b"), content)
                self.assertEqual(client.read_bytes("a b", 100_000, 7), content[100_000:100_007])
                client.write_bytes("empty", b"")
                self.assertEqual(sorted(client.ls()), ["a b", "empty"])
                client.get("a b", self.here / "copy", replace=True)
                self.assertEqual((self.here / "copy").read_bytes(), content)
                with skiff.connect("127.0.0.1", port, key=self.here / "ro") as reader:
                    self.assertEqual(reader.stat("a b").size, len(content))
                    with self.assertRaises(skiff.Refused) as refused:
                        reader.remove("a b")
                    self.assertEqual(refused.exception.code, "denied")

    def test_a_cut_link_is_resumed_and_an_altered_one_is_noticed(self) -> None:
        content = os.urandom(400_000)
        with host_serv(str(self.here / "root"), "--secret", self.secret) as port:
            key = skiff.Key.read(self.here / "rw")
            with Link(port, up=cut(150_000)) as link, skiff.connect("127.0.0.1", link.port, key=key) as client:
                client.put(self.local(content), "f")
            with Link(port, down=cut(150_000)) as link, skiff.connect("127.0.0.1", link.port, key=key) as client:
                self.assertGreater(client.get("f", self.here / "down").resumed, 0)
            self.assertEqual((self.here / "down").read_bytes(), content)
            with Link(port, down=flip(100_000)) as link, skiff.connect("127.0.0.1", link.port, key=key) as client:
                with self.assertRaises(skiff.ProtocolError):
                    client.read_bytes("f")

    def local(self, content: bytes) -> str:
        (self.here / "local").write_bytes(content)
        return str(self.here / "local")

    def test_it_never_continues_unprotected(self) -> None:
        root = str(self.here / "root")
        with host_serv(root) as port, self.assertRaises(skiff.KeyRefused):
            skiff.connect("127.0.0.1", port, key=self.here / "rw")
        with host_serv(root, "--secret", self.secret) as port:
            other = str(self.here / "other")
            self.keys("key", "new", other)
            self.keys("key", "grant", "--secret", other, "alice", "-o", str(self.here / "wrong"))
            with self.assertRaises(skiff.KeyRefused):
                skiff.connect("127.0.0.1", port, key=self.here / "wrong")
            with skiff.connect("127.0.0.1", port) as client, self.assertRaises(skiff.Refused) as refused:
                client.ls()
            self.assertEqual(refused.exception.code, "denied")

    def test_the_program_takes_a_key_and_refuses_an_exposed_one(self) -> None:
        with host_serv(str(self.here / "root"), "--secret", self.secret) as port:
            self.local(b"hello")
            done = cli("127.0.0.1", str(port), "--key", "rw", "put", "local", cwd=str(self.here))
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            info = cli("127.0.0.1", str(port), "--key", "rw", "info", cwd=str(self.here))
            self.assertIn(b"rw.alice.1", info.stdout)
            os.chmod(self.here / "rw", 0o644)
            for key, why in (("rw", b"chmod 600"), ("secret", b"not a client's key"), ("none", b"No such file")):
                failed = cli("127.0.0.1", str(port), "--key", key, "ls", cwd=str(self.here))
                self.assertEqual(failed.returncode, 1)
                self.assertIn(why, failed.stderr)


if __name__ == "__main__":
    unittest.main()
