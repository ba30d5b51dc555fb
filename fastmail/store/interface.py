"""What the protocols ask of a store, cut at mailbox operations; the same contract suite runs over every backend.

Rules every backend keeps: UIDs and MODSEQs are given inside its commit, ascend and are never reused; a coroutine
returns only when its effect is durable (or, for the memory backend, done); changes are published in commit order,
before the coroutine that made them returns. No path, descriptor or transaction crosses this interface except inside a
snapshot, which must be closed before the caller awaits.

A mailbox key is 12 octets: account id (8, big-endian), mailbox id (4). Flags and keywords: see model.flags.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from fastmail._core.uidset import UidSet
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.store.views import Views

Octets = bytes | bytearray | memoryview
ALL_MODSEQ = (1 << 64) - 1
GRACE = 300.0  # s that a removed message stays readable; any session that does anything is told of removals sooner
EVERYTHING = b"\xff\xff\xff\xff"  # instead of a mailbox's id: all that there is in the account
Notes = dict[bytes, bytes | None]  # annotations by name; None where there is to be, or is, none
Unsure = list[tuple[int, list[bytes] | None]]


class Pool(Protocol):
    """What several accounts may have together, in octets."""

    def fits(self, octets: int) -> bool:
        """Is there room for so much, as far as is known now?"""
        ...

    def took(self, octets: int) -> None:
        """So much is stored now."""
        ...

    async def ready(self, octets: int) -> None:
        """Look again where what is known is old, or would refuse so much."""
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns mailboxes. Where a backend keeps them is its own affair. ``pool``: a limit that
    it shares with others."""

    id: int
    address: str
    quota: Quota = NO_QUOTA
    pool: Pool | None = field(default=None, compare=False, repr=False)


NOTES_OF_USERS = (b"/private/", b"/shared/", b"/of/")


def counts(note: bytes) -> bool:
    """Does an annotation of this name count in quotas? Those that users set do; what the server notes does not."""
    return note.startswith(NOTES_OF_USERS)


# attributes of a mailbox (RFC 6154), as bits of Mailbox.special
SPECIAL = {1: "\\Drafts", 2: "\\Sent", 4: "\\Trash", 8: "\\Junk", 16: "\\Archive"}
DEFAULT_MAILBOXES = {"Drafts": 1, "Sent": 2, "Trash": 4, "Junk": 8, "Archive": 16}


@dataclass(slots=True)
class Mailbox:
    """One mailbox as of one commit. ``recent_from``: first UID that no session was told of as \\Recent.

    ``changed``: MODSEQ of the last change of flags.
    """

    key: bytes
    name: str
    uidvalidity: int
    uidnext: int = 1
    exists: int = 0
    unseen: int = 0
    deleted: int = 0
    recent_from: int = 1
    modseq: int = 1
    octets: int = 0
    special: int = 0
    created: int = 0
    changed: int = 0


@dataclass(slots=True)
class NewMessage:
    """A message to be kept. ``content`` chunks are as a Maildir keeps them, with LF; ``size`` is as served."""

    content: Sequence[Octets]
    summary: bytes
    size: int
    date: int
    flags: int = 0
    keywords: Sequence[bytes] = ()
    recent: bool = True


@dataclass(slots=True)
class Delivery:
    """One message for one mailbox. ``id``: of its mail transaction (message.transaction), or empty; ``copy`` tells
    those apart that one transaction has for the same account. Repeated with the same ``id`` and ``copy``, a delivery to
    an account is not kept again. ``again``: it comes from the queue, so that it may have been tried before, and its
    content may be there. ``hold``: what its content is called where the store has it already."""

    account: Account
    key: bytes
    message: NewMessage
    id: bytes = b""
    hold: bytes = b""
    again: bool = False
    copy: int = 0


@dataclass(slots=True)
class Appended:
    """Where messages went: UIDs in the order in which they were given. ``recent``: first and past-last UID that are
    \\Recent for the caller, when it asked for that. ``repeated``: an earlier delivery with the same id gave this."""

    key: bytes
    uidvalidity: int
    uids: list[int]
    modseq: int = 0
    recent: tuple[int, int] = (0, 0)
    repeated: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Stored:
    """Result of a flag change. ``before`` is the mailbox's MODSEQ just before it; ``box`` and ``pages``: its row, and
    the index pages of the messages, as the change left them, where the store has them at hand."""

    key: bytes
    changed: UidSet
    same: UidSet
    refused: UidSet
    modseq: int
    before: int
    box: Mailbox | None = None
    pages: Sequence[Octets] = ()


@dataclass(slots=True)
class Expunged:
    """Result of a removal."""

    key: bytes
    uids: UidSet
    modseq: int
    before: int


