"""Names of files on a server, PROTOCOL section 2."""

from __future__ import annotations

import os
import re

from .errors import BadName, printable

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\\\\]")


def check_name(name: str, name_max: int = 255) -> str:
    """Returns `name` if it keeps the rules.

    Raises:
        BadName: it does not.
    """
    why = _objection(name, name_max)
    if why is not None:
        raise BadName(f"bad name {printable(name)!r}: {why}")
    return name


def is_name(name: str, name_max: int = 255) -> bool:
    """True if `name` keeps the rules."""
    return _objection(name, name_max) is None


def _objection(name: str, name_max: int) -> str | None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "not UTF-8"
    if not name:
        return "it is empty"
    if length > min(name_max, 255):
        return f"longer than {min(name_max, 255)} bytes"
    if _CONTROL.search(name):
        return "a control character or a backslash"
    for component in name.split("/"):
        if component in ("", ".", ".."):
            return "an empty component, `.` or `..`"
        if component.startswith(".skiff-"):
            return "names that begin with `.skiff-` are reserved"
    return None


# Names that Windows changes, or reserves for devices.
_WINDOWS = re.compile(r'[<>:"|?*]|[. ]$|^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])( *\.|$)', re.IGNORECASE)


def is_local(name: str, windows: bool = os.name == "nt") -> bool:
    """True if a file of this name can be created on this machine and is found by that name again."""
    if not is_name(name):
        return False
    return not windows or not any(_WINDOWS.search(part) for part in name.split("/"))
