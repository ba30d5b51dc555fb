"""Imports: messages of other places become messages of an account, with flags, dates and folders.

Promise: may be run again at any time, after an interruption too. What was imported is remembered with the mailbox that
it went to (a note for each batch, written behind the batch), so the second run brings only the difference: new
messages, and flags that changed at the source. Nothing is removed, and nothing that the user did here since is undone.
Messages are durable before they are counted.
"""

import asyncio
import hashlib
import imaplib
import mailbox
import os
import re
import ssl
import stat
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastmail._core.imap import ParseError, Reader
from fastmail._core.lines import to_lf
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath, files
from fastmail.message.preview import scanned
from fastmail.message.summary import served_size
from fastmail.model.errors import CannotDo, MailboxExists, MailError, in_words
from fastmail.model.flags import LETTERS
from fastmail.model.mailbox_name import INBOX, canonical, decode_utf7
from fastmail.store.interface import Account, NewMessage, Store

NOTE = b"/import/"
ENTRY = struct.Struct("<8sIB")  # digest of where it came from, UID here, system flags as they were there
BATCH, OCTETS = 200, 16 << 20
FLAGS = {b"\\seen": 1, b"\\answered": 2, b"\\flagged": 4, b"\\deleted": 8, b"\\draft": 16}
_WORD = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]{1,200}")


@dataclass(slots=True)
class Found:
    """One message at its source. ``identity``: what tells it from all others there; ``load`` gives its content."""

    identity: bytes
    flags: int
    keywords: list[bytes]
    date: int
    load: Callable[[], bytes]


@dataclass(slots=True)
class Result:
    """One mailbox."""

    account: str
    mailbox: str
    new: int = 0
    flags_changed: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)


def usable_name(levels: Sequence[str]) -> str:
    """A name that can be here, as near as can be to the one there."""
    clean = [re.sub(r"[./\x00-\x1f\x7f]", "_", level) or "_" for level in levels]
    clean = [level.replace("~", "_", 1) if level.startswith("~") else level for level in clean]
    return canonical("/".join(clean), "/")


async def take_in(
    store: Store, account: Account, name: str, source: str, messages: AsyncIterator[Sequence[Found]], result: Result
) -> None:
    """Import one mailbox; batches come from ``messages``. ``source`` names the place, and is a part of identities."""
    key = await _mailbox(store, account, name)
    with store.snapshot(account) as snapshot:
        notes = {note: value for note, value in snapshot.notes(key).items() if note.startswith(NOTE)}
    known: dict[bytes, tuple[int, int]] = {}
    for value in notes.values():
        for digest, uid, flags in ENTRY.iter_unpack(value):
            known[digest] = uid, flags
    count = len(notes)
    entries: list[bytes] = []
    fresh: list[tuple[bytes, int, NewMessage]] = []

    async def keep() -> None:
        """Messages first, then what says that they are here."""
        nonlocal count
        if fresh:
            kept = await store.append(account, key, [message for _, _, message in fresh])
            for (digest, flags, _), uid in zip(fresh, kept.uids, strict=True):
                known[digest] = uid, flags
                entries.append(ENTRY.pack(digest, uid, flags))
            result.new += len(fresh)
        if entries:
            await store.annotate(account, key, {NOTE + b"%08x" % count: b"".join(entries)})
            count += 1
        fresh.clear()
        entries.clear()

    async for batch in messages:
        for one in batch:
            digest = hashlib.blake2b(source.encode() + b"\0" + one.identity, digest_size=8).digest()
            if digest in known:
                result.known += 1
                uid, before = known[digest]
                if before != one.flags:
                    await _change(store, account, key, uid, before, one.flags)
                    known[digest] = uid, one.flags
                    entries.append(ENTRY.pack(digest, uid, one.flags))
                    result.flags_changed += 1
                continue
            try:
                content = to_lf(await asyncio.to_thread(one.load))
            except (OSError, KeyError, MailError) as error:
                result.problems.append(f"{one.identity.decode('utf-8', 'replace')}: {in_words(error)}")
                continue
            if not content:
                result.problems.append(f"{one.identity.decode('utf-8', 'replace')}: is empty")
                continue
            fresh.append((digest, one.flags, _message(content, one)))
            if sum(message.size + len(message.summary) for _, _, message in fresh) > OCTETS:
                await keep()
        await keep()


