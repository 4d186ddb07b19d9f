"""README.md: every command in it is run, and its output compared."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import unittest
from pathlib import Path
from typing import List, Tuple

from support import REPOSITORY, environment, host_serv, temporary

README = REPOSITORY / "contrib" / "python" / "README.md"


def blocks(kind: str) -> List[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> List[Tuple[str, str]]:
    """Commands, each with its output."""
    found: List[Tuple[str, str]] = []
    for line in "".join(blocks("console")).splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def pattern(output: str) -> str:
    """Times and the size of the disk differ from run to run."""
    text = re.escape(output.replace("127.0.0.1", "ADDRESS"))
    for what in (
        r"\d+\\\.\d{6}(?=\\ s)",
        r"\d+\\\.\d{3}(?=\\ ms)",
        r"\d{4}\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d",
        r"\d{10,}",
        r"\d+(?=%)",
    ):
        text = re.sub(what, r"[0-9.: -]+", text)
    return text.replace("ADDRESS", r"[0-9a-f.:]+")


@unittest.skipIf(sys.platform == "win32", "a shell")
class Readme(unittest.TestCase):
    def test_every_command_does_what_is_written(self) -> None:
        with temporary() as root, temporary() as here, temporary() as bin_folder, host_serv(root) as port:
            program = Path(bin_folder, "skiff")
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skiff "$@"\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            variables = environment()
            variables["PATH"] = bin_folder + os.pathsep + variables["PATH"]
            status = 0
            for command, output in commands():
                command, output = (text.replace("50000", str(port)) for text in (command, output))
                ran = subprocess.run(
                    ["sh", "-c", command.replace("$?", str(status))],
                    cwd=here,
                    env=variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
                status = ran.returncode
                self.assertRegex(ran.stdout, rf"\A{pattern(output)}\Z", command)
            (code,) = blocks("python")
            ran = subprocess.run(
                [sys.executable, "-c", code.replace("50000", str(port))],
                cwd=here,
                env=variables,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            self.assertIn("3893 of 3893 bytes\nb'{}'\nconfig.json 2 ", ran.stdout)
            self.assertIn("['firmware/b'] []\n", ran.stdout.replace("[] ", "", 1))
            self.assertTrue(ran.stdout.endswith("no such file on the server\n"))


if __name__ == "__main__":
    unittest.main()
