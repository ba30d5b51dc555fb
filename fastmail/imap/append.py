"""APPEND (RFC 3501 6.3.11) with MULTIAPPEND (RFC 3502) and APPENDUID (RFC 4315 3). The messages themselves were staged
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
from fastmail.model.errors import CannotDo
from fastmail.store.interface import NewMessage

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
    tag, _ = reader.head()
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
    kept = await store.append(account, key, messages)
    text = b"OK [APPENDUID %d %b] APPEND completed" % (kept.uidvalidity, UidSet.of(kept.uids).octets())
    work = session.finish(tag, text)
    if work is not None:
        await work


async def _message(upload: "Upload", flags: int, words: list[bytes], date: int | None) -> NewMessage:
    if upload.reader.nul:
        raise CannotDo("a message can not have NUL octets")
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
