"""APPEND (RFC 3501 6.3.11) with MULTIAPPEND (RFC 3502), APPENDUID (RFC 4315 3), BINARY (RFC 3516 4.4), UTF8 (RFC 6855
4) and CATENATE (RFC 4469); REPLACE (RFC 8508). The messages were staged while they came in; all of them are stored, or
none.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fastmail._core import mime
from fastmail._core.imap import ParseError, Reader
from fastmail._core.lines import to_lf
from fastmail._core.uidset import UidSet
from fastmail.imap import places
from fastmail.imap import url as urls
from fastmail.imap.command import Command, Work
from fastmail.imap.errors import BadUrl, TooBig
from fastmail.imap.names import read_name
from fastmail.imap.sets import read_set
from fastmail.imap.state import Session
from fastmail.imap.upload import APPENDS, PLACEHOLDER, Upload
from fastmail.imap.urlauth import quote_always
from fastmail.imap.views import writable
from fastmail.message import summary
from fastmail.message.preview import scanned
from fastmail.message.recode import without_binary
from fastmail.message.sections import UnknownEncoding
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoSuchMailbox, TooMuch
from fastmail.store.interface import NewMessage
from fastmail.store.quota import check

SCAN_ON_LOOP = 262144  # octets of a message that is scanned on the event loop; a longer one on a helper thread
SUMMARIES = 16 << 20  # octets of long summaries of one APPEND: the index keeps all of them in memory until the commit


def append(command: Command) -> Work:
    """RFC 3501 6.3.11. A command without uploads is a CATENATE of URLs only, or its message is missing."""
    return _parsed(command, None)


def replace(command: Command) -> Work:
    """RFC 8508 3."""
    return _parsed(command, _replaced(command))


@dataclass(slots=True)
class Asked:
    """One message of an APPEND. ``parts``: its literals, and the URLs between them (RFC 4469)."""

    flags: int
    words: list[bytes]
    date: int | None
    parts: list[Upload | bytes]

    @property
    def is_staged(self) -> bool:
        """True if ``Staged`` holds exactly the message."""
        return len(self.parts) == 1 and not isinstance(self.parts[0], bytes) and not self.parts[0].binary


def _options(reader: Reader) -> tuple[int, list[bytes], int | None]:
    """Read (flags, keywords, date) before the literal, each with its space."""
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


def _parsed(command: Command, old: UidSet | None) -> Work:
    """Read the rest of the arguments, and store the messages. ``old``: the message that they replace."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    waiting = iter(command.uploads)
    asked = []
    while True:
        reader.sp()
        flags, words, date = _options(reader)
        asked.append(Asked(flags, words, date, _parts(reader, waiting)))
        if len(asked) > APPENDS:
            raise TooMuch(f"at most {APPENDS} messages are taken at once")
        if reader.peek() != 32:
            break
    reader.end()
    return _keep(command, name, asked, old)


def _parts(reader: Reader, waiting: Iterator[Upload]) -> list[Upload | bytes]:
    """Read a literal, or ``CATENATE (URL url TEXT literal ...)``."""

    def literal() -> Upload:
        upload = next(waiting, None)
        if upload is None or not reader.skip(PLACEHOLDER):
            raise ParseError("the message as a literal", reader.pos)
        return upload

    utf8 = reader.skip(b"UTF8 (")
    if not utf8 and reader.skip(b"CATENATE ("):
        parts: list[Upload | bytes] = []
        while True:
            at = reader.pos
            if reader.skip(b"URL "):
                parts.append(
                    bytes(literal().staged.content())
                    if reader.data_at(len(PLACEHOLDER)) == PLACEHOLDER
                    else reader.astring()
                )
            elif reader.skip(b"TEXT "):
                parts.append(literal())
            else:
                raise ParseError("URL or TEXT", at)
            if not reader.more():
                break
        reader.close()
        return parts
    found = literal()
    if utf8:
        reader.close()
    return [found]


