"""The dissector with tshark: a capture of each vector, and captures that are cut, shuffled and damaged.

python3 -m unittest discover -s contrib/wireshark/tests
SKIFF_WRITE_EXPECTED=1 ...      rewrites the expected output
SKIFF_MUTATIONS=2000 ...        tries so many damaged conversations (2000)
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import List, Optional, Tuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), *(str(HERE.parents[1] / "python" / name) for name in ("src", "tests"))]

from pcap import Capture, Connection  # noqa: E402
from skiff import crc32c  # noqa: E402
from support import VECTORS, message, temporary  # noqa: E402
from vectors import Wildcards, steps  # noqa: E402

SCRIPT = HERE.parent / "skiff.lua"
COLUMNS = 'gui.column.format:"No.","%m","Time","%t","From","%uS","Info","%i"'
CONTROL, DATA = 50_000, 62_346

#: A step of a conversation: control or data connection, from the server, and what; `None` closes.
Sent = Tuple[str, bool, Optional[bytes]]


def conversation(path: Path) -> List[Sent]:
    wildcards = Wildcards()
    found: List[Sent] = []
    last = True
    for step in steps(path):
        channel = "control" if step.who in "CS" else "data"
        server = step.who in ("S", "D<")
        if step.what == "send":
            last = server
            found.append((channel, server, wildcards.fill(step.strings, DATA)))
        elif step.what == "close":
            found.append((channel, last if step.who == "D" else server, None))
    return found


def sealed_conversation() -> List[Sent]:
    """secure/session.txt: the hello and the handshake, then ping, a write and a read, each with its reply."""
    found: List[Sent] = []
    records = {}
    for line in (VECTORS / "secure" / "session.txt").read_text("ascii").splitlines():
        if match := re.fullmatch(r'([CS]): "(\d+)" "(.*)"', line):
            found.append(("control", match[1] == "S", (match[2] + match[3]).encode()))
        elif match := re.fullmatch(r'([CS]\d) ".*" +(\d{10}) ([0-9a-f]+)', line):
            records[match[1]] = match[2].encode() + bytes.fromhex(match[3])
    for which in "C0 S0 C1 C2 C3 C4 S1 C5 S2 S3 S4 S5 C6".split():
        found.append(("control", which[0] == "S", records.pop(which)))
    assert not records
    return found


def joined(sent: List[Sent]) -> List[Sent]:
    """Consecutive messages of one side become one write."""
    found: List[Sent] = []
    for channel, server, data in sent:
        before = found[-1] if found else ("", False, None)
        if data is not None and before[:2] == (channel, server) and before[2] is not None:
            found[-1] = (channel, server, before[2] + data)
        else:
            found.append((channel, server, data))
    return found


def play(capture: Capture, sent: List[Sent], client_port: int, segment: int = 1460) -> None:
    ports = {"control": (client_port, CONTROL), "data": (client_port + 5_000, DATA)}
    connections = {}
    for channel, server, data in sent:
        if channel not in connections:
            connections[channel] = Connection(capture, *ports[channel])
            ports[channel] = (ports[channel][0] + 1, ports[channel][1])
        if data is not None:
            connections[channel].send(server, data, segment)
        else:
            connections[channel].close(server)
            del connections[channel]


def tshark(path: Path, *options: str) -> str:
    program = shutil.which("tshark")
    if program is None:
        raise unittest.SkipTest("tshark is not installed")
    with temporary() as home:
        # Without the settings and plugins of the user.
        environment = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home, LC_ALL="C.UTF-8", TZ="UTC")
        command = [program, "-n", "-X", f"lua_script:{SCRIPT}", "-r", str(path), *options]
        ran = subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False)
    out, err = ran.stdout.decode("utf-8", "replace"), ran.stderr.decode("utf-8", "replace")
    if "Unrecognized" in err and "lua_script" in err:
        raise unittest.SkipTest("this tshark has no Lua")
    if ran.returncode or "Lua" in err or "Lua Error" in out or "Dissector bug" in out:
        at = out.find("Lua Error")
        raise AssertionError(f"{path}: {ran.returncode}\n{err}\n{out[max(0, at - 1000) : at + 500] if at >= 0 else ''}")
    return out


def lines(path: Path, *options: str) -> List[str]:
    out = tshark(path, "-Y", "skiff", "-o", COLUMNS, *options)
    return [line.strip() for line in out.splitlines()]


def said(shown: List[str]) -> List[str]:
    """What the lines say, without numbers, times and progress."""
    found = []
    for line in shown:
        info = line.split(None, 3)[3] if len(line.split(None, 3)) > 3 else ""
        for piece in info.split(" | "):
            piece = piece.split(" [")[0]
            if not piece.startswith("data of") and not piece.startswith("[TCP segment") and piece:
                found.append(piece)
    return found


class Dissector(unittest.TestCase):
    def setUp(self) -> None:
        folder = temporary()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "capture.pcap")

    def write(self, sent: List[Sent], segment: int = 1460) -> Path:
        capture = Capture()
        play(capture, sent, 40_000, segment)
        capture.write(self.path)
        return self.path

    def test_each_vector_is_shown_as_expected(self) -> None:
        conversations = {path.name: conversation(path) for path in sorted(VECTORS.glob("*.txt"))}
        conversations["secure-session.txt"] = sealed_conversation()
        for name, sent in conversations.items():
            with self.subTest(name):
                shown = "".join(line + "\n" for line in lines(self.write(sent)))
                expected = HERE / "expected" / name
                if "SKIFF_WRITE_EXPECTED" in os.environ:
                    expected.write_text(shown, "utf-8")
                self.assertEqual(shown, expected.read_text("utf-8"))

    def test_the_pages_show_what_tshark_shows(self) -> None:
        example = r"^\$ tshark [^\n]* -r ([a-z-]+)\.pcap -Y skiff\n((?:\d[^\n]*\n)+)"
        for page in (HERE.parent / "README.md", HERE.parents[2] / "docs" / "wireshark.txt"):
            examples = re.findall(example, page.read_text("utf-8"), re.MULTILINE)
            self.assertEqual(len(examples), 2)
            for name, shown in examples:
                self.assertEqual((HERE / "expected" / f"{name}.txt").read_text("utf-8"), shown)

    def test_it_does_not_matter_how_tcp_cuts_and_joins(self) -> None:
        # Ten bytes that are no length are not recognized, whatever their segments.
        vectors = [path for path in sorted(VECTORS.glob("*.txt")) if path.stem != "bad-length"]

        def shown(segment: int, join: bool, *options: str) -> List[str]:
            capture = Capture()
            for number, vector in enumerate(vectors):
                sent = conversation(vector)
                play(capture, joined(sent) if join else sent, 30_000 + 100 * number, segment)
            capture.write(self.path)
            return said(lines(self.path, *options))

        whole = shown(1460, join=False)
        self.assertGreater(len(whole), 80)
        for segment in (1460, 50, 16, 7, 1):
            with self.subTest(segment=segment):
                # Too little to recognize the protocol by: say so.
                chosen = ["-d", f"tcp.port=={CONTROL},skiff", "-d", f"tcp.port=={DATA},skiff"]
                self.assertEqual(shown(segment, True, *(chosen if segment < 16 else [])), whole)

    def test_two_passes_show_the_same_and_the_frames_of_replies(self) -> None:
        path = self.write(conversation(VECTORS / "pipeline.txt"))
        self.assertEqual(lines(path, "-2"), lines(path))
        self.assertIn("[Reply in: 15]", tshark(path, "-2", "-O", "skiff", "-Y", "skiff.verb == rename"))
        out = tshark(path, "-O", "skiff", "-Y", "skiff.reply")
        self.assertIn("[Command in: 8]", out)
        self.assertIn("[Reply time in seconds: 0.007", out)

    def test_data_connections_and_their_commands_are_linked(self) -> None:
        path = self.write(conversation(VECTORS / "classic-put.txt"))
        self.assertIn("[Data connection (tcp.stream): 1]", tshark(path, "-2", "-O", "skiff", "-Y", "skiff.command"))
        out = tshark(path, "-O", "skiff", "-Y", "skiff.data")
        self.assertIn("[Command in: 4]", out)
        self.assertIn("[Control connection (tcp.stream): 0]", out)

    def test_long_content_is_checked_without_being_reassembled(self) -> None:
        content = random.Random(1).getrandbits(8 * 300_000).to_bytes(300_000, "little")
        body = message(content) + message(b"") + message(b"crc32c %08x" % crc32c(content))
        sent: List[Sent] = [("control", False, message(b"write 0 300000 - big") + body)]
        sent.append(("control", True, message(b"ok 300000 %08x" % crc32c(content))))
        shown = lines(self.write(sent))
        self.assertEqual(len(shown), -(-len(sent[0][2] or b"") // 1460) + 1)
        self.assertIn(f"write big: 300000 bytes, crc32c {crc32c(content):08x}, correct", shown[-2])
        self.assertIn(f"write big: ok 300000 {crc32c(content):08x} [1.000 ms]", shown[-1])

    def test_sealed_connections_are_shown_as_records(self) -> None:
        noise = bytes(range(200))
        shown = said(lines(self.write([
            ("control", False, message(b"secure Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s") + message(noise[:48])),
            ("control", True, message(noise[:48])),
            ("control", False, message(noise)),
        ])))  # fmt: skip
        records = ["sealed record, 48 bytes", "sealed record, 48 bytes", "sealed record, 200 bytes"]
        self.assertEqual(shown[1:], records)

    def test_what_is_not_skiff_is_left_alone(self) -> None:
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"0000000004abcd", b"1234567890", b"\0" * 100, b"000000000"):
            self.assertEqual(said(lines(self.write([("control", False, data)]))), [])

    def test_names_can_not_control_the_terminal(self) -> None:
        for name in (b"\x1b[2J", b"\xff\xfe", "\u202eabc".encode(), "\x9b".encode(), b"a\tb"):
            out = tshark(self.write([("control", False, message(b"stat " + name))]), "-O", "skiff")
            self.assertIn("Command: stat ", out)
            for char in "\x1b\u202e\x9b\ufffd\t":
                self.assertNotIn(char, out)

    def test_damaged_captures_raise_no_lua_error(self) -> None:
        wanted = int(os.environ.get("SKIFF_MUTATIONS", "2000"))
        conversations = [*(conversation(path) for path in sorted(VECTORS.glob("*.txt"))), sealed_conversation()]
        for start in range(0, wanted, 100):
            source = random.Random(start)
            capture = Capture()
            for number in range(start, min(start + 100, wanted)):
                sent = mutated(source, conversations[number % len(conversations)])
                play(capture, sent, 20_000 + 10 * (number % 100), source.choice((1460, 40, 11)))
            for _ in range(source.randrange(40)):
                shuffle(source, capture)
            capture.write(self.path, source.choice((65_535, 65_535, 90)))
            with self.subTest(start=start):
                options = ["-d", f"tcp.port=={CONTROL},skiff"] if source.randrange(2) else []
                tshark(self.path, "-V", *options, *(["-2"] if source.randrange(3) == 0 else []))


def mutated(source: random.Random, sent: List[Sent]) -> List[Sent]:
    """A conversation with steps that are damaged, missing, doubled or in another order."""
    sent = list(sent)
    for _ in range(source.randrange(1, 5)):
        at = source.randrange(len(sent))
        channel, server, data = sent[at]
        kind = source.randrange(7)
        if kind == 0 and len(sent) > 1:
            del sent[at]
        elif kind == 1:
            sent.insert(source.randrange(len(sent)), sent[at])
        elif kind == 2:
            sent[at] = (channel, not server, data)
        elif data:
            piece = bytearray(data)
            spot = source.randrange(len(piece))
            if kind == 3:
                piece[spot] = source.randrange(256)
            elif kind == 4:
                piece[spot] = source.choice(b"0123456789- \n")
            elif kind == 5:
                del piece[spot : spot + source.randrange(1, 20)]
            else:
                piece[spot:spot] = bytes(source.choices(range(256), k=source.randrange(1, 30)))
            sent[at] = (channel, server, bytes(piece))
    return sent


def shuffle(source: random.Random, capture: Capture) -> None:
    """Loses, doubles or moves a frame, or damages a byte of it."""
    frames = capture.frames
    at = source.randrange(len(frames))
    kind = source.randrange(4)
    if kind == 0:
        del frames[at]
    elif kind == 1:
        frames.insert(at, frames[at])
    elif kind == 2:
        frames.insert(source.randrange(len(frames)), frames.pop(at))
    else:
        frame = bytearray(frames[at])
        frame[source.randrange(len(frame))] ^= 1 << source.randrange(8)
        frames[at] = bytes(frame)


if __name__ == "__main__":
    unittest.main()
