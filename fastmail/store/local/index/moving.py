"""MOVE to another account, inside write transactions.

    meta    b"moving" mailbox key(12) target key(12) uid(4)    PAIRs: first and last UID

A row names messages of a mailbox whose copies are in the target, from that UID on, and which are still to be removed.
The commit that stores the copies writes it if the two accounts are in different environments, and it is dropped when
the messages are removed. Keys of mailboxes and UIDs are never used again, so doing what a row says twice does no harm.
A reader of an earlier version leaves the rows alone: such messages stay in both mailboxes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Reading, Txn
from fastmail.store.interface import Appended, Expunged, NewMessage
from fastmail.store.local.index import box_rows, layout, messages, references, removal, walk
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import MAILBOX, PAIR, trash_key
from fastmail.store.local.index.tables import Tables

MOVING = b"moving"


class Arrival(NamedTuple):
    """Messages for a mailbox whose content is placed: ``names`` are mark and name of each, ``source`` the mailbox where
    they are now, ``uids`` their UIDs there; ``saved``: the present time."""

    key: bytes
    messages: Sequence[NewMessage]
    names: Sequence[bytes]
    source: bytes
    uids: Sequence[int]
    saved: int


class Unfinished(NamedTuple):
    """Messages that are still to be removed; ``at``: key of the row that says so."""

    at: bytes
    source: bytes
    uids: UidSet


def move(txn: Txn, t: Tables, arrival: Arrival, due: int) -> Changed[Appended]:
    """Store the messages and remove them from their mailbox, which is in the same environment. ``due``: see
    ``removal.expunge``."""
    there = present(txn, t, arrival.source, arrival.uids)
    done = _arrive(txn, t, arrival, there)
    if not there:
        return Changed(done, ())
    removed = removal.expunge(txn, t, arrival.source, there, 0, due=due).result
    return Changed(replace(done, moved=removed), (arrival.key, arrival.source))


def arrive(txn: Txn, t: Tables, arrival: Arrival, look: Callable[[], UidSet]) -> Changed[Appended]:
    """Store the messages, and note that they are still to be removed from their mailbox, which is in another
    environment. ``look``: returns which of them it has now."""
    there = look()
    done = _arrive(txn, t, arrival, there)
    if not there:
        return Changed(done, ())
    pairs = b"".join([PAIR.pack(first, last) for first, last in there.ranges()])
    txn.put(row_key(arrival.source, done), pairs, db=t.meta)
    return Changed(replace(done, moved=Expunged(arrival.source, there, 0, 0)), (arrival.key,))


def row_key(source: bytes, copies: Appended) -> bytes:
    """Return the key of the row about messages of ``source`` that were stored as ``copies``."""
    return MOVING + source + layout.uid_key(copies.key, copies.uids[0])


def present(txn: Reading, t: Tables, key: bytes, uids: Sequence[int]) -> UidSet:
    """Return those of ``uids`` that the mailbox has."""
    wanted = UidSet.of(uids)
    every = (record[Field.UID] for _, page in box_rows.pages_of(txn, t, key, wanted) for record in pages.records(page))
    return UidSet.of(uid for uid in every if uid in wanted)


def _arrive(txn: Txn, t: Tables, arrival: Arrival, there: UidSet) -> Appended:
    """Store the messages that are ``there``. The others were removed meanwhile: the content that was placed for them is
    given up."""
    kept = [n for n, uid in enumerate(arrival.uids) if uid in there]
    for uid, name in zip(arrival.uids, arrival.names, strict=True):
        if uid in there:
            continue
        if references.in_segment(name):
            references.bury(txn, t, [references.place_of(name)])
        else:
            txn.put(trash_key(arrival.key, name), name, db=t.trash)
    if not there:
        box = box_rows.load(txn, t, arrival.key)
        return Appended(arrival.key, box.uidvalidity, [], box.modseq, moved=Expunged(arrival.source, there, 0, 0))
    new, names = [arrival.messages[n] for n in kept], [arrival.names[n] for n in kept]
    return messages.append(txn, t, arrival.key, new, names, arrival.saved).result


def unfinished(txn: Reading, t: Tables) -> Iterator[Unfinished]:
    """Yield what is still to be removed, as far as this environment knows."""
    for at, row in walk.rows(txn, t.meta, MOVING):
        source = bytes(at[len(MOVING) : len(MOVING) + MAILBOX])
        uids = UidSet.of_ranges([uid for pair in PAIR.iter_unpack(row) for uid in pair])
        yield Unfinished(bytes(at), source, uids)


def finished(txn: Txn, t: Tables, at: bytes) -> None:
    """Drop a row: the messages are removed."""
    txn.delete(at, db=t.meta)
