"""Small files with secrets that only root may read: passwords of smart hosts, of LDAP, of token servers.

A server that starts as root reads its configuration first, drops root, and then makes workers that read the same again:
what was read while this process was root is remembered for them.
"""

import os

LONGEST = 65536
_remembered: dict[str, str] = {}


def read(path: str) -> str:
    """The text of a file. OSError, also for one that is not UTF-8 or too long for a secret."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except PermissionError:
        if path not in _remembered:
            raise
        return _remembered[path]
    except UnicodeDecodeError:
        raise OSError(0, "it is not UTF-8 text") from None
    if len(text) > LONGEST:
        raise OSError(0, "it is too long for a password")
    if os.geteuid() == 0:
        _remembered[path] = text
    return text


def first_line(path: str) -> str:
    """Its first line without the line end. OSError."""
    return read(path).partition("\n")[0].rstrip("\r")
