"""`python -m skiff`: results, errors and exit codes, beside host-cli where both exist."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import List

import skiff
from support import LIMIT, Listener, answer_hello, cli, environment, host_serv, program, temporary, until_end


class Program(unittest.TestCase):
    def setUp(self) -> None:
        for attribute in ("root", "here"):
            folder = temporary()
            self.addCleanup(folder.cleanup)
            setattr(self, attribute, folder.name)
        server = host_serv(self.root)
        self.port = str(server.__enter__())
        self.addCleanup(server.__exit__, None, None, None)

    root: str
    here: str

    def file(self, name: str, content: bytes = b"hello\n") -> Path:
        path = Path(self.here, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def run_cli(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return cli("127.0.0.1", self.port, *words, cwd=self.here, stdin=stdin)

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        ran = self.run_cli(*words, stdin=stdin)
        self.assertEqual((ran.returncode, ran.stderr), (0, b""), words)
        return ran.stdout.decode()

    def fails(self, code: int, *words: str, stdin: bytes = b"") -> str:
        """The one line on standard error."""
        ran = self.run_cli(*words, stdin=stdin)
        error = ran.stderr.decode()
        self.assertEqual(ran.returncode, code, (words, error))
        self.assertRegex(error, r"\Askiff: [^\n]*\n\Z")
        return error[7:-1]

    def test_the_commands_do_what_they_say(self) -> None:
        self.file("a.txt")
        self.file("b c.txt", b"")
        self.assertRegex(self.ok("put", "a.txt", "b c.txt"), r"^put a.txt: 6 bytes, [0-9.]+ s, crc32c 353dd8be\n")
        self.ok("-q", "put", "a.txt", "-o", "d/")
        self.assertEqual(self.ok("ls"), "a.txt\nb c.txt\nd/\n")
        self.assertEqual(self.ok("ls", "-R"), "a.txt\nb c.txt\nd/\nd/a.txt\n")
        self.assertRegex(self.ok("ls", "-l", "d"), r"^6  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  d/a.txt\n$")
        self.assertEqual(self.ok("sum", "*.txt"), "353dd8be 6 a.txt\n00000000 0 b c.txt\n")
        self.assertEqual(self.ok("cat", "a.txt", "/d/a.txt"), "hello\nhello\n")
        self.assertIn("saved as a(1).txt since a.txt exists", self.ok("get", "a.txt"))
        self.ok("get", "a.txt", "-f")
        self.ok("get", "a.txt", "b c.txt", "-o", "new/")
        self.assertEqual(sorted(os.listdir(Path(self.here, "new"))), ["a.txt", "b c.txt"])
        self.assertEqual(self.ok("get", "a.txt", "-o", "-"), "hello\n")
        self.assertEqual(self.ok("get", "a.txt", "-o", "/dev/null"), "")
        self.assertEqual(self.ok("mv", "a.txt", "e/"), "mv a.txt: renamed to e/a.txt\n")
        self.ok("mkdir", "-p", "x/y")
        self.ok("rmdir", "x/y", "x")
        self.assertRegex(self.ok("put", "-", "-o", "in.txt", stdin=b"from a pipe"), "^put -: 11 bytes")
        self.assertEqual(Path(self.root, "in.txt").read_bytes(), b"from a pipe")
        self.assertRegex(self.ok("stat", "in.txt", "d"), r"^in.txt: 11 bytes, .*\nd/: directory\n$")
        self.assertEqual(self.ok("rm", "-q", "in.txt"), "")
        self.assertRegex(self.ok("df"), r"^\d+ bytes in all, \d+ bytes free, \d+% used\n$")
        self.assertRegex(self.ok("ping", "-n", "2"), r"^(127.0.0.1:\d+: [0-9.]+ ms\n){2}$")
        self.assertIn("protocol  extended\n", self.ok("info"))
        self.assertIn("3 copied, 0 unchanged", self.ok("sync", "pull", "/", "all"))
        self.assertIn("0 copied, 3 unchanged", self.ok("sync", "push", "all"))

    def test_directories_go_there_and_back(self) -> None:
        self.file("d/a")
        self.file("d/e/b")
        os.symlink("/etc/passwd", Path(self.here, "d/link"))
        ran = self.run_cli("put", "-r", "d")
        self.assertEqual((ran.returncode, ran.stderr), (0, b"skiff: put d/link: left out, not a regular file\n"))
        self.assertRegex(ran.stdout, rb"^put d/a: 6 bytes, [^\n,]*, crc32c 353dd8be\nput d/e/b: [^\n]*\n$")
        self.ok("-q", "put", "-r", "d/e", "-o", "copy/")
        self.ok("-q", "put", "-r", "d/e", "-o", "other")
        self.assertEqual(self.ok("ls", "-R"), "copy/\ncopy/e/\ncopy/e/b\nd/\nd/a\nd/e/\nd/e/b\nother/\nother/b\n")
        self.assertIn("a directory on the server", self.fails(1, "get", "d"))
        self.assertIn("(-r sends it)", self.fails(1, "put", "d"))
        for words, top in ((("d", "-o", "new"), "new"), (("d", "-o", "new/"), "new/d"), (("d", "-o", "x"), "x")):
            self.ok("get", "-r", *words)
            self.assertEqual(Path(self.here, top, "e/b").read_bytes(), b"hello\n")
        self.assertIn("saved as d/a(1) since d/a exists", self.ok("get", "-r", "d"))
        self.ok("get", "-r", ".", "-o", "all")
        self.assertEqual(sorted(os.listdir(Path(self.here, "all"))), ["copy", "d", "other"])
        os.symlink(self.root, Path(self.here, "all/d/e2"))
        self.ok("-q", "put", "d/a", "-o", "d/e2/a")
        self.assertIn("is a symbolic link", self.fails(1, "-q", "get", "-r", "d", "-o", "all/"))
        # What is left out on one side is not removed on the other.
        with skiff.connect("127.0.0.1", int(self.port)) as client:
            client.write_bytes("d/link", b"kept")
            result = skiff.push(client, Path(self.here, "d"), "d", delete=True)
            self.assertEqual((result.left_out, client.read_bytes("d/link")), (["d/link"], b"kept"))
            self.assertEqual(result.removed, ["d/e2/a", "d/e2"])

    def test_errors_are_one_line_and_the_exit_code_tells_them_apart(self) -> None:
        self.file("a.txt")
        self.assertEqual(self.fails(1, "get", "nope"), "get nope: no such file on the server")
        self.assertEqual(self.fails(1, "rm", "x*"), "rm x*: no match on the server")
        self.assertIn("put nope:", self.fails(1, "put", "nope"))
        self.assertIn("bad name", self.fails(1, "rm", "a/../b"))
        self.assertIn("bad name", self.fails(1, "rm", "a\x1bb"))
        self.ok("mkdir", "d")
        self.assertEqual(self.fails(1, "mkdir", "d"), "mkdir d: it already exists on the server")
        self.assertEqual(self.fails(1, "get", "d"), "get d: a directory on the server")
        self.assertEqual(self.fails(1, "put", "a.txt", "-o", "d"), "put a.txt: a directory on the server")
        self.assertIn("local directory", self.fails(2, "sync", "pull", "d"))
        for words in (
            ["frob"],
            ["put"],
            ["ls", "-x"],
            ["get", "a", "b", "-o", "c"],
            ["put", "-"],
            ["--idle", "x", "ls"],
        ):
            self.fails(2, *words)
        for words in (["127.0.0.1"], ["127.0.0.1", "0", "ls"], ["127.0.0.1", "x", "ls"], []):
            self.assertEqual(cli(*words, cwd=self.here).returncode, 2)
        ran = cli("127.0.0.1", "1", "ls", cwd=self.here)
        self.assertEqual((ran.returncode, ran.stdout), (1, b""))
        self.assertRegex(ran.stderr, rb"\Askiff: can't connect to 127.0.0.1 port 1: [^\n]+\n\Z")
        self.assertEqual(cli("--help", cwd=self.here).returncode, 0)
        self.assertEqual(cli("--version", cwd=self.here).stdout, b"skiff 0.1.0\n")

    def test_other_files_are_done_after_one_has_failed(self) -> None:
        self.file("a.txt")
        ran = self.run_cli("put", "nope", "a.txt")
        self.assertEqual((ran.returncode, ran.stderr.count(b"\n")), (1, 1))
        ran = self.run_cli("get", "nope", "a.txt", "-o", "new/")
        self.assertEqual(ran.returncode, 1)
        self.assertTrue(Path(self.here, "new/a.txt").is_file())

    def test_scripts_stop_at_the_first_failure_and_say_where(self) -> None:
        self.file("a b.txt")
        script = b"# a comment\nput 'a b.txt'\n\nls\nget nope\nrm *\n"
        ran = self.run_cli(stdin=script)
        self.assertEqual(ran.returncode, 1)
        self.assertEqual(ran.stderr, b"skiff: line 5: get nope: no such file on the server\n")
        self.assertTrue(ran.stdout.endswith(b"\na b.txt\n"))
        self.assertEqual(self.fails(2, stdin=b"ls\nfrob\n"), "line 2: no such command 'frob'")
        self.assertIn("line 1", self.fails(2, stdin=b"ls 'x\n"))
        self.assertIn("line 1", self.fails(2, stdin=b"ls \xff\n"))
        self.assertEqual(self.ok(stdin=b"ls\nquit\nfrob\n"), "a b.txt\n")

    def test_json_has_the_shapes_of_host_cli(self) -> None:
        self.file("a.txt")
        self.file("d/b.txt")

        def shapes(words: List[str]) -> List[object]:
            ours = cli("--json", "127.0.0.1", self.port, *words, cwd=self.here)
            theirs = subprocess.run(
                [program("host-cli"), "--json", "127.0.0.1", self.port, *words],
                cwd=self.here,
                capture_output=True,
                check=False,
            )
            self.assertEqual(ours.returncode, theirs.returncode, (words, ours, theirs))
            same: List[object] = []
            for one, other in ((ours.stdout, theirs.stdout), (ours.stderr, theirs.stderr)):
                ones, others = ([json.loads(line) for line in text.splitlines()] for text in (one, other))
                self.assertEqual(len(ones), len(others), (words, one, other))
                for left, right in zip(ones, others):
                    # What only host-cli knows.
                    self.assertEqual([k for k in right if k != "sessions"], list(left), words)
                    free = ("seconds", "message", "local", "ip", "free", "commands", "line")
                    same += [(k, left[k], right[k]) for k in left if k not in free and left[k] != right[k]]
            return same

        for words in (
            ["put", "a.txt"], ["put", "d/b.txt", "-o", "d/b.txt"], ["ls", "-R"], ["stat", "a.txt"], ["sum", "a.txt"],
            ["get", "a.txt", "-f"], ["df"], ["ping"], ["info"], ["get", "nope"], ["rm", "nope"], ["rm", "../x"],
            ["mkdir", "d"], ["rmdir", "d"], ["rm", "x*"],
        ):  # fmt: skip
            self.assertEqual(shapes(words), [], words)

    def test_full_disks_and_full_outputs_lose_nothing(self) -> None:
        self.file("big", bytes(200_000))
        self.ok("put", "big")
        self.file("big", b"old")
        # A limit for the size of files is as a full disk.
        code = "import resource,sys; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); "
        code += "from skiff.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "127.0.0.1", self.port, "get", "big", "-f"]
        ran = subprocess.run(command, cwd=self.here, env=environment(), capture_output=True, check=False)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count(b"\n")), (1, b"", 1), ran.stderr)
        self.assertEqual(Path(self.here, "big").read_bytes(), b"old")
        if os.path.exists("/dev/full"):
            self.assertIn("No space left", self.fails(1, "get", "big", "-o", "/dev/full"))
            with open("/dev/full", "wb") as full:
                for words in (["ls"], ["cat", "big"]):
                    ran = cli("127.0.0.1", self.port, *words, cwd=self.here, stdout=full)
                    self.assertEqual(ran.returncode, 1)
                    self.assertRegex(ran.stderr, rb"\Askiff: [^\n]*No space left[^\n]*\n\Z")

    def test_a_reader_that_leaves_is_no_error(self) -> None:
        self.file("big", bytes(2_000_000))
        self.ok("put", "big")
        command = [sys.executable, "-m", "skiff", "127.0.0.1", self.port, "cat", "big"]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual((process.wait(LIMIT), process.stderr.read()), (0, b""))
        process.stderr.close()

    @unittest.skipIf(sys.platform == "win32", "signals")
    def test_ctrl_c_ends_it_with_130(self) -> None:
        def silent(connection: object) -> None:
            answer_hello(connection)  # type: ignore[arg-type]
            asked.append(time.monotonic())
            until_end(connection)  # type: ignore[arg-type]

        asked: List[float] = []
        with Listener(silent) as listener:
            command = [sys.executable, "-m", "skiff", "127.0.0.1", str(listener.port), "ls"]
            process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
            assert process.stderr is not None
            deadline = time.monotonic() + LIMIT
            while not asked and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            self.assertEqual((process.wait(LIMIT), process.stderr.read()), (130, b""))
            process.stderr.close()

    def test_entries_that_can_not_be_listed_are_reported(self) -> None:
        self.file("a.txt")
        self.ok("put", "a.txt")
        Path(os.fsdecode(os.fsencode(self.root) + b"/\xff")).write_bytes(b"")
        ran = self.run_cli("ls")
        self.assertEqual((ran.returncode, ran.stdout), (1, b"a.txt\n"))
        self.assertEqual(ran.stderr, b"skiff: ls /: 1 entries can't be listed\n")
        self.file("more")
        with skiff.connect("127.0.0.1", int(self.port)) as client:
            result = skiff.push(client, self.here, delete=True)
            self.assertEqual((result.omitted, result.complete, result.removed), (1, False, []))


if __name__ == "__main__":
    unittest.main()
