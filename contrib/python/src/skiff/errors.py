"""Exceptions, by cause.

================== =============================================================
`Refused`          the server answered `error`; it changed nothing, and the connection stays usable
`ConnectionLost`   the connection broke, or the server stopped responding
`ProtocolError`    the server broke the protocol
`VerificationFailed` the data that arrived does not match the data on the server
`BadName`          the caller passed a name that breaks the rules for names
`KeyFileError`     a key file that can't be used
`NeedsExtended`    the server supports only the classic commands
`NotText`          the file is not text, which a classic server would corrupt
`OSError`          this machine: files, permissions, disk space
================== =============================================================
"""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    r"""Escapes what could control a terminal: `\u{202e}` for U+202E."""
    if text.isascii() and text.isprintable():
        return text
    # Controls, formats (which include bidirectional overrides), separators, surrogates.
    hidden = ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
    return "".join(f"\\u{{{ord(char):x}}}" if unicodedata.category(char) in hidden else char for char in text)


class SkiffError(Exception):
    """Any failure of this module, except those of the local machine (`OSError`)."""

    #: Stable, for programs; the codes that host-cli prints with `--json`.
    code: str = "protocol"


class Refused(SkiffError):
    """The server answered `error CODE TEXT`. It changed nothing."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        known = _REFUSALS.get(self.code)
        if known is not None:
            return known
        said = f"{self.code}: {self.text}" if self.text else self.code
        return "the server answers " + printable(said)


class NotFound(Refused):
    """There is no such file or directory on the server."""


class ConnectionLost(SkiffError):
    """The connection ended or broke. It is unknown whether the last change took effect."""

    code = "lost"


class CannotConnect(ConnectionLost):
    """No connection to the server."""

    code = "connect"


class KeyRefused(CannotConnect):
    """The server refuses the key, does not have its secret, or does not encrypt."""

    code = "key"


class TimedOut(ConnectionLost):
    """The server made no progress for `timeout` seconds."""

    code = "timeout"


class DataConnectionFailed(SkiffError):
    """A classic transfer failed; a classic server gives no reason."""

    code = "data"


class ProtocolError(SkiffError):
    """The server violated the protocol. The connection is closed."""


class VerificationFailed(SkiffError):
    """The data does not match the data on the server. No file was created or replaced."""

    code = "mismatch"


class BadName(SkiffError, ValueError):
    """A name that breaks a rule of PROTOCOL section 2."""

    code = "bad-name"


class KeyFileError(SkiffError):
    """A key file that can't be used, or keys can't be used here."""

    code = "key"


class NeedsExtended(SkiffError):
    """The server supports only the classic commands."""

    code = "needs-extended"

    def __init__(self, verb: str) -> None:
        super().__init__(f"this server supports only the classic commands, not {verb}")


class NotText(SkiffError):
    """Content that a classic server would corrupt."""

    code = "not-text"

    def __init__(self) -> None:
        super().__init__("not UTF-8 text; this classic server corrupts other files (-f sends it)")


def refused(code: str, text: str = "") -> Refused:
    """The exception for a code of PROTOCOL section 6."""
    return NotFound(code, text) if code == "not-found" else Refused(code, text)


_REFUSALS = {
    "bad-name": "the server does not accept this name",
    "not-found": "no such file on the server",
    "exists": "it already exists on the server",
    "is-directory": "a directory on the server",
    "not-empty": "the directory on the server is not empty",
    "range": "beyond the end of the file on the server",
    "no-space": "no space left on the server",
    "busy": "another connection is writing this file",
    "denied": "the server does not permit this",
    "read-only": "the server is read-only",
    "changed": "the file changed on the server during the transfer",
    "unsupported": "the server does not support this",
    "bad-command": "the server does not support this",
    "refused": "the server refuses",
}
