"""Mailbox names: inside, str with "/" between levels; on the wire, modified UTF-7 (RFC 3501 5.1.3).

INBOX is INBOX in any case. A name that decodes badly, has control characters, an empty level or ``.``/``..`` as a
level is refused with CannotDo, so that no name can lead out of its Maildir.
"""

import base64
import re

from fastmail.model.errors import CannotDo

INBOX = "INBOX"
MAX_OCTETS = 240
_ENCODED = re.compile(r"&([^-&]*)-")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SPECIAL = re.compile(r"[^\x20-\x25\x27-\x7e]+|&")


def decode_utf7(name: bytes) -> str:
    """Modified UTF-7 to str; CannotDo when it is not (8-bit octets, bad base64, encoded ASCII, lone surrogates)."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            raise CannotDo("mailbox name is neither modified UTF-7 nor UTF-8") from None
    if "&" not in text:
        return text
    if text.count("&") != len(_ENCODED.findall(text)):
        raise CannotDo("mailbox name has & without -")

    def shift(match: re.Match[str]) -> str:
        run = match.group(1)
        if not run:
            return "&"
        if not re.fullmatch(r"[A-Za-z0-9+,]+", run):
            raise CannotDo("mailbox name is not modified UTF-7")
        try:
            raw = base64.b64decode(run.replace(",", "/") + "=" * (-len(run) % 4))
            part = raw.decode("utf-16-be")
        except ValueError:
            raise CannotDo("mailbox name is not modified UTF-7") from None
        return part

    return _ENCODED.sub(shift, text)


def encode_utf7(name: str) -> bytes:
    """str to modified UTF-7."""

    def shift(match: re.Match[str]) -> str:
        run = match.group(0)
        if run == "&":
            return "&-"
        coded = base64.b64encode(run.encode("utf-16-be", "surrogatepass")).decode("ascii").rstrip("=")
        return "&" + coded.replace("/", ",") + "-"

    return _SPECIAL.sub(shift, name).encode("ascii")


def canonical(name: str, separator: str, dotted: bool = False) -> str:
    """A client's name, with its ``separator``, as it is stored; CannotDo for one that can not be. ``dotted``: may a
    level have dots?"""
    name = name.removesuffix(separator)
    levels = name.split(separator)
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    for level in levels:
        if not level:
            raise CannotDo("mailbox name has an empty level")
        if _CONTROL.search(level):
            raise CannotDo("mailbox name has a control character")
        if "/" in level or ("." in level and not dotted):
            raise CannotDo("character not allowed in mailbox name: " + ("/" if "/" in level else "."))
        if level in (".", ".."):
            raise CannotDo(f"{level} is no name for a mailbox")
        if level.startswith("~"):
            raise CannotDo("mailbox name may not start with ~")
    name = "/".join(levels)
    if len(encode_utf7(name)) > MAX_OCTETS:
        raise CannotDo("mailbox name is too long")
    return name


def pattern(text: str, separator: str) -> re.Pattern[str]:
    """LIST wildcards as a linear-time expression: ``*`` any, ``%`` any but the separator."""
    parts = re.split(r"([*%]+)", text)
    out = []
    for part in parts:
        if part and part[0] in "*%":
            out.append("(?:.*)" if "*" in part else f"(?:[^{re.escape(separator)}]*)")
        else:
            out.append(re.escape(part))
    return re.compile("".join(out), re.DOTALL)
