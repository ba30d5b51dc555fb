"""IDLE (RFC 2177): changes are sent as they are committed, by this worker or another."""

import asyncio

from fastmail.imap.command import Command, Work

AGAIN = 0.05  # s between two tries while the connection is busy


def idle(command: Command) -> Work:
    """RFC 2177 3."""
    session = command.session
    command.reader.end()
    session.idle = state = Idling(command)
    session.conn.write(b"+ idling\r\n")
    state.stirred()
    return None


class Idling:
    """The state between IDLE and DONE. ``_telling``: changes are being sent; ``_again``: more came meanwhile."""

    __slots__ = ("_again", "_command", "_session", "_telling")

    def __init__(self, command: Command) -> None:
        self._command = command
        self._session = command.session
        self._again = False
        self._telling = False

    def stirred(self) -> None:
        """The mailbox changed, or may have changed before anybody listened."""
        conn = self._session.conn
        if conn.closing or self._session.selected is None:
            return
        if self._telling:
            self._again = True
        elif conn.busy:  # the client is still reading the answers before the IDLE
            asyncio.get_running_loop().call_later(AGAIN, self._once_more)
        else:
            self._telling = True
            conn.run(self._tell())

    def _once_more(self) -> None:
        if self._session.idle is self:
            self.stirred()

    async def _tell(self) -> None:
        try:
            await self._changes()
        finally:
            self._telling = False

    async def _changes(self) -> None:
        while True:
            self._again = False
            if not await self._command.tell():
                return
            await self._session.conn.drain()
            if not self._again:
                return

    def line(self, line: bytes) -> None:
        """DONE ends it; any other line is an error that ends it too."""
        self._session.idle = None
        if line.upper() == b"DONE":
            work = self._command.finish(b"OK IDLE completed")
            if work is not None:
                self._session.conn.run(work)
        else:
            self._command.bad("DONE expected")
