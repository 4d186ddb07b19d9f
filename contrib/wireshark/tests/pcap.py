"""Writes captures: TCP conversations as they would be on an Ethernet, one millisecond from frame to frame."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import List

CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Capture:
    """Frames of any number of connections."""

    def __init__(self) -> None:
        self.frames: List[bytes] = []

    def write(self, path: Path, longest: int = 65_535) -> None:
        """Writes a pcap file, of each frame the first `longest` bytes."""
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
            for number, frame in enumerate(self.frames):
                seconds, rest = divmod(number, 1000)
                piece = frame[:longest]
                file.write(struct.pack("<IIII", 1_700_000_000 + seconds, rest * 1000, len(piece), len(frame)) + piece)


class Connection:
    """One TCP connection; opened at once."""

    FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

    def __init__(self, capture: Capture, client_port: int, server_port: int) -> None:
        self._capture = capture
        self._ports = (client_port, server_port)
        # What each side sends next.
        self._next = [1_000_000, 2_000_000]
        self._frame(0, self.SYN)
        self._next[0] += 1
        self._frame(1, self.SYN | self.ACK)
        self._next[1] += 1
        self._frame(0, self.ACK)

    def send(self, server: bool, data: bytes, segment: int = 1460) -> None:
        """Sends data, cut into segments."""
        for start in range(0, len(data), segment):
            piece = data[start : start + segment]
            self._frame(int(server), self.PSH | self.ACK, piece)
            self._next[int(server)] += len(piece)

    def close(self, server: bool, reset: bool = False) -> None:
        """FIN of one side, or a reset."""
        self._frame(int(server), self.RST | self.ACK if reset else self.FIN | self.ACK)
        self._next[int(server)] += 1

    def _frame(self, side: int, flags: int, data: bytes = b"") -> None:
        source, target = (SERVER, CLIENT) if side else (CLIENT, SERVER)
        ports = (self._ports[side], self._ports[1 - side])
        number, answer = self._next[side] & 0xFFFFFFFF, self._next[1 - side] & 0xFFFFFFFF
        if flags == self.SYN:
            answer = 0
        tcp = struct.pack(">HHIIBBHHH", *ports, number, answer, 5 << 4, flags, 65_535, 0, 0)
        pseudo = source + target + struct.pack(">BBH", 0, 6, len(tcp) + len(data))
        tcp = tcp[:16] + struct.pack(">H", _sum(pseudo + tcp + data)) + tcp[18:]
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + len(data), 0, 0, 64, 6, 0, source, target)
        head = head[:10] + struct.pack(">H", _sum(head)) + head[12:]
        ethernet = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" if side == 0 else b"\2\0\0\0\0\2\2\0\0\0\0\1\x08\0"
        self._capture.frames.append(ethernet + head + tcp + data)
