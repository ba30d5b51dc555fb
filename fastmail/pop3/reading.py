"""Sends messages: RETR (RFC 1939 5) and TOP (RFC 1939 7); without UTF8, with header fields of ASCII (RFC 6856 4).

Promise: a message is sent in pieces, and the next piece is made only after the peer has read the last one, however long
the lines are.
"""

import asyncio
from collections.abc import Iterator

from fastmail._core import mime
from fastmail._core.lines import dot_stuffed, top_end
from fastmail.message import surrogate
from fastmail.model.errors import MailError
from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View
from fastmail.telemetry import log

BLOCK = 65536  # octets of a long answer that are written at once
MOST_LINES = 1 << 40  # more than a message can have: whoever asks for more of them gets all


def retr(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5."""
    number = session.number(view, rest.strip())
    if number:
        _send(session, view, number, -1)


def top(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 7: the header and so many lines of the body."""
    words = rest.split()
    if len(words) != 2 or not words[1].isdigit():
        session.bad("TOP message lines is expected")
        return
    number = session.number(view, words[0])
    if number:
        _send(session, view, number, min(int(words[1]), MOST_LINES))


def _send(session: Dialogue, view: View, number: int, lines: int) -> None:
    """Send ``lines`` of the body, all of them if that is negative: at once if the message is at hand, of one piece, and
    sent as it is."""
    try:
        content = session.at_hand(view, view.uids[number - 1])
    except MailError as error:
        _refuse(session, view, error)
        return
    if content is None or len(content) > BLOCK or not (session.utf8 or (content := bytes(content)).isascii()):
        kept = bytes(content) if content is not None else None
        session.end_reading()
        session.conn.run_now(_send_slowly(session, view, number, lines, kept))
        return
    if lines < 0:
        view.read.add(number)
    else:
        content = memoryview(content)[: top_end(content, lines)]
    session.conn.write(b"+OK %d octets\r\n" % view.sizes[number - 1])
    session.conn.write(dot_stuffed(content))


def _refuse(session: Dialogue, view: View, error: MailError) -> None:
    log.event("pop3.unreadable", "error", account=view.account.address, error=error)
    session.err("[SYS/TEMP] message can not be read now")


async def _send_slowly(session: Dialogue, view: View, number: int, lines: int, content: bytes | None) -> None:
    """Do the same for a message that is not at hand (None), is long, or has to be converted."""
    if content is None:
        try:
            content = await session.service.store.content(view.account, view.key, view.uid(number))
        except MailError as error:
            _refuse(session, view, error)
            return
    if content is None:
        session.err("message was removed by another program")
        return
    if lines < 0:
        view.read.add(number)
    octets = view.sizes[number - 1]
    if not session.utf8 and not content.isascii():
        made = await asyncio.get_running_loop().run_in_executor(None, surrogate.of, content)
        octets, content = octets if made is content else mime.served_size(made), made
    session.ok(f"{octets} octets")
    for piece in sent_pieces(content if lines < 0 else content[: top_end(content, lines)]):
        session.conn.write(piece)
        if session.conn.full:
            await session.conn.drain()


def sent_pieces(content: bytes, block: int = BLOCK) -> Iterator[bytes]:
    """Yield a message as RETR sends it, with its final dot, in pieces that are not much longer than ``block``, however
    long the lines are."""
    view, start, size = memoryview(content), 0, len(content)
    inside = False  # of a line that is longer than a piece
    while size - start > block:
        if inside or (end := content.rfind(b"\n", start, start + block) + 1) == 0:
            end = content.find(b"\n", start, start + block) + 1
            if end:
                yield content[start : end - 1].removesuffix(b"\r") + b"\r\n"
            else:
                end = start + block
                end -= content[end - 1] == 13 and block > 1  # it may belong to the line's end
                yield (b"." if not inside and content[start] == 46 else b"") + content[start:end]
            inside = content[end - 1] != 10
        else:
            yield dot_stuffed(view[start:end], False)
        start = end
    if inside:
        end = content.find(b"\n", start) + 1
        yield (content[start : end - 1].removesuffix(b"\r") if end else content[start:]) + b"\r\n"
        start = end or size
    yield dot_stuffed(view[start:])
