"""Compares what two servers show of the same accounts, by IMAP and POP3: folders, subscriptions, UIDVALIDITY, UIDs,
flags, dates, sizes, UIDLs and their order. Both are only read (EXAMINE, no RETR)."""

import imaplib
import poplib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastmail._core.imap import ParseError, Reader
from fastmail.migrate.incoming import Far, Remote, context_of, flags_of
from fastmail.model.errors import CannotDo, in_words

CODES = ("UIDVALIDITY", "UIDNEXT", "MESSAGES", "UNSEEN")
SHOWN = 5  # differences of a folder that are told one by one


@dataclass(slots=True)
class Compared:
    """One account."""

    account: str
    mailboxes: int = 0
    messages: int = 0
    differences: list[str] = field(default_factory=list)


def _folder(far: Far, name: bytes) -> tuple[dict[str, int], dict[int, tuple[Any, ...]]]:
    """({UIDVALIDITY, UIDNEXT}, {uid: (flags, keywords, date, size)}). Servers write the same date in several ways: in
    their time zones, and a day before the tenth with a space or a zero in front. All are written in one here."""
    imap = far.imap
    quoted = b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    status, why = imap.select(quoted.decode("latin-1"), readonly=True)
    if status != "OK":
        raise CannotDo(f"{name.decode('latin-1')} cannot be opened: {why[0]!r}")
    head = {code: int(imap.response(code)[1][0] or 0) for code in CODES[:2]}
    status, lines = imap.status(quoted.decode("latin-1"), "(MESSAGES UNSEEN)")
    for code in CODES[2:]:
        found = re.search(rb"%b (\d+)" % code.encode(), lines[0] or b"") if status == "OK" else None
        head[code] = int(found.group(1)) if found is not None else -1
    rows: dict[int, tuple[Any, ...]] = {}
    for item in imap.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE)")[1]:
        line = item[0] if isinstance(item, tuple) else item or b""
        uid, flags = re.search(rb"UID (\d+)", line), re.search(rb"FLAGS \(([^)]*)\)", line)
        date, size = re.search(rb'INTERNALDATE "([^"]*)"', line), re.search(rb"RFC822\.SIZE (\d+)", line)
        if uid and flags and date and size:
            bits, words = flags_of(flags.group(1))
            shown = _moment(date.group(1))
            rows[int(uid.group(1))] = bits, frozenset(word.lower() for word in words), shown, int(size.group(1))
    return head, rows


def _moment(date: bytes) -> str:
    """An INTERNALDATE in UTC; as it is where it is none."""
    try:
        seconds = Reader(b'"%b"' % date).date_time()
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ParseError, ValueError, OverflowError, OSError):
        return date.decode("ascii", "replace")


def account(
    name: str,
    old: Remote,
    new: Remote,
    pop3: tuple[int, int] = (0, 0),
    told: Callable[[int], None] = lambda messages: None,
) -> Compared:
    """What differs; waits for the network. ``pop3``: ports of both, 0 to leave it out. ``told`` hears after each folder
    how many messages it had."""
    out = Compared(name)
    try:
        one, two = Far(old), Far(new)
    except CannotDo as error:
        out.differences.append(str(error))
        return out
    try:
        theirs = {here: (there, on) for there, here, on in one.folders()}
        ours = {here: (there, on) for there, here, on in two.folders()}
        if (one.prefix, one.separator) != (two.prefix, two.separator):
            out.differences.append(f"names: {one.prefix + one.separator!r} there, {two.prefix + two.separator!r} here")
        for folder in sorted(theirs.keys() | ours.keys()):
            if folder not in ours or folder not in theirs:
                out.differences.append(f"{folder}: only {'there' if folder in theirs else 'here'}")
                continue
            if theirs[folder][1] != ours[folder][1]:
                out.differences.append(f"{folder}: subscribed only {'there' if theirs[folder][1] else 'here'}")
            before = out.messages
            _compare(out, folder, _folder(one, theirs[folder][0]), _folder(two, ours[folder][0]))
            told(out.messages - before)
    except (imaplib.IMAP4.error, OSError, CannotDo) as error:
        out.differences.append(in_words(error))
    finally:
        one.close()
        two.close()
    if all(pop3):
        lists = []
        for remote, port in zip((old, new), pop3, strict=True):
            try:
                lists.append(_uidls(remote, port))
            except (poplib.error_proto, OSError) as error:
                out.differences.append(f"POP3 of {remote.host}: {in_words(error)}")
        if len(lists) == 2 and lists[0] != lists[1]:
            at = next(
                (n for n, pair in enumerate(zip(*lists, strict=False)) if pair[0] != pair[1]), min(map(len, lists))
            )
            out.differences.append(f"POP3: message {at + 1} of {len(lists[0])} there and {len(lists[1])} here differs")
    return out


def _compare(out: Compared, folder: str, old: Any, new: Any) -> None:
    out.mailboxes += 1
    out.messages += len(old[1])
    for code in CODES:
        if old[0][code] != new[0][code]:
            out.differences.append(f"{folder}: {code} {old[0][code]} there, {new[0][code]} here")
    told = 0
    for uid in sorted(old[1].keys() | new[1].keys()):
        if old[1].get(uid) == new[1].get(uid):
            continue
        told += 1
        if told <= SHOWN:
            out.differences.append(
                f"{folder}: UID {uid}: {_shown(old[1].get(uid))} there, {_shown(new[1].get(uid))} here"
            )
    if told > SHOWN:
        out.differences.append(f"{folder}: {told - SHOWN} more messages differ")


def _shown(row: tuple[Any, ...] | None) -> str:
    if row is None:
        return "nothing"
    words = " ".join(sorted(word.decode("latin-1") for word in row[1]))
    return f"flags {row[0]:#x} {words}, {row[2]}, {row[3]} octets"


def _uidls(remote: Remote, port: int) -> list[tuple[bytes, bytes]]:
    if remote.tls == "implicit":
        client: poplib.POP3 = poplib.POP3_SSL(remote.host, port, timeout=60, context=context_of(remote))
    else:
        client = poplib.POP3(remote.host, port, timeout=60)
    try:
        if remote.tls == "starttls":
            client.stls(context_of(remote))  # RFC 2595 4: the password is not sent without it
        client.user(remote.user)
        client.pass_(remote.password)
        return list(zip(client.uidl()[1], client.list()[1], strict=True))
    finally:
        with suppress(poplib.error_proto, OSError):
            client.quit()
