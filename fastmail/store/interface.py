"""The interface of a mail store: what the protocols ask of it. One contract suite runs over every backend.

Rules for every backend. UIDs and MODSEQs are assigned inside its commit, ascend, and are never used again. A coroutine
returns only when its effect is durable (in the memory backend: done). Changes are published in the order of commits,
before the coroutine that made them returns. No path, descriptor or transaction crosses this interface except inside a
snapshot, which must be closed before the caller awaits.

A mailbox key is 12 octets: account id (8, big-endian), mailbox id (4). Flags and keywords: see model.flags.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from msgspec import Struct

from fastmail._core.uidset import UidSet
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.store.views import Views

Octets = bytes | bytearray | memoryview
ALL_MODSEQ = (1 << 64) - 1
GRACE = 300.0  # s that a removed message stays readable; a session that runs any command is told of removals sooner
Notes = dict[bytes, bytes | None]  # annotations by name; None: remove it, or there is none
Unsure = list[tuple[int, list[bytes] | None]]


class Pool(Protocol):
    """A limit, in octets, that several accounts share."""

    def fits(self, octets: int) -> bool:
        """True if there is room for ``octets`` more, as far as is known now."""
        ...

    def took(self, octets: int) -> None:
        """Count octets that were just stored."""
        ...

    async def ready(self, octets: int) -> None:
        """Read the totals again if they are old, or if they would refuse ``octets`` more."""
        ...


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of mailboxes. The backend alone decides where they are kept. ``pool``: a limit that it shares with
    others."""

    id: int
    address: str
    quota: Quota = NO_QUOTA
    pool: Pool | None = field(default=None, compare=False, repr=False)


NOTES_OF_USERS = (b"/private/", b"/shared/", b"/of/")


def counts(note: bytes) -> bool:
    """True if an annotation with this name counts in quotas. Those that users set do; the server's own do not."""
    return note.startswith(NOTES_OF_USERS)


# attributes of a mailbox (RFC 6154), as bits of Mailbox.special
SPECIAL = {1: "\\Drafts", 2: "\\Sent", 4: "\\Trash", 8: "\\Junk", 16: "\\Archive"}
DEFAULT_MAILBOXES = {"Drafts": 1, "Sent": 2, "Trash": 4, "Junk": 8, "Archive": 16}


class Mailbox(Struct):
    """One mailbox as of one commit.

    ``recent_from``: the first UID that no session was shown as \\Recent. ``changed``: MODSEQ of the last flag
    change."""

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


class NewMessage(Struct):
    """A message to store. ``content``: chunks as a Maildir keeps them, with LF; ``size``: octets as served, with
    CRLF."""

    content: Sequence[Octets]
    summary: bytes
    size: int
    date: int
    flags: int = 0
    keywords: Sequence[bytes] = ()
    recent: bool = True


class Delivery(Struct):
    """One message for one mailbox.

    ``id``: of the mail transaction (message.transaction), or empty. ``copy`` distinguishes several messages of one
    transaction for the same account. A second delivery to an account with the same ``id`` and ``copy`` stores nothing.
    ``again``: it comes from the queue, so an earlier attempt may have stored it or its content. ``hold``: the name of
    its content if the store holds that already (Holds)."""

    account: Account
    key: bytes
    message: NewMessage
    id: bytes = b""
    hold: bytes = b""
    again: bool = False
    copy: int = 0


@dataclass(slots=True)
class Appended:
    """Where messages were stored: ``uids`` in the order of the messages.

    ``recent``: first UID and the one after the last that are \\Recent for the caller, if it asked. ``repeated``: this
    is the answer of an earlier delivery with the same id. ``moved``: what was removed from their Origin."""

    key: bytes
    uidvalidity: int
    uids: list[int]
    modseq: int = 0
    recent: tuple[int, int] = (0, 0)
    repeated: bool = field(default=False, compare=False)
    moved: "Expunged | None" = None


@dataclass(slots=True)
class Stored:
    """Result of a flag change.

    ``before``: the mailbox's MODSEQ just before it. ``box`` and ``pages``: the mailbox row and the messages' index
    pages after the change, if the store has them at hand."""

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


@dataclass(frozen=True, slots=True)
class Origin:
    """Where messages are now that MOVE brings to another account: the ``uids`` of a mailbox, in ascending order."""

    account: Account
    key: bytes
    uids: Sequence[int]


