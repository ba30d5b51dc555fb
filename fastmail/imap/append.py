"""APPEND (RFC 3501 6.3.11) with MULTIAPPEND (RFC 3502), APPENDUID (RFC 4315 3), BINARY (RFC 3516 4.4) and UTF8
(RFC 6855 4); REPLACE (RFC 8508). The messages themselves were staged
while they came in; all of them are kept, or none.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from fastmail._core import mime
from fastmail._core.imap import ParseError, Reader
from fastmail._core.uidset import UidSet
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name
from fastmail.imap.messages import read_set, writable
from fastmail.message.sections import UnknownEncoding
from fastmail.model.errors import CannotDo
from fastmail.store.interface import NewMessage
from fastmail.store.quota import check

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession, Upload

SCAN_ON_LOOP = 262144


def append(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """Reached only when no message literal was announced: read what there is to say what is missing."""
    reader.sp()
    read_name(session, reader)
    reader.sp()
    _options(reader)
    raise ParseError("the message as a literal", reader.pos)


def replace(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 8508, the same."""
    reader.sp()
    reader.sequence_set()
    return append(session, tag, reader, by_uid)


def _options(reader: Reader) -> tuple[int, list[bytes], int | None]:
    """(flags, keywords, date) in front of the literal, each with its space."""
    flags = 0
    words: list[bytes] = []
    date: int | None = None
    if reader.peek() == 40:
        flags, words = reader.flag_list()
        reader.sp()
    if reader.peek() == 34:
        date = reader.date_time()
        reader.sp()
    reader.skip(b"UTF8 (")
    return flags, words, date


async def finish(session: "ImapSession", upload: "Upload") -> None:
    """The literal is complete: keep it, and answer with its UID."""
    try:
        await _finish(session, upload)
    finally:
        upload.drop()


async def _finish(session: "ImapSession", upload: "Upload") -> None:
    account, store = session.account, session.service.store
    assert account is not None
    reader = Reader(upload.first.command)
    tag, word = reader.head()
    old: UidSet | None = None
    by_uid = word == b"UID"
    if word != b"APPEND":
        old = _replaced(session, reader, by_uid)
    reader.sp()
    name = read_name(session, reader)
    messages = []
    for one in [*upload.before, upload]:
        if one is not upload.first:
            reader = Reader(one.command)
        reader.sp()
        flags, words, date = _options(reader)
        reader.end()
        messages.append(await _message(one, flags, words, date))
    key = store.find(account, name)
    if key is None:
        session.conn.write(tag + b" NO [TRYCREATE] mailbox does not exist\r\n")
        return
    if old is None:
        check(store, account, sum(message.size for message in messages), len(messages))
    kept = await store.append(account, key, messages)
    code = b"[APPENDUID %d %b]" % (kept.uidvalidity, UidSet.of(kept.uids).octets())
    text = b"OK " + code + b" APPEND completed"
    if old is not None:
        assert session.selected is not None
        session.conn.write(b"* OK " + code + b" replaced\r\n")
        await store.expunge(account, session.selected.key, old, 0)
        session.expunges_too()
        text = b"OK REPLACE completed"
    work = session.finish(tag, text)
    if work is not None:
        await work


def _replaced(session: "ImapSession", reader: Reader, by_uid: bool) -> UidSet:
    """The message that REPLACE names; the mailbox was writable when its literal was taken or is not now."""
    if session.selected is None:
        raise CannotDo("no mailbox is selected")
    writable(session.selected)
    if by_uid:
        reader.sp()
        reader.skip(b"REPLACE")
    reader.sp()
    at = reader.pos
    if session.uidonly and not by_uid:
        raise ParseError("UID REPLACE: sequence numbers are off", at)
    uids = read_set(session, reader, by_uid)
    if len(uids) != 1:
        raise ParseError("one message that is there", at)
    return uids


async def _message(upload: "Upload", flags: int, words: list[bytes], date: int | None) -> NewMessage:
    if upload.reader.nul:
        raise UnknownEncoding("a message can not have NUL octets: use base64 for binary parts")
    if upload.staged.spilled:
        await upload.staged.spill()
    content = upload.staged.content()
    if len(content) > SCAN_ON_LOOP:
        summary = await asyncio.get_running_loop().run_in_executor(None, mime.scan, content)
    else:
        summary = mime.scan(content)
    size = int.from_bytes(summary[20:24], "little")
    when = int(time.time()) if date is None else date
    return NewMessage((content,), summary, size, when, flags, words, True, date is not None)
