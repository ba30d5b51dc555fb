"""The header fields by which a member leaves a mailing list with one click (RFC 8058).

A post is queued with List-Unsubscribe for mail alone. Each member's copy gets a web address of its own in that field,
and List-Unsubscribe-Post. RFC 8058 4 wants both covered by a DKIM signature, so the list's signature is made for each
copy. A list whose domain has no key gets the fields too: a smart host may sign behind us, and receivers offer no click
without a signature.

What differs stands in front, and the text behind it is the same for all: it is kept once in the queue and scanned once
for all mailboxes here.

Promise: nothing else of a copy is changed, and a copy that is sent again has the same fields.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastmail._core import header
from fastmail.directory.list_links import Links
from fastmail.policy.signer import Signer
from fastmail.queue.model import Item

PATH = "/u/"  # behind the address of the web server; admin.unsubscribe serves it
FIELD = b"list-unsubscribe"
CHANGED = frozenset((FIELD, b"list-unsubscribe-post"))  # fields that are another one in each copy
POST = b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"  # RFC 8058 5


@dataclass(frozen=True, slots=True)
class OneClick:
    """``url``: the web server as members reach it, https://host, with a path perhaps, and no slash at its end."""

    url: str
    links: Links
    signer: Signer | None = None

    def prepare(self) -> None:
        """Have a key for links. It may wait for the disk."""
        self.links.prepare()

    def copies(self, item: Item, content: bytes) -> "Copies":
        """Make copies of a list's message (LF). For a helper thread: the message may be long. ``prepare`` comes
        first."""
        signer = self.signer if item.signed else None
        if signer is not None:
            content = signer.unsigned(content, item.signed)
        text, by_mail = without_field(content)
        signs = signer.fronts(text, item.signed) if signer is not None else None
        return Copies(self, item, text, len(text) + text.count(b"\n"), by_mail, signs)


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one message. ``text``: what all have behind their front, ``octets`` of it with CRLF; ``by_mail``:
    what List-Unsubscribe said before, empty for nothing; ``signs``: makes the signatures of a copy from its fields."""

    made_by: OneClick
    item: Item
    text: bytes
    octets: int
    by_mail: bytes
    signs: Callable[[bytes], bytes] | None = None

    def front(self, member: str) -> bytes:
        """Return the fields (LF) in front of a member's copy. For a helper thread: it signs."""
        one_click, item = self.made_by, self.item
        url = f"{one_click.url}{PATH}{one_click.links.token(item.mailing_list, member)}"
        # folded, because with two long addresses one line would have more than 998 octets (RFC 5322 2.1.1)
        more = b",\n " + self.by_mail if self.by_mail else b""
        fields = b"List-Unsubscribe: <" + url.encode("ascii") + b">" + more + b"\n" + POST
        return fields if self.signs is None else self.signs(fields) + fields

    def fronts(self, members: Iterable[str]) -> dict[str, bytes]:
        """Return the same for several members."""
        return {one: self.front(one) for one in members}

    def whole(self, member: str) -> tuple[bytes, int]:
        """Return a member's copy, and its octets with CRLF."""
        front = self.front(member)
        return front + self.text, self.octets + len(front) + front.count(b"\n")


def without_field(content: bytes) -> tuple[bytes, bytes]:
    """Return a message without its first List-Unsubscribe field, which is the list's own, and the field's value."""
    found = memoryview(header.starts(content, FIELD)).cast("I")
    if not len(found):
        return content, b""
    _, value, end = header.field(content, found[0])
    return content[: found[0]] + content[end:], content[value:end].strip()
