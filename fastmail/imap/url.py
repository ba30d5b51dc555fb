"""IMAP URLs (RFC 5092), with which CATENATE and URLAUTH name messages and parts: absolute, or relative to the account
or the selected mailbox.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fastmail._core import pages
from fastmail._core.imap import ParseError, Reader
from fastmail._core.uidset import UidSet
from fastmail.imap import places
from fastmail.imap.aside import aside
from fastmail.imap.service import Service
from fastmail.message import sections, summary
from fastmail.model.errors import CannotDo, MailError
from fastmail.store.interface import Account

SCHEME = "imap://"
PARAMETERS = ("UIDVALIDITY", "UID", "SECTION", "PARTIAL", "EXPIRE", "URLAUTH")  # in this order, each at most once
TOP_UID = 0xFFFFFFFF
TOP_OFFSET = (1 << 63) - 1
MOST_DIGITS = 19


@dataclass(slots=True)
class Url:
    """A parsed URL. ``mailbox`` is empty for the selected one; ``section`` as in BODY[...]."""

    user: str
    host: str
    mailbox: str
    validity: int
    uid: int
    section: str
    partial: tuple[int, int] | None
    auth: str


def parse(text: str) -> Url | None:
    """Parse a URL; None if it is not one of a message or a part of one.

    The text is split at its ``;`` and ``/``, never matched by a regular expression: a client may send 64 kB of it, and
    the parts of a URL are ambiguous enough to make one quadratic."""
    if not text.isascii():
        return None
    user = host = ""
    if text[: len(SCHEME)].lower() == SCHEME:
        authority, slash, rest = text[len(SCHEME) :].partition("/")
        server = _server(authority)
        if server is None:
            return None
        (user, host), text = server, slash + rest
    path, *pieces = text.split(";")
    found = _parameters(pieces)
    if found is None or "UID" not in found or ("EXPIRE" in found and "URLAUTH" not in found):
        return None
    uid = _number(found["UID"], TOP_UID)
    validity = _number(found.get("UIDVALIDITY", "0"), TOP_UID)
    partial = _partial(found.get("PARTIAL"))
    try:
        user, box, section = (
            unquote_to_bytes(one).decode("utf-8") for one in (user, path.strip("/"), found.get("SECTION", ""))
        )
    except UnicodeDecodeError:  # %E9: no name that could be meant (RFC 5092 3)
        return None
    if not uid or validity is None or partial is None:
        return None
    auth = "".join(f";{name}={found[name]}" for name in ("EXPIRE", "URLAUTH") if name in found)
    return Url(user, host, box.strip("/"), validity, uid, section, partial or None, auth)


def _server(authority: str) -> tuple[str, str] | None:
    """Return (user, host) of ``user;AUTH=mechanism@host:port`` (RFC 5092 3)."""
    login, _, place = authority.rpartition("@")
    user, mechanism, name = login.partition(";")
    host, colon, port = place.partition(":")
    if not host or ";" in host or (colon and not port.isdigit()) or (mechanism and name[:5].upper() != "AUTH="):
        return None
    return user, host


def _parameters(pieces: list[str]) -> dict[str, str] | None:
    """Return ``NAME=value`` pieces by name; None for unknown ones, a wrong order or an empty value."""
    found: dict[str, str] = {}
    order = -1
    for position, piece in enumerate(pieces, 1):
        name, equals, value = piece.partition("=")
        name = name.upper()
        place = PARAMETERS.index(name) if name in PARAMETERS else -1
        if place <= order:
            return None
        if position < len(pieces) and place < PARAMETERS.index("EXPIRE"):
            value = value.removesuffix("/")  # it belongs to the parameter that follows
        if not equals or (not value and name != "SECTION"):
            return None
        order, found[name] = place, value
    return found


def _number(text: str, top: int) -> int | None:
    number = int(text) if text.isdigit() and len(text) <= MOST_DIGITS else top + 1
    return number if number <= top else None


def _partial(text: str | None) -> tuple[int, int] | tuple[()] | None:
    """Return (offset, octets) of ``offset[.octets]``; () if there is no such parameter, None if it is wrong."""
    if text is None:
        return ()
    offset, dot, length = text.partition(".")
    first, octets = _number(offset, TOP_OFFSET), _number(length, TOP_OFFSET) if dot else TOP_OFFSET
    return None if first is None or octets is None else (first, octets)


async def read(service: Service, account: Account, url: Url, selected: bytes | None, binary: bool = False) -> bytes:
    """Return the octets that a URL names, with CRLF. CannotDo if there are none. ``selected``: the mailbox of relative
    ones; ``binary``: without the part's transfer encoding."""
    store = service.store
    key = selected
    if url.mailbox:
        key = store.find(account, places.personal(service, url.mailbox))
    if key is None:
        raise CannotDo("no such mailbox")
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
        one = UidSet.of([url.uid])
        # it must exist, not merely be kept for views
        there = box is not None and any(pages.changed_since(page, one, 0) for page in snapshot.pages(key, one))
    if box is None or (url.validity and url.validity != box.uidvalidity):
        raise CannotDo("the mailbox was replaced by another one")
    if not there:
        raise CannotDo("the message is gone")
    try:
        content = await store.content(account, key, url.uid)
    except MailError as error:
        raise CannotDo("the message cannot be read") from error
    if content is None:
        raise CannotDo("no such message")
    try:
        ((_, _, path, what, names, _, _),) = Reader(b"BODY.PEEK[" + url.section.encode() + b"]").fetch_items()
    except (ParseError, ValueError):
        raise CannotDo("no such section") from None
    what = b"BINARY" if binary and not what else what
    found = await aside(len(content), _section, content, path, what, names)
    if found is None:
        raise CannotDo("no such section")
    if url.partial is not None:
        found = found[url.partial[0] : url.partial[0] + url.partial[1]]
    return found


def _section(content: bytes, path: tuple[int, ...], what: bytes, names: tuple[bytes, ...]) -> bytes | None:
    return sections.extract(content, summary.of(content), path, what, names)
