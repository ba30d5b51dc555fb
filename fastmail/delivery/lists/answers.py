"""Messages of our own about a mailing list: to who asked something by mail, to its owners (RFC 3834).

Each has the null reverse-path and says that a program wrote it, so nothing answers it, and no report comes of it. What
a stranger can cause is bounded: no answer to who has no sender or is a program, and to each address a few in an hour.
"""

import random
import time
from collections import OrderedDict
from email.utils import formatdate

from fastmail.delivery.lists.content import part_of, phrase
from fastmail.directory.records import List
from fastmail.message import trace
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue.model import Item, Outgoing

HOUR = 3600.0
MOST = 4  # answers to one address in an hour
REMEMBERED = 10_000  # addresses; a new one pushes out the oldest


class Bounded:
    """How many answers an address has had lately."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, list[float]] = OrderedDict()

    def allows(self, address: str) -> bool:
        """May it have another one? Then that counts."""
        now = time.monotonic()
        sent = [at for at in self._sent.pop(address, []) if at > now - HOUR]
        good = len(sent) < MOST
        self._sent[address] = [*sent, now] if good else sent
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        return good


def text(
    row: List, to: str, subject: str, lines: list[str], hostname: str, about: str = "", attached: bytes = b""
) -> bytes:
    """A message (LF) of a list. ``about``: the Message-ID that it answers, empty for a message by itself; ``attached``:
    a message (LF) behind the text."""
    name = f"{phrase(row.name)} " if row.name else ""
    front = [
        f"From: {name}<{trace.mailbox(part_of(row, 'request'))}>",
        f"To: <{trace.mailbox(to)}>",
        f"Subject: {subject}",
        f"Date: {formatdate(time.time(), localtime=False).replace('-0000', '+0000')}",
        f"Message-ID: <{random.getrandbits(96):024x}@{hostname}>",
        f"Auto-Submitted: {'auto-replied' if about else 'auto-generated'}",
        "X-Auto-Response-Suppress: All",  # what Exchange heeds instead of RFC 3834
        "MIME-Version: 1.0",
    ]
    if about:
        front += [f"In-Reply-To: <{trace.clean(about)}>"]
    plain = ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "", *lines, ""]
    if not attached:
        return "\n".join([*front, *plain]).encode("utf-8", "replace")
    mark = f"=_{random.getrandbits(128):032x}"
    whole = [*front, f'Content-Type: multipart/mixed; boundary="{mark}"', "", f"--{mark}", *plain, f"--{mark}"]
    whole += ["Content-Type: message/rfc822", "Content-Disposition: attachment", "", ""]
    return "\n".join(whole).encode("utf-8", "replace") + attached + f"\n--{mark}--\n".encode()


def outgoing(ident: int, to: str, destination: str, content: bytes, hostname: str, owner: str = "") -> Outgoing:
    """Such a message for the queue, without a sender. ``owner``: who would hear of its trouble; nobody does."""
    now = int(time.time())
    received = trace.received(hostname, "local", hostname, "LOCAL", trace.digits(ident), to)
    size = len(content) + content.count(b"\n") + len(received) + received.count(b"\n")
    options = EsmtpOptions(utf8=not to.isascii())
    item = Item(ident, "", now, size, options, not content.isascii(), owner=owner)
    return Outgoing(item, {destination: [Rcpt(to, notify="NEVER")]}, [received, content])
