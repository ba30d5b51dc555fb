"""Writes what Courier's IMAP and POP3 servers need to continue with a Maildir: ``courierimapuiddb`` (UIDs, UIDVALIDITY,
UIDNEXT), ``courierimapkeywords``, ``courierpop3dsizelist`` (UIDLs and order), ``courierimapsubscribed`` and
``courierimapacl``. control_files reads the same formats.

Promise: each file appears completely or not at all, synced, and belongs to the Maildir's owner. What Courier cannot
express is counted, never guessed: a UIDL in another form than its own, a keyword beyond its names.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastmail.durable import beneath
from fastmail.durable.replace import make_directories
from fastmail.model.mailbox_name import INBOX
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.maildir.folders import encoded
from fastmail.store.local.maildir.home import Home

KEYWORDS = "courierimapkeywords"
_UIDL = re.compile(rb"UID(\d{1,10})(?:-(\d{1,10}))?")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``name``: the file's, with flags; ``size``: octets with CRLF; ``keywords``: bits; ``order`` and
    ``uidl`` as POP3 shows it, 0 and empty if nothing was taken over."""

    uid: int
    name: bytes
    size: int
    keywords: int = 0
    order: int = 0
    uidl: bytes = b""

    @property
    def base(self) -> bytes:
        return self.name.partition(b":")[0]


def uid_database(uidvalidity: int, uidnext: int, messages: Sequence[Message]) -> bytes:
    """Return ``courierimapuiddb``, with messages in the order of their UIDs."""
    head = b"1 %d %d\n" % (uidvalidity, uidnext)
    return head + b"".join(b"%d %b\n" % (one.uid, one.base) for one in messages)


def keyword_list(words: Sequence[bytes], messages: Sequence[Message]) -> bytes:
    """Return ``courierimapkeywords/:list``: names, an empty line, and the numbers of each message that has any."""
    lines = [b"".join(word + b"\n" for word in words) + b"\n"]
    for one in messages:
        numbers = [b"%d" % bit for bit in range(len(words)) if one.keywords >> bit & 1]
        if numbers:
            lines.append(one.base + b":" + b" ".join(numbers) + b"\n")
    return b"".join(lines)


def size_list(uidvalidity: int, messages: Sequence[Message]) -> tuple[bytes, int]:
    """Return (``courierpop3dsizelist`` version 3, how many UIDLs it cannot express).

    Messages keep the order in which POP3 shows them. Those delivered here get numbers above the ones in use, as Courier
    would assign them."""
    shown = sorted(messages, key=lambda one: (one.order == 0, one.order, one.uid))
    rows: list[tuple[Message, int, int]] = []
    last = lost = 0
    for one in shown:
        match = _UIDL.fullmatch(one.uidl)
        number, validity = (int(match[1]), int(match[2] or 0)) if match is not None else (0, 0)
        last = max(last, number)
        plain = one.uidl == b"" or match is not None or one.uidl == control_files.courier_uidl(one.base)
        lost += not plain
        rows.append((one, -1 if one.uidl == b"" else number, validity))
    lines = []
    for one, number, validity in rows:
        if number < 0:
            last += 1
            number, validity = last, uidvalidity
        lines.append(b"%b %d %d:%d:0\n" % (one.name, one.size, number, validity))
    return b"/3 %d %d\n" % (last + 1, uidvalidity) + b"".join(lines), lost


def subscribed_file(home: Home, names: Iterable[str]) -> bytes:
    """Return ``courierimapsubscribed``."""
    lines = []
    for name in sorted(names):
        inner = os.fsencode(encoded(home, name)).replace(b"/", b".")
        lines.append(b"INBOX\n" if name == INBOX else b"INBOX." + inner + b"\n")
    return b"".join(lines)


def write(
    directory: str,
    box: tuple[int, int],
    words: Sequence[bytes],
    messages: Sequence[Message],
    acl: bytes | None,
    pop3: bool,
) -> int:
    """Write all files of a mailbox; return how many UIDLs could not be expressed. ``box``: UIDVALIDITY, UIDNEXT;
    ``pop3``: True for INBOX, which POP3 shows."""
    kept = sorted(messages, key=lambda one: one.uid)
    control_files.write(directory, "courierimapuiddb", uid_database(*box, kept))
    _write_keywords(os.path.join(directory, KEYWORDS), keyword_list(words, kept))
    lost = 0
    if pop3:
        data, lost = size_list(box[0], kept)
        control_files.write(directory, "courierpop3dsizelist", data)
    if acl is not None:
        control_files.write(directory, "courierimapacl", acl)
    else:
        with contextlib.suppress(FileNotFoundError):
            beneath.unlink(os.path.join(directory, "courierimapacl"))
    return lost


def _write_keywords(place: str, data: bytes) -> None:
    """Write the list, and remove the files with later changes that Courier keeps beside it."""
    if data == b"\n" and not beneath.is_directory(place):
        return
    fresh = not beneath.is_directory(place)
    make_directories(place)
    if fresh:
        _give_like(place, os.path.dirname(place))
    control_files.write(place, ":list", data)
    for name in beneath.names(place):
        if name != ":list":
            with contextlib.suppress(OSError):
                beneath.unlink(os.path.join(place, name))


def _give_like(place: str, like: str) -> None:
    """Give a directory the owner of another."""
    owner = beneath.owner(like)
    if owner != (os.geteuid(), os.getegid()):
        descriptor = beneath.open_fd(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchown(descriptor, *owner)
        finally:
            os.close(descriptor)
