"""One mail transaction (RFC 5321 3.3): its envelope, its content as it comes, and the one state that it is in.

MAIL makes a Transaction. It ends with the reply to its content, or with RSET, EHLO or STARTTLS. It takes octets and
says what has come of them; it sends no reply and knows no session.

    START --EHLO--> NONE --MAIL--> MAIL --RCPT--> RCPT --DATA--> DATA --the final dot--> DECIDING --reply--> NONE
    RCPT, BDAT --BDAT n--------> CHUNK ---------its last octet--> BDAT
    RCPT, BDAT --BDAT n LAST---> LAST_CHUNK ----its last octet--> DECIDING --reply--> NONE
    START, NONE, MAIL --BDAT n-> PASSED_OVER ---its last octet--> where it came from

Promise: content is staged in bounded memory, then in a file (durable.staging). What is too big, and what comes after
the disk was full, is not kept, but its end is found all the same, so that the session can go on.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from fastmail._core.lines import ContentReader
from fastmail.delivery.envelope import Envelope
from fastmail.directory.interface import AccountRecord
from fastmail.directory.records import Domain
from fastmail.durable.staging import Budget, Staged
from fastmail.model.esmtp import BINARY
from fastmail.policy.receive import Receiving
from fastmail.policy.wishes import Wanted, Wishes

TAKE = 65536  # octets that the reader holds before they are staged


@dataclass(frozen=True, slots=True)
class Own:
    """Whose limits of sending a mail transaction has (smtp.own_limits): the account that is logged in, as it is at
    MAIL, and its domain."""

    account: AccountRecord
    domain: Domain | None


class State(IntEnum):
    """How much of a message has come. Up to BDAT, commands are expected: these states are the columns of smtp.table.
    From DATA on, the octets are content."""

    START = 0  # no EHLO yet
    NONE = 1  # no mail transaction
    MAIL = 2  # a sender, no recipient
    RCPT = 3  # a recipient, no content
    BDAT = 4  # chunks, and more of them are to come
    DATA = 5  # up to the final dot
    CHUNK = 6
    LAST_CHUNK = 7
    PASSED_OVER = 8  # a chunk that is not kept, because there is nobody to give it to
    DECIDING = 9  # all of it has come, and its reply was not given yet


START, NONE, MAIL, RCPT, BDAT, DATA, CHUNK, LAST_CHUNK, PASSED_OVER, DECIDING = State  # quicker than State.START
CONTENT = DATA  # the first state in which octets are content


class Transaction:
    """See the module. ``reader`` and ``staged`` are there from the beginning of the content on."""

    __slots__ = (
        "_asked",
        "_limit",
        "_over",
        "begun",
        "binary",
        "counted",
        "envelope",
        "left",
        "missed",
        "most",
        "no_room",
        "own",
        "reader",
        "received",
        "receiving",
        "resumes",
        "staged",
        "state",
        "wanted",
        "wishes",
    )

    def __init__(self, envelope: Envelope, state: State = MAIL) -> None:
        self.state = state
        self.envelope = envelope
        self.receiving: Receiving | None = None  # what is thought of it, where that is asked
        self.wanted: list[Wanted] = []  # what its recipients ask for about that; of each account once
        self.wishes: set[Wishes] | None = None  # all that is among it, once there is something
        self.missed = 0  # recipients that were unknown
        self.counted: set[str] | None = None  # recipients in whose rates it counts: once, however often it names them
        self.own: Own | None = None  # whose limits of sending it counts in
        self.most = 0  # octets that its sender's messages may have; 0 where the service alone says that
        self.binary = envelope.options.body == BINARY  # content with NUL and bare line ends, by BDAT only (RFC 3030 3)
        # the content
        self.reader: ContentReader | None = None
        self.staged: Staged | None = None
        self.begun, self.received = 0.0, 0  # when content began to come, and how many octets came
        self.no_room = False  # the disk took no more of it: 452 at its end
        self._asked: set[tuple[int | str, Wishes]] | None = None  # what is in ``wanted``
        self._limit = 0  # octets that it may have
        self._over = False  # binary content has more
        # the chunk
        self.left = 0  # octets that are still to come
        self.resumes = state  # the state after a chunk that is passed over

    def ask(self, found: Iterable[Wanted]) -> None:
        """Add what the accounts behind one more recipient ask for. What an account asks for is added once, however many
        recipients lead to it: a stranger may name an alias of many with any number of details."""
        asked, wishes = self._asked, self.wishes
        if asked is None or wishes is None:
            asked, wishes = self._asked, self.wishes = set(), set()
        for one in found:
            key = one.number or one.address, one.wishes
            if key not in asked:
                asked.add(key)
                wishes.add(one.wishes)
                self.wanted.append(one)

    # ---------------------------------------------------------------- content begins

    def begin_data(self, staging: str, budget: Budget, limit: int) -> None:
        """Begin content in the form of DATA, with dots doubled."""
        self._begin(True, staging, budget, limit)
        self.state = DATA

    def begin_chunk(self, octets: int, last: bool, staging: str, budget: Budget, limit: int) -> None:
        """Begin a chunk of the content (RFC 3030 2)."""
        if self.reader is None:
            self._begin(False, staging, budget, limit)
        self.left = octets
        self.state = LAST_CHUNK if last else CHUNK

    def pass_over(self, octets: int) -> None:
        """Begin a chunk that no recipient gets."""
        self.begun, self.received = time.monotonic(), 0
        self.left = octets
        self.resumes, self.state = self.state, PASSED_OVER

    def _begin(self, dots: bool, staging: str, budget: Budget, limit: int) -> None:
        self.reader = ContentReader(dots, limit)
        self.staged = Staged(staging, budget)
        if self.receiving is not None:
            self.staged.tap = self.receiving.feed
        self.begun, self.received = time.monotonic(), 0
        self._limit = limit

    # ---------------------------------------------------------------- content comes

    def feed(self, data: memoryview, position: int) -> tuple[int, bool, bool]:
        """Take content. Returns (the offset after the octets that were taken, True if they end the content or the
        chunk, True if ``staged.spill`` has to be awaited before more is taken)."""
        reader, staged = self.reader, self.staged
        if self.state is DATA:
            assert reader is not None and staged is not None
            start, position = position, reader.feed(data, position)
            self.received += position - start
            if reader.done:
                if reader.pending():
                    staged.add(reader.take())
                return position, True, False
            return position, False, reader.pending() >= TAKE and staged.add(reader.take())
        chunk = data[position : position + self.left]
        self.left -= len(chunk)
        self.received += len(chunk)
        spill = self.state is not PASSED_OVER and self.add(chunk)
        return position + len(chunk), not self.left, spill

    def add(self, chunk: memoryview) -> bool:
        """Take octets of a chunk. Returns True when ``staged.spill`` has to be awaited before more is taken."""
        reader, staged = self.reader, self.staged
        assert reader is not None and staged is not None
        if not self.binary:
            reader.feed(chunk)
            return reader.pending() >= TAKE and staged.add(reader.take())
        self._over = self._over or staged.size + len(chunk) > self._limit
        return not self._over and staged.add(bytes(chunk))

    def lose_room(self, staging: str, budget: Budget) -> None:
        """The disk is full: drop the content, and go on reading to its end."""
        self.no_room = True
        if self.staged is not None:
            self.staged.drop()
        self.staged = Staged(staging, budget)

    # ---------------------------------------------------------------- content ends

    @property
    def too_big(self) -> bool:
        """True if more content has come than is allowed."""
        return self._over or (self.reader is not None and self.reader.full)

    def finish_chunks(self) -> None:
        """The last chunk is complete: stage what the reader still holds."""
        assert self.reader is not None and self.staged is not None
        self.reader.finish()
        if self.reader.pending():
            self.staged.add(self.reader.take())

    def fault(self) -> str:
        """Return why complete content is refused, whatever it says: full, bare or nul (smtp.end_of_data); empty if it
        is not refused."""
        assert self.reader is not None
        if self.too_big:
            return "full"
        return "bare" if self.reader.bare else "nul" if self.reader.nul else ""

    def drop(self) -> None:
        """Drop the content, and stop the checks of the message."""
        if self.receiving is not None:
            self.receiving.close()
            self.receiving = None
        if self.staged is not None:
            self.staged.drop()
        self.reader = self.staged = None
