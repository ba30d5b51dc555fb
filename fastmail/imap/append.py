"""APPEND (RFC 3501 6.3.11) with APPENDUID (RFC 4315 3). The message itself was staged while it came in."""

import asyncio
import time
from typing import TYPE_CHECKING

from fastmail._core import mime
from fastmail._core.imap import ParseError, Reader
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
        upload.staged.drop()


async def _finish(session: "ImapSession", upload: "Upload") -> None:
    account, store = session.account, session.service.store
    assert account is not None
    reader = Reader(upload.command)
    tag, _ = reader.head()
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    flags, words, date = _options(reader)
    reader.end()
    key = store.find(account, name)
    if key is None:
        session.conn.write(tag + b" NO [TRYCREATE] mailbox does not exist\r\n")
        return
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
    message = NewMessage(
        (content,), summary, size, int(time.time()) if date is None else date, flags, words, True, date is not None
    )
    kept = await store.append(account, key, [message])
    text = b"OK [APPENDUID %d %d] APPEND completed" % (kept.uidvalidity, kept.uids[0])
    work = session.finish(tag, text)
    if work is not None:
        await work
