"""Message literals of APPEND and REPLACE (RFC 3501 6.3.11, RFC 3502, RFC 3516 4.4, RFC 8508) while they come in.

Promise: a message is refused on its announced size, by the limits, the quota of its future owner, and what all messages
under way may use. A large one is never completely in memory. ``append`` stores what was staged here.
"""

import re
from dataclasses import dataclass, field

from fastmail._core.imap import ParseError, Reader
from fastmail._core.lines import ContentReader
from fastmail.durable.staging import Staged
from fastmail.imap import places
from fastmail.imap.names import read_name
from fastmail.imap.state import Session
from fastmail.model.errors import CannotDo, OverQuota
from fastmail.net.connection import Connection
from fastmail.store.interface import Account
from fastmail.store.quota import check

APPENDS = 500  # messages of one command
PLACEHOLDER = b"\r\0\n"  # stands for a literal that was staged; no command can have it
NO_END = 1 << 40  # limit for the content reader: here the literal's size ends the content
# Looked for at each literal of a command, however many there are; so the tag is bounded.
_APPEND = re.compile(rb"[^ ]{1,256} (APPEND|(UID )?REPLACE [0-9*]+) ", re.IGNORECASE)


@dataclass(slots=True)
class Upload:
    """One literal.

    ``command``: what came before it since the last one; ``size``: as announced, of which ``left`` is still to come;
    ``binary``: a literal8, where every octet counts; ``before``: the complete literals of the same command
    (RFC 3502); ``place``: where the message goes, as it was found when the literal began; None if that may have
    changed."""

    command: bytes
    left: int
    size: int
    binary: bool
    reader: ContentReader
    staged: Staged
    before: "list[Upload]" = field(default_factory=list)
    place: places.Place | None = None

    @property
    def all(self) -> "list[Upload]":
        """The literals of the command so far."""
        return [*self.before, self]

    @property
    def tag(self) -> bytes:
        """The tag of the command."""
        return self.all[0].command.partition(b" ")[0]

    def whole(self, rest: bytes) -> bytes:
        """Return the command in one piece, with PLACEHOLDER for each literal; ``rest`` came after the last."""
        return b"".join(one.command + PLACEHOLDER for one in self.all) + rest

    def take(self, conn: Connection, data: memoryview, position: int) -> int:
        """Stage octets of the message; return where the input goes on."""
        step = min(self.left, len(data) - position)
        self.left -= step
        if self.binary:
            if self.staged.add(bytes(data[position : position + step])):
                conn.run_aside(self.staged.spill())
            return position + step
        self.reader.feed(data[position : position + step])
        if not self.left:
            self.reader.finish()
        if self.reader.pending() and self.staged.add(self.reader.take()):
            conn.run_aside(self.staged.spill())
        return position + step

    def drop(self) -> None:
        """Forget all literals of the command."""
        for one in self.all:
            one.staged.drop()


def is_message(whole: bytes) -> bool:
    """True if the literal that this command announces is the message of an APPEND, not its mailbox name."""
    if not _APPEND.match(whole):
        return False
    reader = Reader(_announcing(whole))
    try:
        _to_mailbox(reader)
        reader.astring()
        reader.sp()
        return True
    except ParseError:
        return False


def begin(session: Session, whole: bytes, size: int, last: Upload | None = None) -> Upload | str:
    """Prepare for a message of ``size`` octets; return the refusal as text if it is not accepted. ``last``: the message
    before it in the same APPEND."""
    limits = session.service.limits
    if size > limits.message_size:
        return f"NO [TOOBIG] message is too big: {limits.message_size} octets is the most"
    if size == 0:
        return "NO message is empty"
    assert session.account is not None
    parts = last.all if last is not None else []
    command = _announcing(whole)
    target, place = _target(session, parts[0].command if parts else command)
    try:
        if target is not None:
            check(session.service.store, target, size + sum(one.size for one in parts))
    except OverQuota as error:
        return f"NO [OVERQUOTA] {error}"
    budget, owner = session.service.budget, session.account.address
    if not budget.announce(owner, size, max(limits.staging_account, limits.message_size)):
        return "NO [LIMIT] too many uploads at once, try again later"
    staged = Staged(session.service.staging, budget, owner, size)
    reader = ContentReader(False, NO_END, False)
    return Upload(command.removesuffix(b"~"), size, size, command.endswith(b"~"), reader, staged, parts, place)


def _announcing(whole: bytes) -> bytes:
    """Return the command without the ``{size}`` at its end."""
    return whole[: whole.rindex(b"{")]


def _to_mailbox(reader: Reader) -> None:
    """Read up to the name of the mailbox."""
    _, name = reader.head()
    reader.sp()
    if name != b"APPEND":
        reader.skip(b"REPLACE ")
        reader.sequence_set()
        reader.sp()


def _target(session: Session, command: bytes) -> tuple[Account | None, places.Place | None]:
    """Return (who will own the message, its mailbox if this session may put it there).

    Nobody if this session may put none there: APPEND will say so in its own words, as how full another account is must
    not be told to a stranger. The session's own account if the name cannot be read yet."""
    reader = Reader(command)
    try:
        _to_mailbox(reader)
        place = places.locate(session, read_name(session, reader))
    except (ParseError, CannotDo):
        return session.account, None
    if place.key is not None and "i" in place.rights:
        return place.account, place
    return (place.account if place.account == session.account else None), None
