"""What a session sees of its selected mailbox, and how that changes (RFC 3501 5.2, 5.5, 7.4.1; RFC 2180; RFC 7162;
RFC 9586).

A view is frozen: sequence numbers are positions in ``uids``, whatever others do to the mailbox. It moves only in
``changes``, which compares it with one snapshot of the index. EXPUNGE is withheld where the command forbids it; a
withheld message stays in the view until its EXPUNGE may be sent, and can be read (``Selected.recall``). An unchanged
mailbox costs one row to read.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastmail._core import fetch, pages
from fastmail._core.fetch import Item
from fastmail._core.octets import Out
from fastmail._core.pages import Field, Head
from fastmail._core.uidset import UidSet
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoPermission
from fastmail.model.flags import MAX_KEYWORDS, SEEN
from fastmail.store.interface import Account, Mailbox, Snapshot

EMPTY = UidSet()
LASTING = (  # permanent flags, each with the right that changes it (RFC 4314 2.1)
    ("w", rb"\Answered"),
    ("w", rb"\Flagged"),
    ("t", rb"\Deleted"),
    ("s", rb"\Seen"),
    ("w", rb"\Draft"),
)


@dataclass(slots=True)
class Context:
    """One search whose results the client is kept up to date on (RFC 5267 4). ``results``: UIDs, in the requested
    order; ``again``: searches again."""

    tag: bytes
    by_uid: bool
    ordered: bool
    results: list[int]
    again: Callable[[], Awaitable[list[int]]]


@dataclass(slots=True)
class OpenSection:
    """A large section of which a client fetches one part after the other (RFC 3501 6.4.5). It is decoded once, and
    stays in memory until the last part or another command. ``of``: UID and section."""

    of: tuple[Any, ...]
    octets: bytes


@dataclass(slots=True)
class Selected:
    """The selected mailbox. ``modseq``: flag changes were sent up to this; ``gone_modseq``: removals were sent up to
    this.

    ``account``: its owner; ``name``: as the client knows it."""

    account: Account
    key: bytes
    name: str
    uidvalidity: int
    readonly: bool
    uids: UidSet
    uidnext: int
    modseq: int
    gone_modseq: int
    recent: UidSet = field(default_factory=UidSet)
    keywords: list[bytes] = field(default_factory=list)
    saved: UidSet = field(default_factory=UidSet)  # the result of the last SEARCH with SAVE (RFC 5182)
    rights: str = rights.ALL
    removed: tuple[int, UidSet] = (0, EMPTY)  # MODSEQ, and what others removed from the view up to it
    contexts: list[Context] = field(default_factory=list)
    contexts_modseq: int = 0  # the mailbox's MODSEQ when contexts were last brought up to date
    open_section: OpenSection | None = None

    def recall(self, snapshot: Snapshot, box: Mailbox | None = None) -> None:
        """Have the snapshot show messages that others removed and that this client does not know of yet. ``box``: its
        row in the snapshot, if the caller has read it."""
        modseq = box.modseq if box is not None else snapshot.modseq(self.key)
        if modseq <= self.gone_modseq:
            return
        if self.removed[0] != modseq:
            self.removed = modseq, self.uids.both(snapshot.expunged(self.key, self.gone_modseq))
        if self.removed[1]:
            snapshot.recall(self.key, self.removed[1])

    def resolve(self, ranges: tuple[int, ...] | None, by_uid: bool) -> UidSet | None:
        """Return the UIDs that a sequence set names; None for a sequence number that the client does not have."""
        if ranges is None:
            return self.uids.both(self.saved)
        if by_uid:
            return self.uids.both(UidSet.of_ranges(ranges, self.uids.last))
        top = len(self.uids)
        numbers = UidSet.of_ranges(ranges, top)
        if numbers and numbers.last > top:
            return None
        if not top and ranges:
            return None
        return self.uids.at(numbers)


def writable(selected: Selected, needs: str = "", some: str = "") -> None:
    """Raise CannotDo if the mailbox was opened with EXAMINE, NoPermission without all of ``needs`` and one of
    ``some``."""
    held = selected.rights
    if held != rights.ALL and not (set(needs) <= set(held) and (not some or set(some) & set(held))):
        raise NoPermission("this account has no right to do that here")
    if selected.readonly:
        raise CannotDo("mailbox is open for reading only")


def note_own(selected: Selected, changed: UidSet, before: int, modseq: int) -> tuple[UidSet, int] | None:
    """Count a change of this session as sent: ``changed`` has MODSEQ ``modseq``, the mailbox had ``before``.

    If somebody else changed the mailbox too, returns what must be left out when that change is sent."""
    if not changed:
        return None
    if selected.modseq == before and selected.gone_modseq == before:
        selected.modseq = selected.gone_modseq = modseq
        return None
    return changed, modseq


def is_quiet(selected: Selected, box: Mailbox | None) -> bool:
    """True if there is nothing to send."""
    return (
        box is not None
        and box.modseq == selected.modseq
        and box.modseq == selected.gone_modseq
        and box.uidnext == selected.uidnext
    )


def changes(
    selected: Selected,
    snapshot: Snapshot,
    box: Mailbox,
    expunges: bool,
    items: int,
    own: tuple[UidSet, int] | None = None,
    vanished: bool = False,
    recent: bool = True,
) -> bytes:
    """Move the view to the snapshot and return the untagged responses that say so. ``items``: what a FETCH response has
    besides FLAGS; ``vanished``: for a client that enabled QRESYNC or UIDONLY; ``recent``: for a client of IMAP4rev1.

    ``own``: UIDs that this session changed itself, and the MODSEQ of that change; they are sent only if somebody else
    changed them afterwards."""
    key = selected.key
    out = Out(256)
    before = selected.uids
    if box.modseq != selected.gone_modseq and expunges:
        gone = before.both(snapshot.expunged(key, selected.gone_modseq))
        if gone:
            if vanished:
                out.write(b"* VANISHED " + gone.octets() + b"\r\n")
            else:
                lines = []
                for low, high in reversed(before.seqs(gone).ranges()):
                    lines += [b"* %d EXPUNGE\r\n" % n for n in range(high, low - 1, -1)]
                out.write(b"".join(lines))
            selected.uids = before.minus(gone)
            selected.recent = selected.recent.minus(gone)
        selected.gone_modseq = box.modseq
    if box.modseq != selected.modseq:
        _tell_flags(out, selected, snapshot, box, Item.FLAGS | items, own)
        selected.modseq = box.modseq
    if box.uidnext != selected.uidnext:
        grown = selected.uids.plus_pages(snapshot.presence(key, selected.uidnext - 1), selected.uidnext - 1)
        selected.uidnext = box.uidnext
        if len(grown) != len(selected.uids):
            selected.uids = grown
            out.write(b"* %d EXISTS\r\n" % len(grown))
            if recent:
                out.write(b"* %d RECENT\r\n" % len(selected.recent.both(grown)))
    return out.take()


def _tell_flags(
    out: Out, selected: Selected, snapshot: Snapshot, box: Mailbox, items: int, own: tuple[UidSet, int] | None
) -> None:
    out.write(new_keywords(selected, snapshot))
    if box.changed <= selected.modseq:
        return
    for page in snapshot.pages(selected.key):
        changed = pages.changed_since(page, selected.uids, selected.modseq)
        if not changed:
            continue
        uids = UidSet.of(changed)
        if own is not None:
            later = UidSet.of(pages.changed_since(page, selected.uids, own[1]))
            uids = uids.minus(own[0]).plus(later)
        fetch.page(out, page, selected.uids, uids, items, selected.keywords, selected.recent, None, [], False)


def new_keywords(selected: Selected, snapshot: Snapshot) -> bytes:
    """Return ``* FLAGS`` and PERMANENTFLAGS if the mailbox has keywords that were not sent to the client yet, otherwise
    nothing.

    It has to come before any FETCH with FLAGS of this snapshot: a client may store a message with its new MODSEQ but
    without its new keyword for ever (RFC 7162 3.1)."""
    words = snapshot.keywords(selected.key)
    if words == selected.keywords:
        return b""
    selected.keywords = words
    return flags_lines(selected)


def flags_lines(selected: Selected) -> bytes:
    """Return ``* FLAGS`` with the keywords of the mailbox, and PERMANENTFLAGS with the flags that this client may
    change. A flag that is in the first list and not in the second cannot be set permanently (RFC 3501 7.1), so no FLAGS
    comes alone."""
    names = b" ".join([rb"\Answered \Flagged \Deleted \Seen \Draft", *selected.keywords])
    permanent, why = (b"", b"nothing is kept") if selected.readonly else (_permanent(selected), b"kept flags")
    return b"* FLAGS (%b)\r\n* OK [PERMANENTFLAGS (%b)] %b\r\n" % (names, permanent, why)


def _permanent(selected: Selected) -> bytes:
    """Return the flags that this client may change."""
    names = [name for right, name in LASTING if right in selected.rights]
    if "w" in selected.rights:
        names += selected.keywords
        if len(selected.keywords) < MAX_KEYWORDS:
            names.append(rb"\*")
    return b" ".join(names)


class ViewCache:
    """The views of a worker by mailbox, shared by its sessions: a second SELECT does not read the pages again.

    UIDVALIDITY, UIDNEXT and the number of messages identify a view. UIDs are never used twice, so with the same UIDNEXT
    the same number means the same messages, and later ones can be added and counted."""

    def __init__(self, most: int = 20000) -> None:
        self._views: dict[bytes, tuple[int, int, UidSet, int, int]] = {}
        self._most = most

    def get(self, snapshot: Snapshot, box: Mailbox) -> tuple[UidSet, int]:
        """Return (all UIDs of the mailbox, first unseen UID or 0) as of the snapshot."""
        known = self._views.pop(box.key, None)
        uids: UidSet | None = None
        unseen, modseq = 0, 0
        if known is not None and known[0] == box.uidvalidity:
            _, uidnext, uids, unseen, modseq = known
            if uidnext != box.uidnext:
                uids = uids.plus_pages(snapshot.presence(box.key, uidnext - 1), uidnext - 1)
        if uids is None or len(uids) != box.exists:
            uids = EMPTY.plus_pages(snapshot.presence(box.key), 0)
        if modseq != box.modseq:
            unseen = first_unseen(snapshot, box) if box.unseen else 0
        self._views[box.key] = (box.uidvalidity, box.uidnext, uids, unseen, box.modseq)
        if len(self._views) > self._most:
            del self._views[next(iter(self._views))]
        return uids, unseen


class Answers:
    """Remembers how messages were last sorted and threaded, and what was read for that. It stays true, because what is
    compared of a message never changes; a webmail asks for the same order with each click. ``most``: octets that are
    kept."""

    def __init__(self, most: int = 32 << 20) -> None:
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._most = most
        self._size = 0

    def get(self, mark: bytes) -> Any:
        """Return what is remembered under this name, None if nothing is."""
        found = self._kept.get(mark)
        if found is None:
            return None
        self._kept.move_to_end(mark)
        return found[0]

    def take(self, mark: bytes) -> Any:
        """Return the same and forget it: the caller may change it."""
        found, size = self._kept.pop(mark, (None, 0))
        self._size -= size
        return found

    def keep(self, mark: bytes, value: Any, octets: int | None = None) -> None:
        """Remember a value. ``octets``: the memory that it takes, unless it is octets itself."""
        octets = len(value) if octets is None else octets
        self.take(mark)
        self._kept[mark] = value, octets
        self._size += octets
        while self._size > self._most:
            self._size -= self._kept.popitem(last=False)[1][1]


def first_unseen(snapshot: Snapshot, box: Mailbox) -> int:
    """Return the UID of the first message without \\Seen, 0 if there is none."""
    for page in snapshot.pages(box.key):
        if pages.head(page)[Head.UNSEEN]:
            for record in pages.records(page):
                if not record[Field.FLAGS] & SEEN:
                    return record[Field.UID]
    return 0
