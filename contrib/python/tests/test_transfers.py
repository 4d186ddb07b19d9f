"""Transfers with host-serv and device-serv: over links that break, with disks that are full."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

import skiff
from skiff.local import Partial
from support import Link, cut, device_serv, flip, host_serv, temporary

CONTENT = bytes(random.Random(7).choices(range(256), k=300_000))


class Base(unittest.TestCase):
    """A directory that a server serves, and a local one."""

    def setUp(self) -> None:
        self._folder = temporary()
        self.addCleanup(self._folder.cleanup)
        self.root = Path(self._folder.name) / "root"
        self.here = Path(self._folder.name) / "here"
        self.root.mkdir()
        self.here.mkdir()

    def connect(self, port: int, retries: int = 3) -> skiff.Client:
        client = skiff.connect("127.0.0.1", port, timeout=20, retries=retries)
        self.addCleanup(client.close)
        return client

    def host(self, *options: str) -> int:
        server = host_serv(str(self.root), *options)
        port = server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return port

    def link(self, port: int, **filters: Link.Filter) -> int:
        link = Link(port, **filters)
        self.addCleanup(link.__exit__)
        return link.port

    def local(self, content: bytes = CONTENT, name: str = "big") -> str:
        path = self.here / name
        path.write_bytes(content)
        return str(path)

    def names(self) -> List[str]:
        return sorted(os.listdir(self.here))


class Transfers(Base):
    def test_files_go_there_and_back_with_their_times(self) -> None:
        client = self.connect(self.host())
        path = self.local()
        os.utime(path, (1_700_000_000, 1_700_000_000))
        seen: List[Tuple[int, int]] = []
        sent = client.put(path, progress=lambda done, total: seen.append((done, total)))
        self.assertEqual((sent.size, sent.crc32c, sent.verified), (300_000, skiff.crc32c(CONTENT), True))
        self.assertEqual((seen[0], seen[-1]), ((0, 300_000), (300_000, 300_000)))
        back = client.get("big", self.here / "back")
        self.assertEqual((self.here / "back").read_bytes(), CONTENT)
        self.assertEqual((back.crc32c, back.verified, back.resumed), (sent.crc32c, True, 0))
        self.assertEqual(os.stat(self.here / "back").st_mtime, 1_700_000_000)
        self.assertEqual(client.stat("big").mtime, 1_700_000_000)
        self.assertEqual(self.names(), ["back", "big"])

    def test_files_and_directories_are_managed(self) -> None:
        client = self.connect(self.host())
        client.mkdir("a/b", parents=True)
        client.mkdir("a/b", parents=True)
        client.write_bytes("a/b/x y", b"1")
        client.rename("a/b/x y", "c/z")
        self.assertEqual(client.ls("c"), ["c/z"])
        self.assertEqual([(entry.name, entry.is_directory) for entry in client.list()], [("a", True), ("c", True)])
        self.assertEqual([entry.name for entry in client.tree()], ["a", "a/b", "c", "c/z"])
        client.copy("c/z", "c/copy")
        client.rename("c", "d")
        self.assertEqual([entry.name for entry in client.tree("d")], ["d/copy", "d/z"])
        client.remove("d/copy")
        client.rename("d", "c")
        client.rmdir("a/b")
        client.remove("c/z")
        for call in (lambda: client.remove("c/z"), lambda: client.stat("nothing"), lambda: client.list("nothing")):
            self.assertRaises(skiff.NotFound, call)
        with self.assertRaises(skiff.Refused) as caught:
            client.mkdir("c")
        self.assertEqual(caught.exception.code, "exists")
        with self.assertRaises(skiff.BadName):
            client.remove("../x")
        self.assertGreater(client.space().total, 0)
        self.assertGreater(client.ping(), 0)

    def test_a_local_file_is_kept_unless_it_is_to_be_replaced(self) -> None:
        client = self.connect(self.host())
        client.write_bytes("n.txt", b"new")
        old = Path(self.local(b"old", "n.txt"))
        old.chmod(0o640)
        self.assertEqual(client.get("n.txt", old).local, str(self.here / "n(1).txt"))
        self.assertEqual(client.get("n.txt", self.here).local, str(self.here / "n(2).txt"))
        self.assertEqual(old.read_bytes(), b"old")
        client.get("n.txt", old, replace=True)
        self.assertEqual(old.read_bytes(), b"new")
        self.assertEqual(stat.S_IMODE(old.stat().st_mode), 0o640)
        self.assertEqual(self.names(), ["n(1).txt", "n(2).txt", "n.txt"])

    def test_a_cut_download_resumes_by_itself(self) -> None:
        port = self.host()
        self.connect(port).write_bytes("big", CONTENT)
        client = self.connect(self.link(port, down=cut(150_000, connections=2)))
        done = client.get("big", self.here / "big")
        self.assertGreater(done.resumed, 200_000)
        self.assertTrue(done.verified)
        self.assertEqual((self.here / "big").read_bytes(), CONTENT)
        self.assertEqual(self.names(), ["big"])

    def test_a_cut_download_leaves_a_part_that_a_later_one_checks_and_resumes(self) -> None:
        port = self.host()
        self.connect(port).write_bytes("big", CONTENT)
        Path(self.local(b"old", "big"))
        for damage in (False, True):
            with self.assertRaises(skiff.ConnectionLost):
                client = self.connect(self.link(port, down=cut(100_000)), retries=0)
                client.get("big", self.here / "big", replace=True)
            part, target = self.names()
            self.assertEqual((self.here / target).read_bytes(), b"old")
            self.assertRegex(part, r"^\.big\.300000-(-|[0-9a-z]+)\.skiff-part$")
            if damage:
                with open(self.here / part, "r+b") as file:
                    file.write(b"damage")
            done = self.connect(port).get("big", self.here / "big", replace=True, resume=True)
            self.assertEqual(done.resumed > 90_000, not damage)
            self.assertEqual((self.here / "big").read_bytes(), CONTENT)
            self.assertEqual(self.names(), ["big"])
            (self.here / "big").write_bytes(b"old")

    def test_a_part_that_another_transfer_has_is_left_alone(self) -> None:
        client = self.connect(self.host())
        client.write_bytes("big", CONTENT)
        other = Partial(str(self.here / "big"), len(CONTENT), None, keep=False, replace=False)
        other.write(b"other")
        done = client.get("big", self.here / "big")
        self.assertEqual((done.resumed, (self.here / "big").read_bytes()), (0, CONTENT))
        other.close()
        outside = self.here.parent / "outside"
        outside.write_bytes(b"precious")
        part = next(self.here.glob(".big.*"))
        part.unlink()
        for link in (part.symlink_to, lambda target: os.link(target, part)):
            link(outside)
            with contextlib.suppress(OSError):
                client.get("big", self.here / "big", replace=True)
            self.assertEqual(outside.read_bytes(), b"precious")
            part.unlink()

    def test_a_file_that_changed_is_not_resumed(self) -> None:
        port = self.host()
        client = self.connect(port)
        client.write_bytes("big", CONTENT)
        with self.assertRaises(skiff.ConnectionLost):
            self.connect(self.link(port, down=cut(100_000)), retries=0).get("big", self.here / "big")
        new = CONTENT[::-1]
        client.write_bytes("big", new)
        done = client.get("big", self.here / "big", resume=True)
        self.assertEqual(done.resumed, 0)
        self.assertEqual((self.here / "big").read_bytes(), new)

    def test_a_cut_upload_resumes_by_itself_and_later(self) -> None:
        port = self.host()
        client = self.connect(self.link(port, up=cut(150_000)))
        done = client.put(self.local())
        self.assertGreater(done.resumed, 0)
        self.assertEqual((self.root / "big").read_bytes(), CONTENT)
        self.connect(port).write_bytes("big", b"old")
        with self.assertRaises(skiff.ConnectionLost):
            self.connect(self.link(port, up=cut(150_000)), retries=0).put(self.local())
        self.assertEqual(self.connect(port).read_bytes("big"), b"old")
        done = self.connect(port, retries=5).put(self.local(), resume=True)
        self.assertEqual((self.root / "big").read_bytes(), CONTENT)

    def test_an_upload_of_another_file_begins_again(self) -> None:
        port = self.host()
        with self.assertRaises(skiff.ConnectionLost):
            self.connect(self.link(port, up=cut(150_000)), retries=0).put(self.local())
        other = CONTENT[::-1]
        client = self.connect(port)
        # The server may take a moment to notice the lost connection; the client waits for that.
        done = client.put(self.local(other), resume=True)
        self.assertEqual(done.resumed, 0)
        self.assertEqual((self.root / "big").read_bytes(), other)

    def test_damaged_downloads_are_not_put_in_place(self) -> None:
        port = self.host()
        self.connect(port).write_bytes("big", CONTENT)
        client = self.connect(self.link(port, down=flip(120_000)), retries=0)
        with self.assertRaises(skiff.VerificationFailed):
            client.get("big", self.here / "big")
        self.assertEqual(self.names(), [])
        with self.assertRaises(skiff.VerificationFailed):
            self.connect(self.link(port, down=flip(120_000)), retries=0).read_bytes("big")

    def test_damaged_uploads_leave_the_old_file(self) -> None:
        port = self.host()
        self.connect(port).write_bytes("big", b"old")
        client = self.connect(self.link(port, up=flip(120_000)), retries=0)
        with self.assertRaises(skiff.Refused) as caught:
            client.put(self.local())
        self.assertEqual(caught.exception.code, "mismatch")
        self.assertEqual(client.read_bytes("big"), b"old")

    def test_a_local_file_that_changes_meanwhile_is_not_stored(self) -> None:
        client = self.connect(self.host())
        client.write_bytes("big", b"old")
        path = self.local()

        def shrink(done: int, total: int) -> None:
            os.truncate(path, 100_000)

        def touch(done: int, total: int) -> None:
            os.utime(path, (1, 1))

        def grow(done: int, total: int) -> None:
            with open(path, "ab") as file:
                file.write(b"x")

        for change in (shrink, touch):
            self.local()
            with self.assertRaises(skiff.VerificationFailed):
                client.put(path, progress=change)
            self.assertEqual(client.read_bytes("big"), b"old")
        self.local()
        self.assertEqual(client.put(path, progress=grow).size, 300_000)
        self.assertEqual(client.read_bytes("big"), CONTENT)

    def test_an_error_of_the_caller_keeps_what_was_transferred(self) -> None:
        client = self.connect(self.host())

        def stop(done: int, total: int) -> None:
            if done > 150_000:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            client.put(self.local(), progress=stop)
        self.assertGreater(client.put(self.local(), resume=True).resumed, 0)
        with self.assertRaises(KeyboardInterrupt):
            client.get("big", self.here / "copy", progress=stop)
        self.assertGreater(client.get("big", self.here / "copy", resume=True).resumed, 0)
        self.assertEqual((self.here / "copy").read_bytes(), CONTENT)

    def test_a_connection_that_the_server_closed_is_made_again(self) -> None:
        client = self.connect(self.host("--idle", "1"))
        client.write_bytes("a", b"1")
        # The end of the stream is what is waited for, not the time.
        assert client._messages is not None
        self.assertEqual(client._messages.stream.some(1), b"")
        self.assertEqual(client.read_bytes("a"), b"1")

    def test_a_server_without_the_right_to_write_refuses(self) -> None:
        client = self.connect(self.host("--read-only"))
        for _ in range(2):
            with self.assertRaises(skiff.Refused) as caught:
                client.put(self.local())
            self.assertEqual(caught.exception.code, "read-only")
        client.ping()

    def test_a_device_stores_resumes_and_runs_full(self) -> None:
        with device_serv("--store", "ram:128KiB") as port:
            client = self.connect(port)
            small = CONTENT[:40_000]
            client.write_bytes("f", small)
            self.assertEqual(client.get("f", self.here / "f").crc32c, skiff.crc32c(small))
            with self.assertRaises(skiff.Refused) as caught:
                client.put(self.local(), "f")
            self.assertEqual(caught.exception.code, "no-space")
            self.assertEqual(client.read_bytes("f"), small)
            with self.assertRaises(skiff.BadName):
                client.write_bytes("x" * 65, b"")
            with self.assertRaises(skiff.Refused) as caught:
                client.mkdir("d")
            self.assertEqual(caught.exception.code, "unsupported")
            done = self.connect(self.link(port, up=cut(30_000))).put(self.local(small, "g"))
            self.assertEqual(client.read_bytes("g"), small)
            self.assertEqual(done.size, 40_000)
            self.assertEqual(client.ls(), ["f", "g"])

    def test_a_device_without_a_free_session_is_said_to_be_one(self) -> None:
        with device_serv("--sessions", "1") as port:
            first = self.connect(port)
            with self.assertRaisesRegex(skiff.CannotConnect, "no skiff server, or one without a free session"):
                self.connect(port)
            first.ping()


class Sync(Base):
    """One way, by size and checksum."""

    def tree(self, files: Dict[str, bytes]) -> None:
        for name, content in files.items():
            path = self.here / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def test_push_and_pull_copy_what_differs_and_remove_on_request(self) -> None:
        client = self.connect(self.host())
        self.tree({"a": b"1", "d/b": b"22", "d/e/c": b""})
        result = skiff.push(client, self.here, "up")
        self.assertEqual(result.copied, ["up/a", "up/d/b", "up/d/e/c"])
        self.tree({"a": b"2", "n": b"3"})
        (self.here / "d/e/c").unlink()
        result = skiff.push(client, self.here, "up")
        self.assertEqual((result.copied, result.unchanged, result.removed), (["up/a", "up/n"], ["up/d/b"], []))
        result = skiff.push(client, self.here, "up", delete=True)
        self.assertEqual((result.copied, result.removed), ([], ["up/d/e/c", "up/d/e"]))
        back = self.here.parent / "back"
        back.mkdir()
        (back / "extra").write_bytes(b"x")
        self.assertEqual(skiff.pull(client, "up", back).copied, ["up/a", "up/d/b", "up/n"])
        result = skiff.pull(client, "up", back, delete=True)
        self.assertEqual((len(result.unchanged), result.removed), (3, ["up/extra"]))
        self.assertEqual((back / "d/b").read_bytes(), b"22")

    def test_a_failure_does_not_stop_the_others_and_nothing_is_removed_after_it(self) -> None:
        with device_serv() as port:
            client = self.connect(port)
            client.write_bytes("old", b"")
            self.tree({"a": b"1", "d/b": b"2", "z": b"3"})
            result = skiff.push(client, self.here, delete=True)
            self.assertEqual(result.copied, ["a", "z"])
            self.assertEqual([name for name, _ in result.failed], ["d/b"])
            self.assertEqual(client.ls(), ["a", "old", "z"])
            self.assertRaises(skiff.NotFound, skiff.pull, client, "nowhere", self.here)

    def test_pull_follows_no_symbolic_link(self) -> None:
        client = self.connect(self.host())
        client.write_bytes("d/x", b"evil")
        outside = self.here.parent / "outside"
        outside.mkdir()
        (self.here / "d").symlink_to(outside)
        result = skiff.pull(client, "", self.here)
        self.assertFalse(result.complete)
        self.assertEqual(list(outside.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
