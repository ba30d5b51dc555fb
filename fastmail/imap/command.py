"""One IMAP command (RFC 3501 2.2): its tag and name, the reader of its arguments, and its answer.

The dispatcher makes a ``Command`` for each command and passes it to the handler of its row (``table``). A handler reads
its arguments, then finishes the command, or returns a coroutine that does. What belongs to one command is kept here, so
it ends with the command and never has to be reset.

Promise: exactly one tagged reply, by one of ``finish``, ``complete``, ``answer``, ``bad`` and ``fail``.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import errors, telling
from fastmail.imap.state import Session
from fastmail.imap.telling import Own
from fastmail.imap.upload import Upload
from fastmail.store.interface import Mailbox

Work = Coroutine[Any, Any, None] | None  # the rest of a command that has to be awaited


class Out(Protocol):
    """Where replies go: the connection, or a batch that keeps their order."""

    def write(self, data: bytes) -> None: ...


class Pipeline(Protocol):
    """The commands that the client has already sent after this one."""

    def following(self, row: "Row") -> "Command | None":
        """Take the next command out of the input, if it is complete and has this row; else None."""

    def may_begin(self, command: "Command") -> bool:
        """True if the command may run now; else it was answered."""


class Command:
    """See the module."""

    __slots__ = (  # noqa: RUF023 - in the order in which a reader meets them
        "session",
        # what the client wrote
        "tag",
        "name",  # without UID
        "by_uid",  # the UID form
        "reader",  # of the arguments
        "uploads",  # message literals that were staged while they came in
        # what may be sent before the tagged reply
        "expunges",  # removals too
        # where it stands
        "row",
        "out",
        "pipeline",
    )

    def __init__(
        self, session: Session, pipeline: Pipeline, tag: bytes, name: bytes, by_uid: bool, reader: Reader, row: "Row"
    ) -> None:
        self.session = session
        self.tag = tag
        self.name = name
        self.by_uid = by_uid
        self.reader = reader
        self.uploads: Sequence[Upload] = ()
        # Removals change sequence numbers, so a command that has such numbers cannot send them (RFC 3501 7.4.1).
        self.expunges = by_uid or not row.numbers
        self.row = row
        self.out: Out = session.conn
        self.pipeline = pipeline

    # ---------------------------------------------------------------- the tagged reply

    def finish(self, text: bytes, own: Own | None = None, box: Mailbox | None = None) -> Work:
        """Tell what changed in the selected mailbox, as far as this command may, then send the tagged reply.

        Returns what has to be awaited for that, usually nothing. ``own``: changes that this command has sent already;
        ``box``: the row of the selected mailbox, if the command has just read it."""
        session = self.session
        selected = session.selected
        if selected is None or not telling.is_news(session, selected, box):
            session.conn.write(self.tag + b" " + text + b"\r\n")
            return None
        return self._tell_and_answer(text, own)

    async def complete(self, text: bytes, own: Own | None = None, box: Mailbox | None = None) -> None:
        """Do the same for a command that may wait."""
        work = self.finish(text, own, box)
        if work is not None:
            await work

    async def _tell_and_answer(self, text: bytes, own: Own | None) -> None:
        if await self.tell(own):
            self.answer(text)

    async def tell(self, own: Own | None = None) -> bool:
        """Tell what changed in the selected mailbox. False if the session was ended."""
        return await telling.tell(self.session, self.by_uid, self.expunges, own)

    def answer(self, text: bytes) -> None:
        """Send the tagged reply only."""
        self.out.write(self.tag + b" " + text + b"\r\n")

    def bad(self, text: str) -> None:
        """Send a tagged BAD; too many end the session."""
        self.answer(b"BAD " + text.encode("utf-8", "replace"))
        self.session.count_error()

    def fail(self, error: Exception) -> None:
        """Send the tagged reply for an error; a bug is raised again."""
        if isinstance(error, ParseError):
            self.bad(errors.expected(error))
        else:
            self.answer(errors.refusal(error))

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Await the rest of the command; its errors become the tagged reply, unless the peer is gone."""
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:
            self.fail(error)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the command table; see ``table``."""

    handler: Callable[[Command], Work]
    states: int
    numbers: bool = False  # it names messages by sequence number, in its arguments or in its answer
    uid: bool = False  # it has a UID form
    plain: bool = False  # and its plain form is allowed after ENABLE UIDONLY too (RFC 9586 3)
    brief: bool = False  # it usually waits once at most; see Connection.run_brief
    keeps_section: bool = False  # a section that is fetched in parts stays in memory for the next command
