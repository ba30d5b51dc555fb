"""Authentication-Results (RFC 8601): written, and forged ones found.

What is written is one field with all results. Nothing from a message or the DNS gets in as it is: names are names,
other values are cut down to printable ASCII and quoted where they are no tokens, so nobody can end a value or start a
field.

Forged are fields that bear our own name, in any spelling that a reader may take for it (comments, quotes, case,
U-labels) and those whose name or version cannot be told, because some reader could take them for ours (5). So is
Received-SPF, which has the name as its receiver. They are removed after signatures were verified, since a signature may
cover them.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

import msgspec

from fastmail._core import header as scanner
from fastmail.durable.staging import Staged, staged_whole
from fastmail.message import subject
from fastmail.message.header import ON_LOOP, Octets
from fastmail.model.domain import comparable

VALUE = 255  # characters
REMEMBERED = 4096  # values
WIDTH, FOLD = 76, "\n\t  "  # characters of a folded line behind its indent, and what folds it
NOTHING = "; none"
LOOKED_AT = 2048  # octets of a foreign field
OURS = (b"x-spam", b"x-virus", b"x-fastmail-")  # what names of fields that only this server sets begin with
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+")
_LOCAL = re.compile(r"""(?:[\w!#$%&'*+\-/=?^`{|}~]+(?:\.[\w!#$%&'*+\-/=?^`{|}~]+)*)?|"(?:[^"\\]|\\.)*\"""", re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_NO_COMMENT, _TO_QUOTE = re.compile(r"[()\\]|[^\x20-\x7e]"), re.compile(r'(["\\])')
_COMMENT = re.compile(r"[^()\\]+|\\.|[()]", re.DOTALL)
_WORD = r'[^\s()<>@,;:\\"/\[\]?=]+'
_ONE_WORD = re.compile(_WORD)
_NAME = re.compile(rf'"((?:[^"\\]|\\.)*)"|({_WORD})')
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")  # of Received-SPF
_PAIRED = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s();"]+)', re.DOTALL)  # what stands behind it
_VERSION = re.compile(r"1(?:[\s;(]|$)")


class Result(msgspec.Struct, frozen=True):
    """One method's. ``properties``: pairs such as ("header.d", "example.org"); ``comment``: for people."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    comment: str = ""


@lru_cache(REMEMBERED)
def value(text: str) -> str:
    """A value as RFC 8601 2.2 has it: a token, an address, or a quoted string."""
    if len(text) <= VALUE and _TOKEN.fullmatch(text):
        return text
    text = _UNSAFE.sub("?", text[:VALUE])
    if _TOKEN.fullmatch(text):
        return text
    local, at, domain = text.rpartition("@")
    if not at or not _DOMAIN.fullmatch(domain):
        return quoted(text)
    return f"{local if _LOCAL.fullmatch(local) else quoted(local)}@{domain}"


def quoted(text: str) -> str:
    return '"' + _TO_QUOTE.sub(r"\\\1", _UNSAFE.sub("?", text[:VALUE])) + '"'


def comment(text: str) -> str:
    """For people; no brackets or backslashes, which would nest or escape."""
    return "(" + _NO_COMMENT.sub("?", text[:VALUE]) + ")"


def line(one: Result) -> str:
    """One result behind the semicolon that ends what comes before (LF)."""
    words = [f"{one.method}={one.result}"]
    if one.comment:
        words.append(comment(one.comment))
    if one.reason:
        words.append(f"reason={quoted(one.reason)}")
    words += [f"{name}={value(text)}" for name, text in one.properties if text]
    text, used = ";\n\t" + words[0], len(words[0])
    for word in words[1:]:
        if len(word) > WIDTH - used:
            text, used = text + FOLD + word, len(word)
        else:
            text, used = f"{text} {word}", used + 1 + len(word)
    return text


def more(name: str, shown: str, left: int) -> str:
    """A property more behind a line that has ``left`` characters left; what is shown is another one each time, and not
    worth remembering."""
    if not shown:
        return ""
    word = f"{name}={shown if shown.isalnum() and shown.isascii() else value.__wrapped__(shown)}"
    return (FOLD if len(word) > left else " ") + word


def left(text: str) -> int:
    """How long a word may be that goes behind a line of results without a fold; a folded line begins with FOLD."""
    at = text.rfind("\n")
    return WIDTH - (len(text) - at - (len(FOLD) if text.startswith(FOLD, at) else len("\n\t")))


def behind_cfws(text: str, at: int) -> int:
    """Where comments and white space end (RFC 5322 3.2.2); -1 for a comment without an end."""
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
            continue
        if text[at] != "(":
            break
        at, depth = at + 1, 1
        while depth:
            found = _COMMENT.match(text, at)
            if found is None:
                return -1
            depth += {"(": 1, ")": -1}.get(found.group(), 0)
            at = found.end()
    return at


def server(octets: bytes) -> str | None:
    """Whose results a field's value has, as ``comparable`` writes it; None where that or its version cannot be told."""
    cut = len(octets) > LOOKED_AT
    text = octets[:LOOKED_AT].decode("utf-8", "replace")
    at = behind_cfws(text, 0)
    found = _NAME.match(text, at) if at >= 0 else None
    if found is None:
        return None
    name = _unquoted(found).strip()
    if not _ONE_WORD.fullmatch(name):  # quoted, and of several words: a reader may take the first one
        return None
    at = behind_cfws(text, found.end())
    if at < 0 or (at == len(text) and cut):  # the name may go on
        return None
    if at < len(text) and text[at] != ";" and not _VERSION.match(text, at):
        return None
    return comparable(name)


def receiver(octets: bytes) -> str | None:
    """Whose results a Received-SPF field's value has: its only ``receiver`` (RFC 7208 9.1), as ``comparable`` writes
    it; None where that cannot be told, or the field has not its form."""
    if len(octets) > LOOKED_AT:
        return None
    text = octets.decode("utf-8", "replace")
    at = behind_cfws(text, 0)
    result = _NAME.match(text, at) if at >= 0 else None
    at = behind_cfws(text, result.end()) if result is not None else -1
    named: list[str] = []
    while 0 <= at < len(text):
        key = _KEY.match(text, at)
        at = behind_cfws(text, key.end()) if key is not None else -1
        equals = at >= 0 and text[at : at + 1] == "="
        at = behind_cfws(text, at + 1) if equals else -1
        found = _PAIRED.match(text, at) if at >= 0 else None
        if key is None or found is None:
            return None
        if key.group().lower() == "receiver":
            named.append(_unquoted(found))
        at = behind_cfws(text, found.end())
        if text[at : at + 1] == ";":
            at = behind_cfws(text, at + 1)
    return comparable(named[0].strip()) if at >= 0 and len(named) == 1 else None


def _unquoted(found: re.Match[str]) -> str:
    return found.group(2) or re.sub(r"\\(.)", r"\1", found.group(1) or "", flags=re.DOTALL)


READ = {b"authentication-results": server, b"received-spf": receiver}  # who wrote a field
MARKS = (*READ, *OURS)  # what names of fields begin with that may have to be cut out


def forged(header: Octets, hostname: str, marks: bool = True) -> list[tuple[int, int]]:
    """Which octets of a header (LF) to cut out, in order: fields of results that are ours or may be; with ``marks``,
    fields that only this server sets too."""
    mine = comparable(hostname)
    out: list[tuple[int, int]] = []
    for start in memoryview(scanner.starting(header, MARKS)).cast("I"):
        name, behind, end = scanner.field(header, start)
        word = bytes(header[start:name]).lower()
        reads = READ.get(word)
        if reads is not None:
            whose = reads(bytes(header[behind : min(end, behind + LOOKED_AT + 1)]))
            if whose is None or whose == mine:
                out.append((start, end))
        elif marks and word.startswith(OURS):
            out.append((start, end))
    return out


def named(header: Octets, wanted: Iterable[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """The same for fields by their names (lower case): each with which of them, 0 for all, from the top from 1 on, from
    the bottom below 0."""
    out: set[tuple[int, int]] = set()
    for name, which in wanted:
        starts = memoryview(scanner.starts(header, name)).cast("I").tolist()
        if which:
            starts = starts[which - 1 if which > 0 else which :][:1] if abs(which) <= len(starts) else []
        out.update((start, scanner.field(header, start)[2]) for start in starts)
    return sorted(out)


def unwanted(
    header: Octets, hostname: str, more: Sequence[tuple[bytes, int]] = (), marks: bool = True
) -> list[tuple[int, int]]:
    """Which octets to cut out: what is forged, and ``more`` fields by their names."""
    cuts = forged(header, hostname, marks)
    return sorted({*cuts, *named(header, more)}) if more else cuts


def pieces(
    add: bytes, content: Octets, cuts: Collection[tuple[int, int]], edits: Collection[subject.Edit] = ()
) -> list[Octets]:
    """The message with ``add`` in front of it, without ``cuts``, and with ``edits`` of what is left."""
    if not cuts and not edits:  # as of most messages
        return [add, content]
    out: list[Octets] = [add]
    at = 0
    for start, end, text in sorted([*((start, end, b"") for start, end in cuts), *edits]):
        if start < at:  # within what was cut
            continue
        out += (content[at:start], text) if text else (content[at:start],)
        at = end
    out.append(content[at:])
    return out


async def put(
    add: bytes,
    content: Octets,
    hostname: str,
    staged: Staged,
    more: Sequence[tuple[bytes, int]] = (),
    marks: bool = True,
    tag: str = "",
) -> Octets:
    """The message (LF) with ``add`` in front of it, without forged fields and ``more`` of its fields (``named``), and
    with ``tag`` in front of its subject; or the content itself where nothing changes. A large message, which lies in a
    file, goes to a file again by ``staged``, and is not in memory."""

    def changed() -> list[Octets]:
        cuts = unwanted(content, hostname, more, marks)
        return pieces(add, content, cuts, subject.edits(content, tag) if tag else ()) if add or cuts or tag else []

    small = len(content) <= ON_LOOP
    made = changed() if small else await asyncio.get_running_loop().run_in_executor(None, changed)
    if not made:
        return content
    return b"".join(made) if small else await staged_whole(staged, made)