@dataclass(slots=True)
class Copied:
    """Result of COPY or MOVE: ``source`` and ``target`` UIDs correspond in order."""

    target: Appended
    source: list[int]
    expunged: Expunged | None = None


@dataclass(slots=True)
class Listing:
    """An account's mailboxes and subscriptions."""

    mailboxes: list[Mailbox] = field(default_factory=list)
    subscribed: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Holding:
    """What an account holds in all. ``modseq``: the highest of its mailboxes, those that were removed too; every change
    of a message or mailbox of the account has one of its own. ``kept``: octets that count in its quota beside those of
    its messages: long summaries, annotations. ``low``: changes up to this MODSEQ are remembered no more."""

    modseq: int
    octets: int
    messages: int
    mailboxes: int
    kept: int
    low: int


class Kind(IntEnum):
    """What happened to a message, or to a mailbox."""

    CREATED = 1
    CHANGED = 2
    REMOVED = 3
    MAILBOX_CREATED = 4
    MAILBOX_CHANGED = 5
    MAILBOX_REMOVED = 6


@dataclass(frozen=True, slots=True)
class AccountChange:
    """One thing that happened in an account. A message comes and goes in a mailbox (``key``, ``uid``); with the same
    EMAILID (``mark``: see message.identity) it may be in others."""

    modseq: int
    kind: Kind
    key: bytes
    uid: int = 0
    mark: bytes = b""


class Summaries(Protocol):
    """Summaries of messages, by UID; a dict is one."""

    def get(self, uid: int, /) -> Octets | None: ...
    def items(self) -> Iterable[tuple[int, Octets]]: ...