async def _mailbox(store: Store, account: Account, name: str) -> bytes:
    """Return the key of the mailbox of that name, which is created if there is none."""
    if store.find(account, name) is None:
        try:
            await store.create(account, name)
        except MailboxExists:
            pass
    key = store.find(account, name)
    if key is None:
        raise CannotDo(f"{name} cannot be made")
    return key


async def _change(store: Store, account: Account, key: bytes, uid: int, before: int, after: int) -> None:
    """What changed at the source since the last time; what changed here stays."""
    one = UidSet.of([uid])
    if after & ~before:
        await store.store(account, key, one, 1, after & ~before, [])
    if before & ~after:
        await store.store(account, key, one, -1, before & ~after, [])


def _message(content: bytes, one: Found) -> NewMessage:
    summary = scanned(content)
    size = served_size(summary)
    date = one.date or int(time.time())
    return NewMessage((content,), summary, size, date, one.flags, one.keywords, recent=False)


async def _batches(found: Iterator[Found]) -> AsyncIterator[list[Found]]:
    part: list[Found] = []
    for one in found:
        part.append(one)
        if len(part) == BATCH:
            yield part
            part = []
    if part:
        yield part


# ---------------------------------------------------------------- Maildir and mbox


async def from_maildir(
    store: Store, account: Account, path: str, into: str, told: Callable[[Result], None]
) -> list[Result]:
    """A Maildir with its Maildir++ folders; ``into``: a mailbox that all of it goes below, empty for the same names."""
    top = beneath.guarded(os.path.realpath(path))  # the Maildir itself may be a link; nothing in it is followed
    if not beneath.is_directory(os.path.join(top, "cur")):
        raise CannotDo(f"{path} is no Maildir: it has no cur/ of its own")
    out = []
    places = [(top, INBOX)]
    links = []
    with beneath.scan(top) as entries:
        every = sorted((entry.name, entry.is_symlink()) for entry in entries if entry.name.startswith("."))
    for folder, is_link in every:
        place = os.path.join(top, folder)
        if is_link:
            links.append(f"{folder} is a link, and was not followed")
        elif beneath.is_directory(os.path.join(place, "cur")):
            raw = os.fsencode(folder[1:])
            try:
                levels = decode_utf7(raw).split(".")
            except CannotDo:
                levels = raw.decode("latin-1").split(".")
            places.append((place, usable_name(levels)))
    for place, name in places:
        target = name if not into else into if name == INBOX else f"{into}/{name}"
        result = Result(account.address, target, problems=links if name == INBOX else [])
        source = beneath.plain(place)
        try:
            await take_in(store, account, target, source, _batches(_files(place, result.problems)), result)
        except OSError as error:
            result.problems.append(f"{error.filename}: {error.strerror}")
        out.append(result)
        told(result)
    return out


def _files(path: str, problems: list[str]) -> Iterator[Found]:
    """Its messages; ``problems`` gets a sentence for each link and the like in their place."""
    rows = []
    for sub in ("new", "cur"):
        place = os.path.join(path, sub)
        rows += [(name, os.path.join(place, name)) for name in beneath.names(place) if not name.startswith(".")]
    for name, place in sorted(rows):
        base, _, info = name.partition(":2,")
        flags = sum(bit for letter, bit in LETTERS.items() if letter in info.partition(",")[0])

        def load(place: str = place) -> bytes:
            return files.read_file(os.fsencode(place)) or b""

        try:
            status = beneath.lstat(place)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(f"{name}: no regular file")
            continue
        date = int(status.st_mtime)
        yield Found(os.fsencode(base), flags, [], date, load)


async def from_mbox(
    store: Store, account: Account, path: str, into: str, told: Callable[[Result], None]
) -> list[Result]:
    """One mbox file; ``Status`` and ``X-Status`` are flags."""
    if not os.path.isfile(path):
        raise CannotDo(f"{path} is not there, or no file")
    result = Result(account.address, into)
    box = mailbox.mbox(path, create=False)
    try:
        await take_in(store, account, into, os.path.realpath(path), _batches(_parts(box)), result)
    finally:
        box.close()
    told(result)
    return [result]


