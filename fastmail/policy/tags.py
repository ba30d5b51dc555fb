"""Tag lists: ``a=b; c=d`` as DKIM has them in signatures and key records (RFC 6376 3.2), DMARC and ARC too.

Promise: linear and bounded. A name that is there twice, or a part that is no tag, is BadTags: one reader would take the
first, another the last.
"""

import re

TAGS = 100
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPACE = " \t\r\n"
_NO_SPACE = str.maketrans("", "", _SPACE)


class BadTags(ValueError):
    """It is no tag list; the text says why."""


def parse(text: str) -> dict[str, str]:
    """Values by name, without the white space around them."""
    out: dict[str, str] = {}
    parts = text.split(";", TAGS + 1)
    if len(parts) > TAGS + 1:
        raise BadTags(f"more than {TAGS} tags")
    for at, part in enumerate(parts):
        if not part.strip(_SPACE):
            if at + 1 < len(parts):
                raise BadTags("an empty tag")
            continue
        name, equals, value = part.partition("=")
        name = name.strip(_SPACE)
        if not equals or not _NAME.fullmatch(name):
            raise BadTags("a part is no tag")
        if name in out:
            raise BadTags(f"{name[:20]}= is there twice")
        out[name] = value.strip(_SPACE)
    return out


def plain(value: str) -> str:
    """A value without any white space, as base64 and lists may have it folded (RFC 6376 2.3)."""
    return value.translate(_NO_SPACE)


def words(value: str) -> list[str]:
    """The items of a list with colons, in lower case."""
    return [word.strip(_SPACE).lower() for word in value.split(":")]


def without(field: bytes, name: bytes) -> bytes:
    """A header field with the value of one tag removed, and the white space around that value (RFC 6376 3.7). The tag
    is found as ``parse`` finds it, wherever it is."""
    colon = field.index(b":")
    parts = field[colon + 1 :].split(b";")
    for at, part in enumerate(parts):
        found, equals, _ = part.partition(b"=")
        if equals and found.strip() == name:
            tail = b""
            if at + 1 == len(parts):  # the line end of the field is not part of the value
                tail = b"\r\n" if part.endswith(b"\r\n") else b"\n" if part.endswith(b"\n") else b""
            parts[at] = found + b"=" + tail
            break
    return field[: colon + 1] + b";".join(parts)