class Snapshot(Protocol):
    """One consistent state, for reading. Values lent by it die with it."""

    def mailbox(self, key: bytes) -> Mailbox | None: ...
    def modseq(self, key: bytes) -> int:
        """MODSEQ of the mailbox as of the last change that may have been a removal; 0 when it is gone."""
        ...

    def recall(self, key: bytes, uids: UidSet) -> None:
        """Show these messages, which were expunged, as they were then, as far as they are kept for views that still
        have them: in ``pages`` and all that follows here but ``expunged``. ``presence`` does not."""
        ...

    def boxes(self, account: int) -> Sequence[Mailbox]:
        """All mailboxes of an account."""
        ...

    def holding(self, account: int) -> Holding:
        """What an account holds in all: exact, and one row."""
        ...

    def changes(self, account: int, since: int) -> list[AccountChange] | None:
        """What happened after MODSEQ ``since``, in that order; None where that is remembered no more. Flags of a
        message that changed several times are told once, with the last change."""
        ...

    def places(self, account: int, mark: bytes) -> list[tuple[bytes, int]] | None:
        """(mailbox key, UID) of every place of the message with this EMAILID; None where only a look at the messages
        can tell."""
        ...

    def members(self, account: int, thread: bytes) -> list[tuple[bytes, int]] | None:
        """The same of the messages of a conversation, by its THREADID."""
        ...

    def notes(self, key: bytes) -> dict[bytes, bytes]:
        """Annotations of a mailbox, or of the account (mailbox id 0), by name."""
        ...

    def note(self, key: bytes, name: bytes) -> bytes | None:
        """One of them."""
        ...

    def pages(self, key: bytes, uids: UidSet | None = None) -> Iterator[Octets]:
        """Index pages in UID order; with ``uids`` only those that may hold one of them."""
        ...

    def presence(self, key: bytes, above: int = 0) -> Iterator[tuple[int, int]]:
        """(first UID, presence bits) of the pages that may hold UIDs above ``above``."""
        ...

    def summaries(self, key: bytes, uids: UidSet) -> Summaries:
        """Of those of ``uids`` that have one."""
        ...

    def search_field(self, key: bytes, uids: UidSet, name: bytes, needle: bytes) -> tuple[list[int], Unsure]:
        """(UIDs whose field ``name`` contains ``needle``, both ASCII in lower case; UIDs that must be decoded, with
        the values of the field, or None where it is not cached)."""
        ...

    def search_addresses(self, key: bytes, uids: UidSet, which: int, needle: bytes) -> tuple[list[int], Unsure]:
        """The same for addresses of the ENVELOPE; ``which`` of its elements, see _core/envelope.pyi."""
        ...

    def fields(self, key: bytes, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
        """{uid: the first value of each header field, as it is}, without messages whose fields are not cached."""
        ...

    def content(self, key: bytes, uid: int) -> Octets | None:
        """The message as it lies in the store when it can be had without waiting; None otherwise."""
        ...

    def expunged(self, key: bytes, since: int) -> UidSet:
        """UIDs removed by commits after MODSEQ ``since``."""
        ...

    def keywords(self, key: bytes) -> list[bytes]: ...
    def pop3(self, key: bytes) -> dict[int, tuple[int, bytes]]:
        """{uid: (place before all without one, or 0; UIDL, or empty)} of messages that another server had named for
        POP3 clients; empty for nearly every mailbox."""
        ...


class Holds(Protocol):
    """Content that mailboxes and the queue share. A holder is the number of a message in the queue."""

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        """Keep content that a mailbox of the account will get later, by ``Delivery.hold``, and that others may read
        until ``let_go``: what it is called. Durable when it returns."""
        ...

    async def read(self, hold: bytes) -> bytes:
        """Its content, with LF; CorruptData when it is damaged or gone."""
        ...

    async def let_go(self, holders: Sequence[int]) -> None:
        """Nobody needs what they hold any more but the mailboxes that have it. A second time nothing happens."""
        ...

    def holders(self) -> set[int]:
        """Who holds content."""
        ...


class Store(Protocol):
    """A mail store. Coroutines raise the errors of model.errors. ``read_only``: it changes nothing."""

    @property
    def read_only(self) -> bool: ...
    @property
    def views(self) -> Views:
        """Where a session says which mailbox it has a view of."""
        ...

    @property
    def holds(self) -> Holds: ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def open(self, account: Account) -> None:
        """Make sure that the account's INBOX (and, when new, its usual folders) exist."""
        ...

    async def listing(self, account: Account) -> Listing: ...
    def find(self, account: Account, name: str) -> bytes | None: ...
    async def create(self, account: Account, name: str, special: int = 0) -> None: ...
    async def delete(self, account: Account, name: str) -> None: ...
    async def rename(self, account: Account, old: str, new: str) -> None: ...
    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        """Set and (None) remove annotations of a mailbox, or of the account (mailbox id 0); all or none. With
        ``expected`` only if those are as it says (None for not there): otherwise False, and nothing."""
        ...

    async def subscribe(self, account: Account, name: str, on: bool) -> None: ...
    def snapshot(self, account: Account) -> AbstractContextManager[Snapshot]: ...
    async def sync(self, account: Account, key: bytes) -> None:
        """Take in what other programs did to the mailbox; cheap when nothing changed."""
        ...

    def settled(self, account: Account, box: Mailbox) -> bool:
        """Is that done, as far as can be said at once? ``sync`` has nothing to do then."""
        ...

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        """The message as it lies in the store, with LF or CRLF; None when it is gone. One that was expunged is there as
        long as it is kept for views that still have it."""
        ...

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        """Their contents will be asked for: have the first of them where ``Snapshot.content`` finds them at once, as
        far as that is good for anything."""
        ...

    async def append(
        self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool = False
    ) -> Appended:
        """Keep messages; durable, all or none, when it returns. ``claim``: and ``claim_recent`` in the same commit."""
        ...

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        """Keep each message in its mailbox, and say where, in order; durable when it returns. What was kept before with
        the same id is not kept again: the answer is the first one's, for a day at least, in every process, and
        whatever became of the message since. When it raises, some may have been kept all the same: ``given`` knows, and
        with their ids they can be delivered again."""
        ...

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        """What ``deliver`` gave for these ids, in order; None for what was not kept. It tells of nothing that is not
        durable."""
        ...

    async def store(
        self,
        account: Account,
        key: bytes,
        uids: UidSet,
        mode: int,
        flags: int,
        keywords: Sequence[bytes],
        unchanged_since: int = ALL_MODSEQ,
    ) -> Stored: ...
    async def copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False, mine: int = 1
    ) -> Copied:
        """COPY or MOVE to another mailbox of the account. ``mine``: see ``expunge``."""
        ...

    async def expunge(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int = 1
    ) -> Expunged:
        """Remove those of ``uids`` (None: all) that have all ``required`` flags. Where there are more views of the
        mailbox than ``mine``, the caller's own, they stay readable for GRACE seconds (``Snapshot.recall``,
        ``content``), unless there is no room."""
        ...

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        """Keep previews (UTF-8) of messages whose summaries have none, by UID; nobody is told."""
        ...

    async def claim_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        """First and past-last UID that are \\Recent for the caller, and for nobody after it."""
        ...

    def watch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        """Call back, on the loop, after each commit to the mailbox or to its annotations by anybody, and when files
        change. Mailbox id 0: when names, subscriptions or annotations of the account change. EVERYTHING: after each
        commit to anything of the account; what other programs do to its files is taken in where somebody looks."""
        ...

    def unwatch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None: ...
