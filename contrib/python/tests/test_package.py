"""The package as a stranger installs it: `pip install .` and a wheel, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
import zipfile
from pathlib import Path
from shutil import copytree, ignore_patterns

from support import REPOSITORY, host_serv, temporary

#: What pip says when it has no package index, or one that fails.
_OFFLINE = (
    "No matching distribution",
    "Could not find a version",
    "connection",
    "Connection",
    "Temporary failure",
    "timed out",
    "HTTP error",
    "Client Error",
    "Server Error",
)


class Package(unittest.TestCase):
    def run_in(self, *command: str, cwd: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_RETRIES="1", PIP_TIMEOUT="20")
        ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode and "pip" in command and any(word in ran.stdout + ran.stderr for word in _OFFLINE):
            self.skipTest("the package index can't be reached")
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout

    def test_the_wheel_and_the_installation_work(self) -> None:
        with temporary() as folder:
            # A copy: building leaves files in the source.
            source = os.path.join(folder, "source")
            copytree(REPOSITORY / "contrib/python", source, ignore=ignore_patterns("*.egg-info", "build", "tests"))
            try:
                self.run_in(sys.executable, "-m", "venv", "env", cwd=folder)
            except AssertionError as error:
                self.skipTest(f"no virtual environments here: {error}")
            scripts = Path(folder, "env", "Scripts" if sys.platform == "win32" else "bin")
            python = str(scripts / "python")
            self.run_in(python, "-m", "pip", "wheel", "--no-deps", "-w", "dist", "./source", cwd=folder)
            (wheel,) = Path(folder, "dist").glob("*.whl")
            self.assertEqual(wheel.name, "skiff_client-0.1.0-py3-none-any.whl")
            names = set(zipfile.ZipFile(wheel).namelist())
            sources = {f"skiff/{path.name}" for path in Path(source, "src/skiff").iterdir() if path.suffix != ".pyc"}
            self.assertEqual({name for name in names if name.startswith("skiff/")}, sources - {"skiff/__pycache__"})
            self.assertIn("skiff/py.typed", names)
            with host_serv(folder) as port:
                for what in (str(wheel), "./source"):
                    self.run_in(python, "-m", "pip", "install", "--force-reinstall", what, cwd=folder)
                    for program in ([str(scripts / "skiff")], [python, "-m", "skiff"]):
                        out = self.run_in(*program, "127.0.0.1", str(port), "ls", cwd=folder)
                        self.assertEqual(out, "dist/\nenv/\nsource/\n")
            # The extra: the checksum in C, if there is a wheel of it for this machine.
            self.run_in(python, "-m", "pip", "install", "--only-binary", ":all:", "google-crc32c", cwd=folder)
            code = "from skiff import checksum as c; print(c.implementation, '%08x' % c.crc32c(b'123456789'))"
            self.assertIn(self.run_in(python, "-c", code, cwd=folder), ("google-crc32c e3069283\n",))


if __name__ == "__main__":
    unittest.main()