@dataclass(slots=True)
class Copied:
    """Result of COPY or MOVE. UIDs in ``source`` and ``target`` correspond in order."""

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
    """Totals of an account.

    ``modseq``: the highest MODSEQ of its mailboxes, removed ones included; every change of a message or mailbox of the
    account has its own. ``kept``: octets that count in the quota besides the messages': long summaries and annotations.
    ``low``: changes up to this MODSEQ are no longer in the account log."""

    modseq: int
    octets: int
    messages: int
    mailboxes: int
    kept: int
    low: int


class Kind(IntEnum):
    """What happened to a message or mailbox."""

    CREATED = 1
    CHANGED = 2
    REMOVED = 3
    MAILBOX_CREATED = 4
    MAILBOX_CHANGED = 5
    MAILBOX_REMOVED = 6


@dataclass(frozen=True, slots=True)
class AccountChange:
    """One change in an account. A message appears and disappears in one mailbox (``key``, ``uid``); the same message,
    by its EMAILID (``email``: see message.identity), may be in others."""

    modseq: int
    kind: Kind
    key: bytes
    uid: int = 0
    email: bytes = b""


class Summaries(Protocol):
    """Summaries of messages by UID; a dict satisfies it."""

    def get(self, uid: int, /) -> Octets | None: ...
    def items(self) -> Iterable[tuple[int, Octets]]: ...


