"""What the members of a mailing list get: the message, with the list's fields in front (RFC 2369, RFC 2919).

Everything else stays as it was written, octet for octet, so signatures of its author still count. Only fields of
another list are taken out, and what the list's settings ask for is changed: the subject gets its tag, a footer is put
behind the text, Reply-To leads to the list, From names the list where the author's domain would have its mail refused.

List-Unsubscribe has an address for mail alone here; where this server has a web address, delivery.lists.one_click puts
that in front of it for each member (RFC 8058). There is no archive, and so no List-Archive. Sender stays as it is.

Promise: linear in the message. A header that is longer than is looked at keeps its fields as they are.
"""

import re
import secrets
from urllib.parse import quote

from fastmail._core import header
from fastmail.directory.records import ANNOUNCERS, LIST, OPEN, List
from fastmail.message import encoded
from fastmail.message.text import decode_value
from fastmail.message.trace import mailbox
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

OTHERS = (
    b"list-id",
    b"list-help",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
    b"list-subscribe",
    b"list-post",
    b"list-owner",
    b"list-archive",
)
MIME = (
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"content-id",
    b"content-description",
    b"content-language",
)
MOST = 1 << 16  # octets of fields that are changed
LONGEST_NAME = 200  # octets of an author's name that is kept
_WORDS = re.compile(rb'(?:"(?:[^"\\\r\n]|\\[^\r\n])*"|[A-Za-z0-9!#$%&\'*+/=?^_`{|}~.-]|[ \t])+')
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_CHARSET = re.compile(rb"charset\s*=\s*\"?([A-Za-z0-9_.:-]+)", re.IGNORECASE)
SUPERSETS = (b"utf-8", b"us-ascii")  # charsets in which ASCII text may follow, and for utf-8 any


def part_of(row: List, part: str) -> str:
    """The address of a part of a list, such as ``team-request@d.test``."""
    local, _, domain = row.address.rpartition("@")
    return f"{local}-{part}@{domain}"


def list_id(row: List) -> str:
    """The identifier of RFC 2919, without its brackets."""
    local, _, domain = row.address.rpartition("@")
    try:
        domain = ascii_name(domain)
    except BadAddress:
        pass  # a domain that was taken in by an earlier version
    return mailbox(f"{local}.{domain}")


def phrase(text: str) -> str:
    """A name for people in a header field (RFC 5322 3.2.5, RFC 2047), folded where it is long."""
    if not text.isascii():
        return encoded.words(text)
    return text if _ATOMS.fullmatch(text) else '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def fields(row: List) -> list[str]:
    """The list's own fields, one line each, but for what is folded of its name."""

    def by_mail(part: str, subject: str = "") -> str:
        address = quote(part_of(row, part) if part else row.address, safe="@!$'*+-/^_`{|}~.")
        return f"<mailto:{address}{'?subject=' + subject if subject else ''}>"

    name = f"{phrase(row.name)} " if row.name else ""
    out = [
        f"List-Id: {name}<{list_id(row)}>",
        f"List-Help: {by_mail('request', 'help')}",
        f"List-Unsubscribe: {by_mail('unsubscribe', 'unsubscribe')}",
    ]
    if row.joins == OPEN:
        out.append(f"List-Subscribe: {by_mail('subscribe', 'subscribe')}")
    out.append(f"List-Post: {by_mail('') if row.mode != ANNOUNCERS else 'NO'}")
    out.append(f"List-Owner: {by_mail('owner')}")
    return out


