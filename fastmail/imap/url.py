"""IMAP URLs (RFC 5092), as CATENATE and URLAUTH name messages and parts: absolute, or relative to the account or to the
selected mailbox.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import places
from fastmail.message import sections, summary
from fastmail.model.errors import CannotDo, MailError
from fastmail.store.interface import Account

if TYPE_CHECKING:
    from fastmail.imap.session import Service

_FORM = re.compile(
    r"(?:imap://(?:(?P<user>[^/;@]*)(?:;AUTH=[^/@]*)?@)?(?P<host>[^/;@:]+)(?::\d+)?)?"
    r"(?:/?(?P<box>[^;]*?)(?:;UIDVALIDITY=(?P<validity>\d{1,10}))?)?"
    r"/?;UID=(?P<uid>\d{1,10})"
    r"(?:/?;SECTION=(?P<section>[^;]*?))?"
    r"(?:/?;PARTIAL=(?P<first>\d{1,19})(?:\.(?P<length>\d{1,19}))?)?"
    r"(?P<auth>(?:;EXPIRE=[^;]+)?;URLAUTH=[^;]+)?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Url:
    """``mailbox`` empty: the selected one. ``section`` as in BODY[...]."""

    user: str
    host: str
    mailbox: str
    validity: int
    uid: int
    section: str
    partial: tuple[int, int] | None
    auth: str


def parse(text: str) -> Url | None:
    """None for what is not the URL of a message or a part of one."""
    found = _FORM.fullmatch(text)
    if found is None or not text.isascii():
        return None

    def plain(name: str) -> str:
        return unquote_to_bytes(found.group(name) or "").decode("utf-8", "replace")

    partial = None
    if found.group("first"):
        partial = int(found.group("first")), int(found.group("length") or 1 << 40)
    return Url(
        plain("user"),
        found.group("host") or "",
        plain("box").strip("/"),
        int(found.group("validity") or 0),
        int(found.group("uid")),
        plain("section"),
        partial,
        found.group("auth") or "",
    )


async def read(service: "Service", account: Account, url: Url, selected: bytes | None, binary: bool = False) -> bytes:
    """The octets that a URL names, with CRLF. CannotDo when there are none; ``selected`` is the mailbox of relative
    ones; ``binary``: without the transfer encoding of the part."""
    store = service.store
    key = selected
    if url.mailbox:
        key = store.find(account, places.personal(service, url.mailbox))
    if key is None:
        raise CannotDo("no such mailbox")
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
    if box is None or (url.validity and url.validity != box.uidvalidity):
        raise CannotDo("the mailbox is another one now")
    try:
        content = await store.content(account, key, url.uid)
    except MailError as error:
        raise CannotDo("the message can not be read") from error
    if content is None:
        raise CannotDo("no such message")
    try:
        ((_, _, path, what, names, _, _),) = Reader(b"BODY.PEEK[" + url.section.encode() + b"]").fetch_items()
    except (ParseError, ValueError):
        raise CannotDo("no such section") from None
    found = sections.extract(content, summary.of(content), path, b"BINARY" if binary and not what else what, names)
    if found is None:
        raise CannotDo("no such section")
    if url.partial is not None:
        found = found[url.partial[0] : url.partial[0] + url.partial[1]]
    return found
