"""The header fields by which a member leaves a mailing list with one click (RFC 8058).

A post is queued with List-Unsubscribe for mail alone. The copy of each member at another host gets a web address of its
own in that field, and List-Unsubscribe-Post. RFC 8058 4 wants both covered by a DKIM signature, so the list's signature
is made anew for each copy. A list whose domain has no key gets the fields too: a smart host may sign behind us, and
receivers offer no click without a signature.

Members of this server keep the mail address alone: their mailboxes share one content, which is kept once, and an
address of their own would make it a content for each.

Promise: nothing else of a copy is changed, and a copy that is sent again has the same fields.
"""

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

    def copy(self, item: Item, content: bytes, member: str) -> tuple[bytes, int]:
        """Return the copy (LF) of a list's message for one member, and its octets with CRLF. For a helper thread: it
        signs. ``prepare`` comes first."""
        url = f"{self.url}{PATH}{self.links.token(item.mailing_list, member)}"
        made = with_fields(content, url)
        if item.signed and self.signer is not None:
            made = self.signer.again(item.signed)(made)
        return made, len(made) + made.count(b"\n")


def with_fields(content: bytes, url: str) -> bytes:
    """Put a web address in front of the mail address in a list's own List-Unsubscribe field, which is the first one of
    a message (LF), and List-Unsubscribe-Post behind it. A message without such a field stays as it is."""
    found = memoryview(header.starts(content, FIELD)).cast("I")
    if not len(found):
        return content
    _, value, end = header.field(content, found[0])
    # folded, because with two long addresses one line would have more than 998 octets (RFC 5322 2.1.1)
    first = content[found[0] : value] + f" <{url}>,\n ".encode("ascii")
    return b"".join((content[: found[0]], first, content[value:end].lstrip(), POST, content[end:]))