def _parts(box: mailbox.mbox) -> Iterator[Found]:
    seen: dict[bytes, int] = {}
    for key in box.iterkeys():
        message = box.get_message(key)
        letters = message.get_flags()
        flags = sum(bit for letter, bit in {"R": 1, "A": 2, "F": 4, "D": 8, "T": 16}.items() if letter in letters)
        content = re.sub(rb"(?m)^>(>*From )", rb"\1", box.get_bytes(key))
        head, empty, body = content.partition(b"\n\n")
        head = re.sub(rb"(?mi)^(?:X-)?Status:.*\n(?:[ \t].*\n)*", b"", head + b"\n")
        content = head + empty[1:] + body if empty else content
        digest = hashlib.blake2b(content, digest_size=16).digest()
        seen[digest] = seen.get(digest, 0) + 1
        date = 0
        try:
            date = int(time.mktime(time.strptime(message.get_from().split(None, 1)[1].strip())))
        except (IndexError, ValueError, OverflowError):
            pass
        yield Found(digest.hex().encode() + b".%d" % seen[digest], flags, [], date, partial(bytes, content))


# ---------------------------------------------------------------- IMAP


@dataclass(frozen=True, slots=True)
class Remote:
    """An account on another server. ``tls``: implicit, starttls or none; ``verify``: its certificate must be good."""

    host: str
    user: str
    password: str
    port: int = 0
    tls: str = "implicit"
    verify: bool = True


def context_of(remote: Remote) -> ssl.SSLContext:
    """How TLS to it is checked."""
    context = ssl.create_default_context()
    if not remote.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Far:
    """A connection to it. Everything waits for the network: call it on a thread."""

    def __init__(self, remote: Remote) -> None:
        context = context_of(remote)
        port = remote.port or (993 if remote.tls == "implicit" else 143)
        try:
            if remote.tls == "implicit":
                self.imap: imaplib.IMAP4 = imaplib.IMAP4_SSL(remote.host, port, ssl_context=context, timeout=60)
            else:
                self.imap = imaplib.IMAP4(remote.host, port, timeout=60)
                if remote.tls == "starttls":
                    self.imap.starttls(context)
            self.imap.login(remote.user, remote.password)
        except imaplib.IMAP4.error as error:
            raise CannotDo(f"{remote.host}: {remote.user}: {_text(error)}") from None
        except OSError as error:
            raise CannotDo(f"{remote.host} port {port}: {in_words(error)}") from None
        self.prefix, self.separator = self._namespace()

    def _namespace(self) -> tuple[bytes, bytes]:
        told = b" ".join(self.imap.capability()[1] or [b""])  # many say more after the login
        if b"NAMESPACE" in told.upper().split():
            found = re.search(rb'^\(\("([^"]*)" "?(.)', self.imap.namespace()[1][0] or b"")
            if found is not None:
                return found.group(1), found.group(2)
        return b"", b"/"

    def folders(self) -> list[tuple[bytes, str, bool]]:
        """(name there, name here, is it subscribed)."""
        subscribed = {name for _, _, name in self._lines(self.imap.lsub()[1])}
        out = []
        for marks, separator, name in self._lines(self.imap.list()[1]):
            if b"noselect" in marks or b"nonexistent" in marks:
                continue
            plain = name
            if self.prefix and name.upper() != b"INBOX":
                plain = name.removeprefix(self.prefix)
            try:
                text = decode_utf7(plain)
            except CannotDo:
                text = plain.decode("latin-1")
            out.append((name, usable_name(text.split(separator) if separator else [text]), name in subscribed))
        return out

    def _lines(self, rows: list[Any]) -> Iterator[tuple[bytes, str, bytes]]:
        for row in rows:
            if row is None:
                continue
            line, literal = (row[0], row[1]) if isinstance(row, tuple) else (row, None)
            found = re.match(rb'\(([^)]*)\) (?:"(\\?.)"|NIL) (.*)', line)
            if found is None:
                continue
            name = literal if literal is not None else found.group(3)
            if literal is None and name.startswith(b'"'):
                name = name[1:-1].replace(b'\\"', b'"').replace(b"\\\\", b"\\")
            yield found.group(1).lower(), (found.group(2) or b"")[-1:].decode("latin-1"), name

    def select(self, name: bytes) -> tuple[int, list[tuple[int, int, list[bytes]]]]:
        """(UIDVALIDITY, [(UID, flags, keywords)]) of a mailbox, which is not changed."""
        quoted = b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        status, why = self.imap.select(quoted.decode("latin-1"), readonly=True)
        if status != "OK":
            raise CannotDo(f"{name.decode('latin-1')}: {_text(why[0])}")
        validity = int(self.imap.response("UIDVALIDITY")[1][0] or 0)
        rows = []
        for item in self.imap.uid("FETCH", "1:*", "(FLAGS)")[1]:
            line = item[0] if isinstance(item, tuple) else item
            uid, flags = re.search(rb"UID (\d+)", line or b""), re.search(rb"FLAGS \(([^)]*)\)", line or b"")
            if uid is not None and flags is not None:
                bits, words = flags_of(flags.group(1))
                rows.append((int(uid.group(1)), bits, words))
        return validity, rows

    def dates(self, uids: Sequence[int]) -> dict[int, int]:
        """INTERNALDATE of each, s since 1970."""
        out = {}
        for item in self.imap.uid("FETCH", UidSet.of(sorted(uids)).octets().decode(), "(INTERNALDATE)")[1]:
            line = item[0] if isinstance(item, tuple) else item
            uid, date = re.search(rb"UID (\d+)", line or b""), re.search(rb'INTERNALDATE ("[^"]*")', line or b"")
            if uid is not None and date is not None:
                try:
                    out[int(uid.group(1))] = Reader(date.group(1)).date_time()
                except ParseError:
                    continue
        return out

    def content(self, uid: int) -> bytes:
        """The message, with CRLF."""
        for item in self.imap.uid("FETCH", str(uid), "(BODY.PEEK[])")[1]:
            if isinstance(item, tuple):
                return bytes(item[1])
        raise KeyError("the server does not give this message")

    def close(self) -> None:
        try:
            self.imap.logout()
        except (imaplib.IMAP4.error, OSError):
            pass


