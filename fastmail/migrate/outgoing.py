"""Exports: an account as a Maildir++ or as mbox files, beside a running server, which is not disturbed.

Promise: each message is written whole or not at all, and synced before it counts. A message that cannot be read stops
the export, or with ``skip_bad`` is named in the result and left out. Run again, a Maildir gets what it has not.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fastmail._core import pages
from fastmail.durable import beneath
from fastmail.durable.replace import replace_file, sync_directory, sync_file
from fastmail.model.errors import CannotDo, MailError
from fastmail.model.flags import to_info
from fastmail.model.mailbox_name import INBOX, encode_utf7
from fastmail.store.interface import Account, Mailbox, Store

_FROM = re.compile(rb"(?m)^(>*From )")


@dataclass(slots=True)
class Written:
    """One mailbox."""

    account: str
    mailbox: str
    messages: int = 0
    there: int = 0
    bad: list[str] = field(default_factory=list)


async def _rows(store: Store, account: Account, box: Mailbox) -> tuple[list[Any], list[bytes]]:
    await store.sync(account, box.key)
    with store.snapshot(account) as snapshot:
        records = [record for page in snapshot.pages(box.key) for record in pages.records(page)]
        return records, snapshot.keywords(box.key)


async def _content(
    store: Store, account: Account, box: Mailbox, uid: int, out: Written, skip_bad: bool
) -> bytes | None:
    try:
        found = await store.content(account, box.key, uid)
    except MailError as error:
        if not skip_bad:
            raise CannotDo(f"{box.name}: message {uid} cannot be read ({error}); --skip-bad leaves it out") from None
        out.bad.append(f"UID {uid}: {error}")
        return None
    if found is None:
        out.bad.append(f"UID {uid}: its content is gone")
    return found


async def to_maildir(
    store: Store, account: Account, path: str, skip_bad: bool, told: Callable[[Written], None]
) -> list[Written]:
    """A Maildir++ at ``path``: flags in names, dates as file times, keywords in ``dovecot-keywords``."""
    result = []
    for box in (await store.listing(account)).mailboxes:
        out = Written(account.address, box.name)
        top = beneath.guarded(path)
        place = top if box.name == INBOX else os.path.join(top, "." + encode_utf7(box.name).decode().replace("/", "."))
        for sub in ("tmp", "new", "cur"):
            beneath.make_directories(os.path.join(place, sub))
        there = {name.partition(":")[0] for sub in ("new", "cur") for name in beneath.names(os.path.join(place, sub))}
        records, words = await _rows(store, account, box)
        if words:
            lines = b"".join(b"%d %b\n" % (bit, word) for bit, word in enumerate(words[:26]))
            replace_file(os.path.join(place, "dovecot-keywords"), lines)
        for record in records:
            base = f"{record[4]}.V{box.uidvalidity}U{record[0]}.{account.address.replace('/', '_')}"
            if base in there:
                out.there += 1
                continue
            content = await _content(store, account, box, record[0], out, skip_bad)
            if content is None:
                continue
            info = to_info(record[1], record[3] & (1 << 26) - 1, "")
            name = os.path.join(place, "cur", f"{base}:2,{info}")
            temporary = os.path.join(place, "tmp", base)
            with os.fdopen(beneath.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                file.write(content)
                file.flush()
                os.utime(file.fileno(), (record[4], record[4]))
                sync_file(file)
            beneath.rename(temporary, name)
            out.messages += 1
        sync_directory(os.path.join(place, "cur"))
        result.append(out)
        told(out)
    return result


async def to_mbox(
    store: Store, account: Account, path: str, skip_bad: bool, told: Callable[[Written], None]
) -> list[Written]:
    """A file for each mailbox below ``path`` (mboxrd, with Status, X-Status); files that are there are not touched."""
    result = []
    for box in (await store.listing(account)).mailboxes:
        out = Written(account.address, box.name)
        place = os.path.join(beneath.guarded(path), *box.name.split("/")) + ".mbox"
        beneath.make_directories(os.path.dirname(place))
        if beneath.exists(place):
            raise CannotDo(f"{beneath.plain(place)} is there already: export to an empty directory")
        records, _ = await _rows(store, account, box)
        unfinished = place + ".part"
        with os.fdopen(beneath.open_file(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            for record in records:
                content = await _content(store, account, box, record[0], out, skip_bad)
                if content is not None:
                    _write_mbox(file, content, record)
                    out.messages += 1
            sync_file(file)
        beneath.rename(unfinished, place)
        sync_directory(os.path.dirname(place))
        result.append(out)
        told(out)
    return result


def _write_mbox(file: BinaryIO, content: bytes, record: Any) -> None:
    date = time.asctime(time.gmtime(record[4])).encode()
    content = content.replace(b"\r\n", b"\n")
    sender = re.search(rb"(?mi)^Return-Path: *<([^>\s]+)>", content[:4096])
    letters = record[1]
    status = b"Status: " + (b"R" if letters & 1 else b"") + b"O\n"
    more = b"".join(letter for bit, letter in ((2, b"A"), (4, b"F"), (8, b"D"), (16, b"T")) if letters & bit)
    head = b"From " + (sender.group(1) if sender else b"MAILER-DAEMON") + b" " + date + b"\n"
    file.write(head + status + (b"X-Status: " + more + b"\n" if more else b""))
    file.write(_FROM.sub(rb">\1", content))
    file.write(b"\n" if content.endswith(b"\n") else b"\n\n")
