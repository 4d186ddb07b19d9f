"""Checksum, names, numbers: no network."""

from __future__ import annotations

import random
import unittest

import skiff
from skiff import checksum
from skiff.checksum import pure_crc32c
from skiff.errors import printable
from skiff.local import numbered
from skiff.messages import number, optional_crc, tag
from skiff.names import check_name, is_local, is_name
from skiff.replies import parse_listing


def by_table(data: bytes, crc: int = 0) -> int:
    """CRC-32C bit by bit, as in RFC 3720."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Checksums(unittest.TestCase):
    def test_the_check_value_of_the_protocol(self) -> None:
        self.assertEqual(pure_crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(skiff.crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(pure_crc32c(b""), 0)

    def test_every_length_and_every_cut_give_the_same_checksum(self) -> None:
        source = random.Random(1)
        lengths = [*range(150), 290, 291, *range(700, 730), *range(1400, 1430), 5685, 65_535, 65_536, 65_537, 200_000]
        for length in lengths:
            data = (
                source.randbytes(length)
                if hasattr(source, "randbytes")
                else bytes(source.choices(range(256), k=length))
            )
            whole = by_table(data) if length < 10_000 else pure_crc32c(data)
            cut = source.randrange(length + 1)
            self.assertEqual(pure_crc32c(data), whole, length)
            self.assertEqual(pure_crc32c(data[cut:], pure_crc32c(data[:cut])), whole, (length, cut))
            self.assertEqual(pure_crc32c(memoryview(data)), whole)

    def test_zeros_and_ones_of_any_length(self) -> None:
        for length in (1, 64, 65, 1000, 5000):
            for byte in (b"\0", b"\xff"):
                self.assertEqual(pure_crc32c(byte * length), by_table(byte * length))

    def test_the_sparse_multiples_are_multiples(self) -> None:
        for degree, others in checksum._SPARSE:
            value = 1 << degree
            for other in others:
                value ^= 1 << other
            while value.bit_length() > 32:
                value ^= 0x11EDC6F41 << (value.bit_length() - 33)
            self.assertEqual(value, 0)

    def test_an_installed_c_package_gives_the_same(self) -> None:
        data = bytes(range(256)) * 1000
        self.assertEqual(skiff.crc32c(data, 5), pure_crc32c(data, 5))


class Words(unittest.TestCase):
    def test_names_keep_the_rules_of_section_2(self) -> None:
        for name in ("report.txt", "a b.txt", "logs/2026/x.log", ".profile", "...", "ä", "x" * 255):
            self.assertTrue(is_name(name), name)
        bad = ("", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", ".skiff-stage", "d/.skiff-x")
        for name in (*bad, "a\n", "\x7f", "\x85", "x" * 256, "ä" * 128, "\udcff"):
            self.assertFalse(is_name(name), name)
        self.assertFalse(is_name("x" * 65, 64))
        self.assertRaises(ValueError, check_name, "..")

    def test_names_that_windows_changes_are_no_local_names_there(self) -> None:
        for name in ("a:b", "con", "NUL.txt", "d/aux", "a.", "a ", "com1", 'a"b'):
            self.assertTrue(is_local(name, windows=False), name)
            self.assertFalse(is_local(name, windows=True), name)
        self.assertTrue(is_local("console.txt", windows=True))
        self.assertFalse(is_local("../a", windows=False))

    def test_numbers_are_digits_and_fit_in_64_bits(self) -> None:
        self.assertEqual(number("0"), 0)
        self.assertEqual(number("0" * 100 + "7"), 7)
        self.assertEqual(number("18446744073709551615"), (1 << 64) - 1)
        for word in ("", "-1", "+1", "1_0", " 1", "٣", "18446744073709551616", "9" * 5000):
            with self.assertRaises(skiff.ProtocolError):
                number(word)
        for word in ("E3069283", "e306928", "e30692833", "", "+1234567"):
            with self.assertRaises(skiff.ProtocolError):
                optional_crc(word)
        for word in ("", "A", "x" * 33, "a_b"):
            with self.assertRaises(skiff.ProtocolError):
                tag(word)

    def test_listings_with_names_that_lead_elsewhere_are_refused(self) -> None:
        good = parse_listing("1 - - d/a b\n0 5 - d/e/\n", "d")
        self.assertEqual([(entry.name, entry.is_directory) for entry in good], [("d/a b", False), ("d/e", True)])
        bad = ("../x", "/x", "d/../x", "x", "d/e/f", "d//", "d/", "d/.skiff-x", "d/a\x1b", "d/a\\b", "d/" + "x" * 255)
        for name in bad:
            with self.assertRaises(skiff.ProtocolError, msg=name):
                parse_listing(f"1 - - {name}\n", "d")
        for text in ("1 - - d/a", "1 - d/a\n", "x - - d/a\n", "1 - zz d/a\n", "\n"):
            with self.assertRaises(skiff.ProtocolError, msg=text):
                parse_listing(text, "d")

    def test_the_number_of_a_copy_goes_before_the_last_dot(self) -> None:
        self.assertEqual([numbered(name, 1) for name in ("a.tar.gz", "report", ".profile", ".a.b")],
                         ["a.tar(1).gz", "report(1)", ".profile(1)", ".a(1).b"])  # fmt: skip

    def test_what_controls_a_terminal_is_escaped(self) -> None:
        self.assertEqual(printable("a\x1b[2J\u202eb ä"), "a\\u{1b}[2J\\u{202e}b ä")


if __name__ == "__main__":
    unittest.main()
