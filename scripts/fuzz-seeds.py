#!/usr/bin/env python3
"""Writes seed corpora for the fuzz targets from the wire vectors: scripts/fuzz-seeds.py [FOLDER]

FOLDER is fuzz/corpus unless given; one folder in it for each target. Files are named after their vectors, so running this
again changes nothing. What a script of operations looks like says fuzz/src/script.rs.
"""

import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"'}
# What a server could have said.
WILDCARDS = {"text": "no", "mtime": "1700000000", "crc": "353dd8be", "tag": "a1", "port": "50001"}
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\*(\d+))?')
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)")


def unescape(text):
    def one(match):
        what = match.group(1).decode()
        return bytes([int(what[1:], 16)]) if len(what) == 3 else ESCAPES[what]

    return ESCAPE.sub(one, text.encode())


def strings(rest):
    """The strings of a line, as bytes; a wildcard has become something that fits."""
    found = []
    for text, times in STRING.findall(rest):
        for name, value in WILDCARDS.items():
            text = text.replace(f"<{name}>", value)
        found.append(unescape(text) * int(times or 1))
    # A length that is a wildcard is that of what follows.
    return [b"%010d" % len(after) if text == b"<len>" else text for text, after in zip(found, found[1:] + [b""])]


def steps(path):
    for line in path.read_text().splitlines():
        who, _, rest = line.partition(" ")
        if who and not line.startswith("#"):
            yield who, rest, strings(rest)


def piece(payload):
    return struct.pack("<H", len(payload)) + payload


def write(folder, target, name, content):
    path = folder / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "fuzz" / "corpus"
    for path in sorted((ROOT / "docs" / "vectors").glob("*.txt")):
        name = path.stem
        sent, server, client = b"", b"", b""
        # A connection of the first computer to the control port, and what the client says on it. Before the operations: whether
        # the device asks for its address.
        frames = bytes([0, 0, 0, 1])
        data = 0
        for at, (who, rest, parts) in enumerate(steps(path)):
            for number, part in enumerate(parts):
                write(folder, "words", f"{name}-{at}-{number}", part)
            stream = b"".join(parts)
            if who == "C" and rest != "close":
                sent += stream
                server += bytes([0]) + piece(stream)
                frames += bytes([1, 0]) + piece(stream)
                # Commands are asked for; bodies the client makes itself.
                client += bytes([2]) + piece(parts[-1])
            elif who == "C":
                server += bytes([9])
                frames += bytes([3, 0])
            elif who == "S" and rest != "close":
                client += bytes([3]) + piece(stream)
            elif who == "S":
                client += bytes([8])
            elif rest == "connect":
                data += 1
                at = 1 + data % 2
                frames += bytes([0, at, 3])
            elif who == "D>":
                frames += bytes([1, 1 + data % 2]) + piece(stream)
            elif rest == "close" and who == "D":
                frames += bytes([3, 1 + data % 2])
        write(folder, "server", name, server)
        write(folder, "client", name, client)
        write(folder, "frames", name, frames)
        for cuts in ([1], [3, 7], [10, 13, 1, 64]):
            write(folder, "splits", f"{name}-{len(cuts)}", bytes([len(cuts), *cuts]) + sent)
    # A device that asks for its address: offered and acknowledged, refused, let run out; a client that speaks IPv6.
    offer, lease, refusal = (bytes([14, kind, 0]) + struct.pack("<HH", 60, 0) for kind in (0, 1, 2))
    wait = bytes([15]) + struct.pack("<H", 61_000)
    said = bytes([0, 6, 1, 1, 6]) + piece(b"0000000004quit")
    for name, what in {"lease": offer + lease + wait, "refusal": offer + refusal + offer + lease, "ipv6": said}.items():
        write(folder, "frames", f"dhcp-{name}", bytes([1]) + what)
    # A serial line: the bytes that each end receives, and faults for a line between two ends.
    heard = {"C": b"", "S": b""}
    for line in (ROOT / "docs" / "vectors" / "serial" / "session.txt").read_text().splitlines():
        if line.startswith(("C ", "S ")):
            who = line[0]
        elif line.startswith("= "):
            heard[who] += bytes.fromhex(line[2:])
        elif line.startswith("~"):
            heard[line[1]] += bytes.fromhex(line[2:])
    write(folder, "serial", "client", bytes([0]) + heard["S"])
    write(folder, "serial", "server", bytes([1]) + heard["C"])
    write(folder, "serial", "faults", bytes([2, *range(256)]))
    # Queries to a device: its service, its address, all services; a claim to its name; a probe for it.
    service, host = b"\x06_skiff\x04_tcp\x05local\0", b"\x03lab\x05local\0"
    address = b"\xc0\x0c\0\x01\0\x01\0\0\0x\0\x04\x0a\0\0\x09"
    messages = {
        "browse": struct.pack(">6H", 0, 0, 1, 0, 0, 0) + service + b"\0\x0c\0\x01",
        "known": struct.pack(">6H", 0, 0, 1, 1, 0, 0) + service + b"\0\x0c\0\x01\xc0\x0c\0\x0c\0\x01\0\0\x11\x94\0\x06\x03lab\xc0\x0c",
        "resolve": struct.pack(">6H", 7, 0, 1, 0, 0, 0) + host + b"\0\x01\x80\x01",
        "services": struct.pack(">6H", 0, 0, 1, 0, 0, 0) + b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\xff\0\xff",
        "claim": struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + host + address[2:],
        "probe": struct.pack(">6H", 0, 0, 1, 0, 1, 0) + host + b"\0\xff\x80\x01" + address,
    }
    for name, message in messages.items():
        said = b"".join(bytes([3, sender]) + piece(message) + b"\0" + struct.pack("<H", 400) for sender in range(5))
        for announced in (0, 1):
            write(folder, "mdns", f"{name}-{announced}", bytes([announced]) + said)
    # The store has no wire: a life with each kind of step on each medium, cut after 20, 90 and 400 operations.
    for medium in range(4):
        for operations in (20, 90, 400):
            life = b"".join(bytes([step, step * 5]) + struct.pack("<HB", 700 * step + 3, 128) for step in range(20))
            head = bytes([operations % 3]) + struct.pack("<H", operations)
            write(folder, "store", f"{medium}-{operations}", bytes([medium, 1]) + head + life + head + life)


main()
