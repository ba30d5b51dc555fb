"""Authentication results that another host wrote (RFC 8601 2.2), read: the value of Authentication-Results, or of
ARC-Authentication-Results behind its instance (RFC 8617 4.1.1).

    mx.example.org 1; spf=pass smtp.mailfrom=a@b.test; dmarc=fail (p=none) header.from=b.test

Promise: linear and bounded. A value is read whole or not at all: a reader who skipped what it does not understand could
miss a ``dmarc=fail``. So a value that is longer than LARGEST, has more than RESULTS results, or a part without the form
of a result is None. Unknown methods, results and properties have that form and are returned as they are. A value
without quotes may have more characters than a token has (RFC 2045 5.1), because many hosts write Base64 that way.
"""

import re
from dataclasses import dataclass

from fastmail.policy.results import behind_cfws

LARGEST = 16384  # characters of a value
RESULTS = 100
PROPERTIES = 50  # of one result
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s()";]+)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reported:
    """One method's result. ``method`` and ``result`` are in lower case; ``properties``: pairs such as ("header.from",
    "b.test"), in their order, names in lower case."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> list[str]:
        """All values of a property."""
        return [value for key, value in self.properties if key == name]


class _Unreadable(ValueError):
    """The text has not the form of results."""


def read(text: str) -> list[Reported] | None:
    """The results of a value; none for ``none``. None where it cannot be read."""
    if len(text) > LARGEST:
        return None
    try:
        at = _server(text)
        found: list[Reported] = []
        while at < len(text):
            if text[at] != ";" or len(found) == RESULTS:
                return None
            at = _cfws(text, at + 1)
            if at == len(text) and found:  # some hosts end the last result with a semicolon
                break
            one, at = _result(text, at)
            if one is not None:
                found.append(one)
            elif found or at < len(text):  # "none" stands alone
                return None
    except _Unreadable:
        return None
    return found


def _cfws(text: str, at: int) -> int:
    behind = behind_cfws(text, at)
    if behind < 0:
        raise _Unreadable
    return behind


def _value(text: str, at: int) -> tuple[str, int]:
    """(a token or the content of a quoted string, where what is behind it begins)."""
    found = _VALUE.match(text, at)
    if found is None:
        raise _Unreadable
    quoted, plain = found.groups()
    value = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
    return value, _cfws(text, found.end())


def _word(text: str, at: int) -> tuple[str, int]:
    found = _WORD.match(text, at)
    if found is None:
        raise _Unreadable
    return found.group().lower(), _cfws(text, found.end())


def _server(text: str) -> int:
    """Where the results begin, behind the name of the host and the version."""
    _, at = _value(text, _cfws(text, 0))
    if at < len(text) and text[at] != ";":
        version, at = _value(text, at)
        if version != "1":
            raise _Unreadable
    if at == len(text):  # neither results nor "none"
        raise _Unreadable
    return at


def _result(text: str, at: int) -> tuple[Reported | None, int]:
    """(a result, or None for "none"; where the next one begins)."""
    method, at = _word(text, at)
    if method == "none" and (at == len(text) or text[at] == ";"):
        return None, at
    if text[at : at + 1] == "/":  # the method's version
        _, at = _word(text, _cfws(text, at + 1))
    result, at = _word(text, _equals(text, at))
    properties: list[tuple[str, str]] = []
    while at < len(text) and text[at] != ";":
        name, at = _word(text, at)
        if text[at : at + 1] == ".":
            word, at = _word(text, _cfws(text, at + 1))
            name = f"{name}.{word}"
        value, at = _value(text, _equals(text, at))
        if len(properties) == PROPERTIES:
            raise _Unreadable
        properties.append((name, value))
    return Reported(method, result, tuple(properties)), at


def _equals(text: str, at: int) -> int:
    if text[at : at + 1] != "=":
        raise _Unreadable
    return _cfws(text, at + 1)