async def _keep(command: Command, name: str, asked: list[Asked], old: UidSet | None) -> None:
    session = command.session
    store = session.service.store
    found = command.uploads[-1].place if command.uploads else None
    try:
        place = found or await places.find(session, name, "i")
    except NoSuchMailbox:
        command.answer(b"NO [TRYCREATE] mailbox does not exist")
        return
    account, key = place.account, place.key
    assert key is not None
    allowed = rights.flags(place.rights)
    limits = session.service.limits
    left = max(limits.message_size, limits.staging_memory)  # octets that messages put together here may use
    long = SUMMARIES
    messages = []
    for one in asked:
        try:
            content = await _content(session, one)
            left -= 0 if one.is_staged else len(content)
            if left < 0:
                raise TooMuch("the messages are too big in all")
        except BadUrl as error:
            command.answer(b"NO [BADURL " + quote_always(error.url) + b"] nothing was appended")
            return
        one.flags &= allowed  # flags without a right are dropped silently (RFC 4314 4)
        one.words = one.words if "w" in place.rights else []
        messages.append(await _message(content, one))
        long -= mime.counted(messages[-1].summary)
        if long < 0:
            raise TooMuch("the index entries of the messages are too big in all")
    if old is None or account != session.account:
        octets = sum(message.size + mime.counted(message.summary) for message in messages)
        if account.pool is not None:
            await account.pool.ready(octets)
        check(store, account, octets, len(messages))
        if account.pool is not None:
            account.pool.took(octets)
    selected = session.selected
    takes_recent = selected is not None and key == selected.key and not selected.readonly and not session.rev2
    kept = await store.append(account, key, messages, takes_recent)
    if selected is not None and kept.recent[0] < kept.recent[1] and session.selected is selected:
        selected.recent = selected.recent.plus(UidSet.of_ranges((kept.recent[0], kept.recent[1] - 1)))
    code = b"[APPENDUID %d %b]" % (kept.uidvalidity, UidSet.of(kept.uids).octets())
    text = b"OK " + code + b" APPEND completed"
    if old is not None:
        assert session.selected is not None
        session.conn.write(b"* OK " + code + b" replaced\r\n")
        await store.expunge(session.selected.account, session.selected.key, old, 0)
        command.expunges = True  # the client asked for this removal (RFC 8508 3.4)
        text = b"OK REPLACE completed"
    await command.complete(text)


async def _content(session: Session, asked: Asked) -> bytes | memoryview:
    """Return the message with LF."""
    if len(asked.parts) == 1 and not isinstance(asked.parts[0], bytes):
        upload = asked.parts[0]
        if upload.staged.spilled:
            await upload.staged.spill()
        content = upload.staged.content()
        if not upload.binary and upload.reader.nul:
            raise UnknownEncoding("a message cannot have NUL octets: use literal8, or base64 for binary parts")
        return await _plain(bytes(content)) if upload.binary else content
    account = session.account
    assert account is not None
    pieces = []
    size = 0
    binary = False
    for part in asked.parts:
        if isinstance(part, bytes):
            url = urls.parse(part.decode("utf-8", "replace"))
            if url is None or (
                url.user and url.user.lower() not in (account.address, account.address.partition("@")[0])
            ):
                raise BadUrl(part)
            try:
                piece = await _piece(session, url)
            except CannotDo:
                raise BadUrl(part) from None
        else:
            if part.staged.spilled:
                await part.staged.spill()
            piece = bytes(part.staged.content())
            binary = binary or part.binary
        pieces.append(piece)
        size += len(piece)
        if size > session.service.limits.message_size:
            raise TooBig(f"message is too big: {session.service.limits.message_size} octets is the most")
    content = b"".join(pieces)
    if not content:
        raise CannotDo("message is empty")
    return await _plain(content) if binary or 0 in content else to_lf(content)


async def _piece(session: Session, url: urls.Url) -> bytes:
    """Return what a URL of a CATENATE names; a relative one refers to the selected mailbox."""
    selected = session.selected
    if url.mailbox or selected is None:
        assert session.account is not None
        return await urls.read(session.service, session.account, url, None)
    return await urls.read(session.service, selected.account, url, selected.key)


async def _plain(content: bytes) -> bytes:
    """Return the content without binary parts; a large one is converted on a helper thread."""
    if len(content) > SCAN_ON_LOOP:
        return await asyncio.get_running_loop().run_in_executor(None, without_binary, content)
    return without_binary(content)


def _replaced(command: Command) -> UidSet:
    """The message that REPLACE names. The mailbox may have been closed since the literal of the command was taken."""
    session, reader = command.session, command.reader
    if session.selected is None:
        raise CannotDo("no mailbox is selected")
    writable(session.selected, "te")
    reader.sp()
    at = reader.pos
    if session.uidonly and not command.by_uid:
        raise ParseError("UID REPLACE: sequence numbers are off", at)
    uids = read_set(command)
    if len(uids) != 1:
        raise ParseError("one message of the mailbox", at)
    return uids


async def _message(content: bytes | memoryview, asked: Asked) -> NewMessage:
    if len(content) > SCAN_ON_LOOP:
        made = await asyncio.get_running_loop().run_in_executor(None, scanned, content)
    else:
        made = scanned(content)
    when = int(time.time()) if asked.date is None else asked.date
    return NewMessage((content,), made, summary.served_size(made), when, asked.flags, asked.words)
