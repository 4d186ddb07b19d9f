"""What the program prints: results, errors, progress."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Iterator, Optional, Tuple

from .errors import SkiffError, printable


class Usage(Exception):
    """Wrong arguments."""


class NoMatch(SkiffError):
    """A glob that matches nothing."""

    code = "no-match"


class Omitted(SkiffError):
    """A listing that is not whole."""

    code = "omitted"


class Run:
    """One run: the output, and what went wrong."""

    def __init__(self, as_json: bool, quiet: bool, line: Optional[int] = None) -> None:
        self.json, self.quiet, self.line = as_json, quiet, line
        self.failed = False

    def result(self, text: str, shape: str, /, **keys: object) -> None:
        """A result that was asked for."""
        if self.json:
            text = json.dumps({"type": shape, **keys}, separators=(",", ":"))
        elif sys.stdout.isatty():
            text = printable(text)
        sys.stdout.write(text + "\n")

    def note(self, text: str, shape: str, /, **keys: object) -> None:
        """A result that `-q` suppresses."""
        if not self.quiet:
            self.result(text, shape, **keys)

    def error(self, command: Optional[str], name: Optional[str], error: BaseException) -> None:
        """One line on standard error."""
        self.failed = True
        code, message = _describe(error)
        with contextlib.suppress(OSError, ValueError):
            if self.json:
                keys = {"command": command, "name": name, "line": self.line, "code": code, "message": message}
                sys.stderr.write(json.dumps({"type": "error", **keys}, separators=(",", ":")) + "\n")
            else:
                where = [f"line {self.line}"] if self.line else []
                where += [printable(" ".join(word for word in (command, name) if word))] * bool(command)
                sys.stderr.write(": ".join(["skiff", *where, printable(message)]) + "\n")

    def left_out(self, command: str, name: str) -> None:
        """A local entry that is not transferred, on purpose: no failure."""
        with contextlib.suppress(OSError, ValueError):
            if self.json:
                keys = {"command": command, "name": name, "message": "not a regular file"}
                sys.stderr.write(json.dumps({"type": "left-out", **keys}, separators=(",", ":")) + "\n")
            else:
                sys.stderr.write(f"skiff: {command} {printable(name)}: left out, not a regular file\n")

    @contextlib.contextmanager
    def each(self, command: str, name: Optional[str]) -> Iterator[None]:
        """Reports a failure of one name and continues with the others."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (SkiffError, OSError) as error:
            self.error(command, name, error)


def _describe(error: BaseException) -> Tuple[str, str]:
    if isinstance(error, SkiffError):
        return error.code, str(error)
    if isinstance(error, Usage):
        return "usage", str(error)
    if isinstance(error, OSError) and error.strerror:
        path = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return "local", path + error.strerror
    return "local", str(error)


class Bar:
    """The progress of a transfer, if standard error is a terminal and it takes longer than half a second."""

    def __init__(self, run: Run, title: str) -> None:
        self._on = sys.stderr.isatty() and not run.quiet
        self._title = printable(title)
        self._next = time.monotonic() + 0.5
        self._shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._on and now >= self._next:
            self._next, self._shown = now + 0.1, True
            sys.stderr.write(f"\r{self._title}: {done} of {total} bytes, {100 * done // max(total, 1)} %\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