def flags_of(text: bytes) -> tuple[int, list[bytes]]:
    """(system flags, keywords) of a FLAGS list."""
    bits, words = 0, []
    for word in text.split():
        if word.lower() in FLAGS:
            bits |= FLAGS[word.lower()]
        elif not word.startswith(b"\\") and _WORD.fullmatch(word):
            words.append(word)
    return bits, words


def _text(why: Any) -> str:
    raw = why.args[0] if isinstance(why, Exception) and why.args else why
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


async def from_imap(store: Store, account: Account, remote: Remote, told: Callable[[Result], None]) -> list[Result]:
    """Everything that an IMAP account holds, and its subscriptions. The account there is not changed."""
    far = await asyncio.to_thread(Far, remote)
    out = []
    try:
        for theirs, name, subscribed in await asyncio.to_thread(far.folders):
            result = Result(account.address, name)
            try:
                validity, rows = await asyncio.to_thread(far.select, theirs)
                source = f"imap://{remote.user}@{remote.host}/{theirs.decode('latin-1')};UIDVALIDITY={validity}"
                await take_in(store, account, name, source, _fetched(far, rows), result)
                await store.subscribe(account, name, subscribed or name == INBOX)
            except (imaplib.IMAP4.error, CannotDo) as error:
                result.problems.append(_text(error))
            out.append(result)
            told(result)
    except OSError as error:
        raise CannotDo(f"{remote.host}: the connection was lost ({in_words(error)}); run it again to go on") from None
    finally:
        await asyncio.to_thread(far.close)
    return out


async def _fetched(far: Far, rows: list[tuple[int, int, list[bytes]]]) -> AsyncIterator[list[Found]]:
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        dates = await asyncio.to_thread(far.dates, [uid for uid, _, _ in part])
        yield [
            Found(b"%d" % uid, bits, words, dates.get(uid, 0), partial(far.content, uid)) for uid, bits, words in part
        ]
