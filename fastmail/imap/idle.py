"""IDLE (RFC 2177): changes are told as they are committed, by this worker or another."""

import asyncio
from typing import TYPE_CHECKING

from fastmail._core.imap import Reader
from fastmail.imap.authenticate import Work

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession


AGAIN = 0.05  # s until it is tried again while the connection is busy


def idle(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 2177 3."""
    reader.end()
    state = Idling(session, tag)
    session.set_idle(state)
    session.conn.write(b"+ idling\r\n")
    state.stirred()
    return None


class Idling:
    """The state between IDLE and DONE."""

    __slots__ = ("_again", "_session", "_tag", "_telling")

    def __init__(self, session: "ImapSession", tag: bytes) -> None:
        self._session = session
        self._tag = tag
        self._again = False
        self._telling = False

    def stirred(self) -> None:
        """The mailbox changed, or may have while nobody listened."""
        conn = self._session.conn
        if conn.closing or self._session.selected is None:
            return
        if self._telling:
            self._again = True
        elif conn.busy:  # the client still reads what came before the IDLE
            asyncio.get_running_loop().call_later(AGAIN, self._once_more)
        else:
            self._telling = True
            conn.run(self._tell())

    def _once_more(self) -> None:
        if self._session.is_idling(self):
            self.stirred()

    async def _tell(self) -> None:
        try:
            await self._changes()
        finally:
            self._telling = False

    async def _changes(self) -> None:
        while True:
            self._again = False
            if not await self._session.tell():
                return
            await self._session.conn.drain()
            if not self._again:
                return

    def line(self, line: bytes) -> None:
        """DONE ends it; anything else is an error that ends it too."""
        session = self._session
        session.set_idle(None)
        if line.upper() == b"DONE":
            work = session.finish(self._tag, b"OK IDLE completed")
            if work is not None:
                session.conn.run(work)
        else:
            session.bad(self._tag, "DONE expected")