def made(row: List, content: bytes, rewrites: bool) -> bytes:
    """What members get of a message (LF). ``rewrites``: the list's address stands in From."""
    added = fields(row)
    gone = list(OTHERS)
    if not header.counts(content, (b"precedence",))[0]:
        added.append("Precedence: list")
    found = header.values(content, (b"from", b"reply-to", b"subject"), MOST)
    if found is not None:
        author, reply_to, subject = (_first(found, which) for which in range(3))
        own = f"<{mailbox(row.address)}>"
        back = own.encode() if row.reply_to == LIST else None
        if rewrites and author is not None:
            name = _name(author) or b"member"
            added.append(f"From: {name.decode('utf-8', 'replace')} via {phrase(row.name or row.address)} {own}")
            added.append(f"X-Original-From: {_unfolded(author)}")
            gone += [b"from", b"x-original-from"]
            back = back or reply_to or author
        if back is not None and back is not reply_to:
            added.append(f"Reply-To: {_unfolded(back)}")
            gone.append(b"reply-to")
        tagged = _tagged(row.tag, subject)
        if tagged:
            added.append(f"Subject: {tagged}")
            gone.append(b"subject")
    front = "".join(f"{line}\n" for line in added).encode("utf-8", "surrogateescape")
    end = header.end(content)
    body = content[end + 1 :]
    kept = header.without(content, tuple(gone)) if end else b""
    if row.footer:
        kept, body = _with_footer(kept, body, row.footer)
    return b"".join((front, kept, b"\n", body))


def _first(found: list[tuple[int, bytes]], which: int) -> bytes | None:
    return next((value for one, value in found if one == which), None)


def _unfolded(value: bytes) -> str:
    """A value as it may stand in a field of ours: its folds stay folds."""
    return re.sub(r"\n(?![ \t])|\r", "", value.decode("utf-8", "surrogateescape").strip())


def _name(author: bytes) -> bytes:
    """The display name of From, as it was written; of an address alone what is in front of its ``@``. Empty where
    neither is fit for a field of ours."""
    shown, angle, _ = author.strip().partition(b"<")
    words = (shown if angle else author.partition(b"@")[0]).replace(b"\n", b" ").strip()
    fits = len(words) <= LONGEST_NAME and _WORDS.fullmatch(words)
    if fits and words:
        return words
    return author.partition(b"<")[2].partition(b"@")[0] if angle and not words else b""


def _tagged(tag: str, subject: bytes | None) -> str:
    """The subject with the tag in front, unless it has it somewhere; empty where it stays as it is."""
    if not tag:
        return ""
    value = _unfolded(subject) if subject is not None else ""
    if tag in value or tag in decode_value(value.encode("utf-8", "surrogateescape")):
        return ""
    if tag.isascii():
        return f"{tag} {value}".rstrip()
    # of the space between two encoded words nothing is shown (RFC 2047 6.2), so it is within the first
    return f"{encoded.words(f'{tag} ' if value.startswith('=?') else tag)} {value}".rstrip()


def _with_footer(head: bytes, body: bytes, footer: str) -> tuple[bytes, bytes]:
    """The header (without its empty line) and body with a footer: in a plain text behind it, for anything else as
    a part of its own beside what there was, which stays as it is."""
    found = header.values(head + b"\n", MIME, MOST)
    if found is None:
        return head, body
    said = {MIME[which]: value for which, value in reversed(found)}
    kind = said.get(b"content-type", b"text/plain; charset=us-ascii").strip()
    encoding = said.get(b"content-transfer-encoding", b"7bit").strip().lower()
    charset = _CHARSET.search(kind)
    name = charset[1].lower() if charset else b"us-ascii"
    plain = kind.lower().startswith(b"text/plain") and encoding in (b"7bit", b"8bit")
    if plain and (name == b"utf-8" or (footer.isascii() and name in SUPERSETS)):
        end = b"" if body.endswith(b"\n") or not body else b"\n"
        return head, body + end + f"-- \n{footer.rstrip()}\n".encode()
    mark = _mark(body)
    inner = b"".join(
        MIME[which].title() + b":" + value.rstrip(b"\n") + b"\n"
        for which, value in found
        if MIME[which] != b"mime-version"
    )
    outer = header.without(head + b"\n", MIME) + (
        b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="' + mark + b'"\n'
    )
    parts = (
        b"--" + mark + b"\n" + inner + b"\n" + body + b"\n--" + mark + b"\n"
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nContent-Disposition: inline\n\n"
        + f"-- \n{footer.rstrip()}\n".encode()
        + b"\n--" + mark + b"--\n"
    )  # fmt: skip
    return outer, parts


def _mark(body: bytes) -> bytes:
    """A boundary that is not in the body."""
    while (mark := b"=_" + secrets.token_hex(16).encode()) in body:
        pass
    return mark