class Snapshot(Protocol):
    """One consistent state, for reading. Buffers that it returns are valid until it ends."""

    def mailbox(self, key: bytes) -> Mailbox | None: ...
    def modseq(self, key: bytes) -> int:
        """Return the MODSEQ of the mailbox's last change that may have been a removal; 0 if there is no such
        mailbox."""
        ...

    def recall(self, key: bytes, uids: UidSet) -> None:
        """Show these expunged messages as they were, as far as they are kept for views that still have them.

        ``pages`` and all methods below it show them, except ``expunged`` and ``presence``."""
        ...

    def boxes(self, account: int) -> Sequence[Mailbox]:
        """Return all mailboxes of an account."""
        ...

    def holding(self, account: int) -> Holding:
        """Return the totals of an account. They are exact, and one row to read."""
        ...

    def changes(self, account: int, since: int) -> list[AccountChange] | None:
        """Return the changes after MODSEQ ``since`` in order; None if the account log does not reach back so far.

        A message whose flags changed several times appears once, with its last change."""
        ...

    def places(self, account: int, email: bytes) -> list[tuple[bytes, int]] | None:
        """Return (mailbox key, UID) of every message with this EMAILID; None if only reading the messages can tell."""
        ...

    def members(self, account: int, thread: bytes) -> list[tuple[bytes, int]] | None:
        """Return the same for the messages with this THREADID."""
        ...

    def notes(self, key: bytes) -> dict[bytes, bytes]:
        """Return the annotations of a mailbox, or of the account (mailbox id 0), by name."""
        ...

    def note(self, key: bytes, name: bytes) -> bytes | None:
        """Return one annotation, None if there is none."""
        ...

    def pages(self, key: bytes, uids: UidSet | None = None) -> Iterator[Octets]:
        """Yield index pages in UID order; with ``uids`` only those that may have one of them."""
        ...

    def presence(self, key: bytes, above: int = 0) -> Iterator[tuple[int, int]]:
        """Yield (first UID, presence bits) of the pages that may have UIDs above ``above``."""
        ...

    def summaries(self, key: bytes, uids: UidSet) -> Summaries:
        """Return the summaries of those of ``uids`` that have one."""
        ...

    def search_field(self, key: bytes, uids: UidSet, name: bytes, needle: bytes) -> tuple[list[int], Unsure]:
        """Search a header field. Return (UIDs whose field ``name`` contains ``needle``; UIDs that must be decoded, with
        the values of the field, or None where the field is not cached). Name and needle are ASCII in lower case."""
        ...

    def search_addresses(self, key: bytes, uids: UidSet, which: int, needle: bytes) -> tuple[list[int], Unsure]:
        """Do the same for addresses of the ENVELOPE; ``which`` is the element, see _core/envelope.pyi."""
        ...

    def fields(self, key: bytes, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
        """Return {uid: the first raw value of each header field}, without messages whose fields are not cached."""
        ...

    def content(self, key: bytes, uid: int) -> Octets | None:
        """Return the message as stored if that needs no waiting, else None."""
        ...

    def expunged(self, key: bytes, since: int) -> UidSet:
        """Return the UIDs that commits after MODSEQ ``since`` removed."""
        ...

    def keywords(self, key: bytes) -> list[bytes]: ...
    def pop3(self, key: bytes) -> dict[int, tuple[int, bytes]]:
        """Return {uid: (position before all messages without one, or 0; UIDL, or empty)} of messages that another
        server had named for POP3 clients. Empty for nearly every mailbox."""
        ...


class Holds(Protocol):
    """Content that mailboxes and the queue share. A holder is the number of a message in the queue."""

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        """Store content, until ``let_go``, for ``holder``; durable when it returns. Returns the name of the hold.

        A mailbox of the account will get the content later, by ``Delivery.hold``; until then the queue reads it."""
        ...

    async def read(self, hold: bytes) -> bytes:
        """Return the content of a hold, with LF. CorruptData if it is damaged or missing."""
        ...

    async def let_go(self, holders: Sequence[int]) -> None:
        """Release what these holders hold; mailboxes that have the content keep it. Repeating it is harmless."""
        ...

    def holders(self) -> set[int]:
        """Return all holders."""
        ...


class Store(Protocol):
    """A mail store. Coroutines raise the errors of model.errors. ``read_only``: it changes nothing."""

    @property
    def read_only(self) -> bool: ...
    @property
    def views(self) -> Views:
        """The views of mailboxes that sessions announce."""
        ...

    @property
    def holds(self) -> Holds: ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def open(self, account: Account) -> None:
        """Make sure that the account's INBOX exists, and, for a new account, the usual mailboxes."""
        ...

    async def listing(self, account: Account) -> Listing: ...
    def find(self, account: Account, name: str) -> bytes | None: ...
    async def create(self, account: Account, name: str, special: int = 0) -> None: ...
    async def delete(self, account: Account, name: str) -> None: ...
    async def rename(self, account: Account, old: str, new: str) -> None: ...
    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        """Set annotations of a mailbox, or of the account (mailbox id 0), and remove those whose value is None; all
        or none.

        With ``expected``, only if the present values equal these (None: no such annotation); returns False
        otherwise."""
        ...

    async def subscribe(self, account: Account, name: str, on: bool) -> None: ...
    def snapshot(self, account: Account) -> AbstractContextManager[Snapshot]: ...
    async def sync(self, account: Account, key: bytes) -> None:
        """Apply to the index what other programs did to the mailbox's files. Cheap if nothing changed."""
        ...

    def is_up_to_date(self, account: Account, box: Mailbox) -> bool:
        """True if ``sync`` would find nothing to do, as far as can be told without waiting."""
        ...

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        """Return the message as stored, with LF or CRLF; None if it does not exist. An expunged message is returned as
        long as it is kept for views that still have it."""
        ...

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        """Prefetch contents that will be asked for soon: make the first of them readable by ``Snapshot.content``
        without waiting, as far as that pays."""
        ...

    async def append(
        self,
        account: Account,
        key: bytes,
        messages: Sequence[NewMessage],
        takes_recent: bool = False,
        origin: Origin | None = None,
    ) -> Appended:
        """Store messages, all or none; durable when it returns. ``takes_recent``: also do ``take_recent`` in the same
        commit.

        ``origin``: the messages are moved from there, so they are removed there, as by ``expunge``; no crash leaves one
        in both mailboxes, or in none. Those that were removed there meanwhile are not stored, and ``Appended.moved``
        has the UIDs of the others."""
        ...

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        """Store each message in its mailbox and return where, in order; durable when it returns.

        A message that was stored before with the same id is not stored again: the first answer is returned, for a day
        at least, in every process, whatever became of the message since. If it raises, some may have been stored all
        the same: ``given`` knows, and a repetition with the same ids is safe."""
        ...

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        """Return what ``deliver`` answered for these ids, in order; None for one that was not stored. Only durable
        answers."""
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
        """COPY or MOVE messages to another mailbox of the account. ``mine``: see ``expunge``."""
        ...

    async def expunge(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int = 1
    ) -> Expunged:
        """Remove those of ``uids`` (None: all) that have all ``required`` flags.

        If there are more views of the mailbox than the ``mine`` of the caller, the messages stay readable for GRACE
        seconds (``Snapshot.recall``, ``content``), unless there is no room."""
        ...

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        """Add previews (UTF-8), by UID, to messages whose summaries have none. No session is told."""
        ...

    async def take_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        """Return the first UID and the one after the last that are \\Recent for the caller, and from now on for no
        other session."""
        ...

    def watch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        """Call back, on the loop, after each commit to the mailbox or its annotations by any process, and when its
        files change.

        Mailbox id 0: when names, subscriptions or annotations of the account change. EVERYTHING: after each commit to
        anything of the account; changes by other programs to files are found when a session looks at the mailbox."""
        ...

    def unwatch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None: ...
