"""Reads an image of a flash store, from docs/FLASH.md alone.

usage: flash.py IMAGE                 one line a file: SIZE MTIME CRC NAME, and "staged SIZE CRC NAME"
       flash.py IMAGE --get NAME      the content of a file to stdout

Exit codes: 0 done, 1 damaged or no such file, 2 usage.
"""

import struct
import sys

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def owned(volume, kind, data):
    return crc32c(struct.pack("<II", volume, kind) + data)


class Damaged(Exception):
    pass


def up(n, align):
    return (n + align - 1) // align * align


class Store:
    def __init__(self, image):
        self.image = image
        anchor = self.find_anchor()
        self.volume, _, _, _, self.unit, self.block, self.blocks, tail, epoch, head_seq = anchor
        self.align = max(self.unit, 4)
        self.versions = {}
        if tail:
            self.read_journal(tail, epoch, head_seq)

    def anchor_at(self, at):
        data = self.image[at : at + 40]
        if len(data) < 40 or data[:4] != b"skif":
            return None
        if struct.unpack("<I", data[36:])[0] != owned(0, 0, data[:36]):
            return None
        return struct.unpack("<IIBBHIIIII", data[4:36])

    def find_anchor(self):
        # Any anchor tells the sizes.
        found = None
        at = self.image.find(b"skif")
        while at >= 0 and found is None:
            found = self.anchor_at(at)
            at = self.image.find(b"skif", at + 1)
        if found is None:
            raise Damaged("no anchor")
        unit, block = found[4], found[5]
        step = up(40, max(unit, 4))
        newest = None
        for base in (0, block):
            for at in range(base, base + block - step + 1, step):
                anchor = self.anchor_at(at)
                if anchor and (newest is None or anchor[1] >= newest[1]):
                    newest = anchor
        if newest is None or newest[2] != 1:
            raise Damaged("no anchor of version 1")
        return newest

    def head(self, block):
        data = self.image[block * self.block : block * self.block + 28]
        if block >= self.blocks or data[:4] != b"jrnl":
            return None
        if struct.unpack("<I", data[24:])[0] != owned(self.volume, 0, data[:24]):
            return None
        return dict(zip(("seq", "epoch", "next", "end", "ids", "sum"), struct.unpack("<6I", data[4:])))

    def record(self, block, offset, owner):
        at, end = block * self.block + offset, (block + 1) * self.block
        data = self.image[at : min(at + 44 + 255, end)]
        if len(data) < 44:
            return None
        crc, belongs, kind, length, timed = struct.unpack("<IIBBB", data[:11])
        data = data[: 44 + length]
        if kind > 3 or belongs != owner or len(data) < 44 + length or crc != owned(self.volume, 2, data[4:]):
            return None
        fields = struct.unpack("<6IQ", data[12:44])
        found = dict(zip(("id", "over", "size", "crc", "last", "last_crc", "mtime"), fields))
        found.update(kind=kind, name=data[44:], length=up(44 + length, self.align), timed=timed)
        return found

    def follower(self, head, epoch):
        """The next head of the chain, if the block belongs to it."""
        found, before = None, head
        while True:
            after = self.head(before["next"])
            if after is None or after["seq"] <= before["seq"] or after["epoch"] != epoch:
                return None
            found = found or after
            if self.record(before["next"], up(28, self.align), after["sum"]):
                return found
            before = after

    def read_journal(self, tail, epoch, head_seq):
        block, head = tail, self.head(tail)
        if head is None or (head["seq"], head["epoch"]) != (epoch, epoch):
            raise Damaged("the journal does not begin where the anchor says")
        while True:
            after = self.follower(head, epoch)
            offset = up(28, self.align)
            end = after["end"] if after else self.block
            while offset < end:
                record = self.record(block, offset, head["sum"])
                if record is None:
                    if after:
                        raise Damaged(f"a record in block {block}")
                    break
                self.heed(record)
                offset += record["length"]
            if after is None:
                break
            block, head = head["next"], after
        if head["seq"] < head_seq:
            raise Damaged("the journal ends too early")

    def heed(self, record):
        self.versions.pop(record["over"], None)
        if record["kind"] == 3:
            self.versions.pop(record["id"], None)
        elif record["kind"] in (1, 2):
            self.versions[record["id"]] = record

    def content(self, version):
        piece = self.block - 24
        count = (version["size"] + piece - 1) // piece
        block, crc, pieces = version["last"], version["last_crc"], []
        for index in reversed(range(count)):
            at = block * self.block
            link = self.image[at : at + 24]
            prev, _, found, owner, prev_crc, own = struct.unpack("<6I", link)
            if own != owned(self.volume, 1, link[:20]) or (found, owner) != (index, version["id"]):
                raise Damaged(f"block {block} is no piece of {version['name']!r}")
            length = min(piece, version["size"] - index * piece)
            data = self.image[at + 24 : at + 24 + length]
            if crc32c(data) != crc:
                raise Damaged(f"piece {index} of {version['name']!r}")
            pieces.append(data)
            block, crc = prev, prev_crc
        data = b"".join(reversed(pieces))
        if crc32c(data) != version["crc"]:
            raise Damaged(f"the content of {version['name']!r}")
        return data


def main(args):
    if len(args) not in (1, 3) or args[1:2] not in ([], ["--get"]):
        print(__doc__, file=sys.stderr)
        return 2
    with open(args[0], "rb") as file:
        store = Store(file.read())
    versions = sorted(store.versions.values(), key=lambda version: version["name"])
    if len(args) == 3:
        for version in versions:
            if version["kind"] == 1 and version["name"] == args[2].encode():
                sys.stdout.buffer.write(store.content(version))
                return 0
        print(f"flash.py: no file {args[2]}", file=sys.stderr)
        return 1
    for version in versions:
        store.content(version)
        name = version["name"].decode()
        if version["kind"] == 1:
            mtime = version["mtime"] if version["timed"] else "-"
            print(f"{version['size']} {mtime} {version['crc']:08x} {name}")
        else:
            print(f"staged {version['size']} {version['crc']:08x} {name}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Damaged as damage:
        print(f"flash.py: damaged: {damage}", file=sys.stderr)
        sys.exit(1)
