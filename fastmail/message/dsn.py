"""Delivery status notifications (RFC 3464, RFC 6522, RFC 6533): they tell the sender and programs what became of a
message.

Promise: everything that programs read in a report is ASCII, unless the report goes to an address that is not ASCII
(``utf8``): then it has the types of RFC 6533. A message that came with SMTPUTF8 is returned under its own type, and
encoded where the way back may not support SMTPUTF8 (RFC 6533 4.5). No line that is written here is longer than 998
octets, whatever a host replied; the returned message is not changed.
"""

from base64 import encodebytes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate

from fastmail._core import header
from fastmail.message import orcpt
from fastmail.message.trace import clean, mailbox
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions

ACTIONS = {
    "failed": "Undelivered Mail",
    "delayed": "Delayed Mail",
    "delivered": "Delivered Mail",
    "relayed": "Relayed Mail",
}
TEXTS = {
    "failed": "Your message could not be delivered to the recipients below. It will not be tried again.",
    "delayed": "Your message could not be delivered yet to the recipients below. You need not send it again:\n"
    "delivery is tried until {until}.",
    "delivered": "Your message was delivered to the recipients below.",
    "relayed": "Your message was handed on for the recipients below, to a server that sends no delivery reports.",
}
LONGEST = 998  # octets of a line (RFC 5322 2.1.1)
WIDTH = 76  # octets of a line that could be folded
WORDS = 900  # characters of a host's reply that are quoted
HEADER = 65536  # octets of the returned header, at most


@dataclass(slots=True)
class Fate:
    """What became of one recipient.

    ``action``: failed, delayed, delivered or relayed; ``orcpt``: the original recipient as message.orcpt keeps it;
    ``status``: the enhanced status code, such as 5.1.1; ``words``: the reply of the host ``remote``, or the reason on
    this side."""

    address: str
    orcpt: str
    action: str
    status: str
    words: str
    remote: str = ""


@dataclass(slots=True)
class About:
    """The message that a report is about.

    ``options``: what its client asked for with MAIL; ``content``: the whole message, with LF; ``full``: return all of
    it and not only its header; ``until``: when delivery is given up."""

    sender: str
    number: str
    arrived: int
    until: int
    content: bytes
    full: bool
    options: EsmtpOptions = NO_OPTIONS


def needs_utf8(sender: str) -> bool:
    """Return True if a report to this address can only be sent with SMTPUTF8; whoever accepts it then knows the types
    of RFC 6533."""
    return not sender.isascii()


def report(about: About, fates: Sequence[Fate], hostname: str, now: float, mark: str) -> bytes:
    """Build a multipart/report with LF, to be sent with a null reverse-path.

    ``mark``: hexadecimal digits that are in no other message, for the Message-ID and the boundaries."""
    utf8 = needs_utf8(about.sender)
    kind, encoding, original = _returned(about, utf8)
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{mailbox(about.sender)}>",
        f"Subject: {ACTIONS[fates[0].action]}",
        f"Date: {_date(now)}",
        f"Message-ID: <{mark}@{hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{mark}"',
        "",
        f"--{mark}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"This is the mail system at {hostname}.",
        "",
        TEXTS[fates[0].action].format(until=_date(about.until)),
        "",
    ]
    for fate in fates:
        said = f"{fate.remote} said: " if fate.remote else ""
        lines += [f"<{mailbox(fate.address)}>", *_folded("    ", said + fate.words, "    "), ""]
    lines += [f"--{mark}", f"Content-Type: message/{'global-delivery-status' if utf8 else 'delivery-status'}"]
    if utf8:
        lines.append("Content-Transfer-Encoding: 8bit")
    lines += ["", *_of_message(about, hostname), ""]
    for fate in fates:
        lines += [*_of_recipient(about, fate, utf8, now), ""]
    lines += [f"--{mark}", f"Content-Type: {kind}"]
    if encoding:
        lines.append(f"Content-Transfer-Encoding: {encoding}")
    text = "\n".join(lines) + "\n\n"
    return text.encode("utf-8", "replace") + original.rstrip(b"\n") + f"\n\n--{mark}--\n".encode()


def _of_message(about: About, hostname: str) -> Iterator[str]:
    """Yield the fields about the message (RFC 3464 2.2)."""
    yield f"Reporting-MTA: dns; {hostname}"
    if about.options.envid:
        yield f"Original-Envelope-Id: {_plain(about.options.envid)}"
    yield f"Arrival-Date: {_date(about.arrived)}"
    yield f"X-Queue-ID: {about.number}"
    if about.options.by:
        yield f"Deliver-By-Date: {_date(about.options.by)}"


def _of_recipient(about: About, fate: Fate, utf8: bool, now: float) -> Iterator[str]:
    """Yield the fields about a recipient (RFC 3464 2.3)."""
    original = f"Original-Recipient: {orcpt.shown(fate.orcpt, utf8)}"
    # it cannot be folded, and if cut it would name another address
    if fate.orcpt and len(original.encode()) <= LONGEST:
        yield original
    yield f"Final-Recipient: {orcpt.final(mailbox(fate.address), utf8)}"
    yield f"Action: {fate.action}"
    yield f"Status: {fate.status}"
    if fate.remote:
        yield f"Remote-MTA: dns; {clean(fate.remote.partition('[')[0].strip()).encode('ascii', 'replace').decode()}"
        yield from _folded("Diagnostic-Code: smtp; ", fate.words if utf8 else _ascii(fate.words), " ")
    if fate.action == "delayed":
        yield f"Will-Retry-Until: {_date(about.until)}"
    yield f"Last-Attempt-Date: {_date(now)}"


def _returned(about: About, utf8: bool) -> tuple[str, str, bytes]:
    """Return (content type, transfer encoding or "", octets) of the returned message or header."""
    head = about.content[: header.end(about.content)]
    cut = head.rfind(b"\n", 0, HEADER) + 1 if len(head) > HEADER else len(head)
    original = about.content if about.full else head[:cut]
    if about.options.utf8 and not head.isascii() and _is_utf8(head):
        kind = "message/global" if about.full else "message/global-headers"
        return (kind, "8bit", original) if utf8 else (kind, "base64", encodebytes(original))
    kind = "message/rfc822" if about.full else "text/rfc822-headers"
    return kind, "" if original.isascii() else "8bit", original


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _date(when: float) -> str:
    return formatdate(when, localtime=False).replace("-0000", "+0000")


def _plain(text: str) -> str:
    """Return the text as one line without control characters, at most WORDS characters."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:WORDS])


def _ascii(text: str) -> str:
    r"""Return the text with other characters as ``\x{...}``, as RFC 6533 3 writes them in addresses."""
    return "".join(c if c < "\x7f" else f"\\x{{{ord(c):02X}}}" for c in _plain(text))


def _folded(first: str, text: str, further: str) -> Iterator[str]:
    """Yield lines of at most WIDTH octets, or of one long word; a word that is longer than a line may be is cut.
    ``first`` and ``further``: what the first and the other lines begin with."""
    line, empty = first, True
    for word in _plain(text).split(" "):
        for piece in _pieces(word):
            if not empty and len(f"{line} {piece}".encode("utf-8", "replace")) > WIDTH:
                yield line
                line, empty = further, True
            line, empty = f"{line}{'' if empty else ' '}{piece}", False
    yield line.rstrip() if empty else line


def _pieces(word: str) -> Iterator[str]:
    """Yield a word in pieces that fit a line; a character takes at most four octets."""
    most = (LONGEST - WIDTH) // 4
    for start in range(0, max(1, len(word)), most):
        yield word[start : start + most]
