"""Finds messages by EMAILID and by THREADID: the tables ``place``, ``member`` and ``thread`` of layout.py.

A message that refers to a known one, in References or In-Reply-To, gets that one's THREADID; the nearest known one
decides. Otherwise the first message that it refers to gives the thread its name. So every message is in one thread from
its commit on, for ever. Threads are never merged: a late message that would join two is in one of them.

A known message is one that the account has. Its thread is found by the hash of its Message-ID: in ``thread`` if the
thread has another name (with the number of such messages); else the thread has that very name, and ``member`` tells
whether it exists. Messages of an earlier version are entered in the background (``fill``).
"""

import struct
from typing import Any

from fastmail._core import idents
from fastmail.durable.transaction import Reading, Txn
from fastmail.durable.writing import delete_all
from fastmail.message import summary
from fastmail.message.identity import ID_OCTETS, NOBODY, TRAIL, fresh, ident, named
from fastmail.store.interface import Octets
from fastmail.store.local.index import layout, walk
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, MESSAGE, uid_of
from fastmail.store.local.index.tables import Tables

THREAD = struct.Struct("<8sI")  # thread, number of messages with this Message-ID
NAMED = ACCOUNT + ID_OCTETS  # octets of a key of place or member before the mailbox: account and id
KEY = NAMED + MESSAGE - ACCOUNT
# What is entered for messages that came, and for those that were removed: see _core/idents.pyi
Rows = list[tuple[bytes, bytes]]
Others = list[tuple[int, bytes, bytes]]
Created = tuple[bytes, Rows, Rows, Others]
Removed = tuple[bytes, list[bytes], list[bytes], Others]
Item = tuple[int, Octets, int]  # UID, summary as stored, MODSEQ
Said = tuple[bytes, bytes, list[bytes]]  # result of idents.named: own Message-ID, thread's first, those referred to


def add(txn: Txn, t: Tables, created: Created) -> bytes:
    """Enter messages that came into a mailbox; return the items for the account log."""
    log, places, members, others = created
    # not sorted: ids are random, so few rows of one commit are neighbours
    txn.cursor(db=t.place).putmulti(places)
    txn.cursor(db=t.member).putmulti(members)
    for _, at, called in others:
        count_in(txn, t, at, called)
    return log


def count_in(txn: Txn, t: Tables, at: bytes, called: bytes) -> None:
    """Count a message whose Message-ID has the row ``at`` and whose thread is ``called``, by another name."""
    found = txn.get(at, db=t.thread)
    thread, count = THREAD.unpack(found) if found is not None else (called, 0)
    txn.put(at, THREAD.pack(thread, count + 1), db=t.thread)


def drop(txn: Txn, t: Tables, removed: Removed) -> bytes:
    """Remove messages of a mailbox; return the items for the account log. Messages that were not entered yet are
    skipped."""
    log, places, members, others = removed
    missing = set(delete_all(txn, places, db=t.place))
    entered = [at for number, at in enumerate(members) if number not in missing] if missing else members
    delete_all(txn, entered, db=t.member)
    for number, at, _ in others:
        found = txn.get(at, db=t.thread) if number not in missing else None
        if found is not None:
            thread, count = THREAD.unpack(found)
            if count > 1:
                txn.put(at, THREAD.pack(thread, count - 1), db=t.thread)
            else:
                txn.delete(at, db=t.thread)
    return log


def _thread_of(txn: Reading, t: Tables, account: bytes, own: bytes) -> bytes | None:
    """Return the thread of the messages whose Message-ID has this hash, None if there is none."""
    found = txn.get(account + own, db=t.thread)
    if found is not None:
        thread: bytes = THREAD.unpack(found)[0]
        return thread
    cursor = txn.cursor(db=t.member)
    return own if cursor.set_range(account + own) and cursor.key()[:NAMED] == account + own else None


def finished(txn: Reading, t: Tables, account: bytes, made: bytes, modseq: int) -> bytes:
    """Return the summary of a new message as the index keeps it, with its ids. ``modseq``: of its creation."""
    email, thread, own = names_of(txn, t, account, made)
    return made[: idents.rest_at(made)] + TRAIL.pack(email, modseq, thread, own)


def names_of(txn: Reading, t: Tables, account: bytes, made: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (EMAILID, THREADID, hash of the Message-ID) of a new message with this summary. A message from another
    account keeps all three."""
    if idents.rest_at(made) < len(made):
        before = ident(made)
        return before.email, before.thread, before.own
    email = fresh()
    thread, own = _decide(txn, t, account, idents.named(made))
    return email, thread or email, own


def _decide(txn: Reading, t: Tables, account: bytes, said: Said) -> tuple[bytes, bytes]:
    """Return (thread of a new message, empty if nothing identifies one; hash of its Message-ID)."""
    own, seed, names = said
    ours = named(own) if own else NOBODY
    for name in names:
        thread = _thread_of(txn, t, account, named(name))
        if thread is not None:
            return thread, ours
    if not seed:
        return b"", ours
    found = txn.get(account + ours, db=t.thread) if own else None  # a second copy of a known message
    if found is not None:
        return THREAD.unpack(found)[0], ours
    return ours if seed == own else named(seed), ours


def only_names(stored: Octets) -> bytes:
    """Return a short summary with only what the tables and the log need from this one, which may be long."""
    rest = summary.rest(stored)
    return bytes(summary.FIXED) + (rest if len(rest) == TRAIL.size else TRAIL.pack(*ident(stored)))


def again(txn: Txn, t: Tables, account: bytes) -> None:
    """Enter all messages of an account afresh."""
    for table in (t.place, t.member, t.thread):
        walk.clear(txn, table, account)
    entered: dict[bytes, list[Item]] = {}
    for at, value in walk.rows(txn, t.msg, account):
        item = uid_of(at), only_names(layout.summary_of(value)), 0
        entered.setdefault(bytes(at[:MAILBOX]), []).append(item)
    for key, items in entered.items():
        add(txn, t, idents.entered(key, items, True, ident))


def problems(txn: Reading, t: Tables, account: bytes) -> list[str]:
    """Return what is wrong with the tables of an account whose messages were all entered, one line for each fault."""
    places, members, threads = set(), set(), 0
    for at, value in walk.rows(txn, t.msg, account):
        one = ident(layout.summary_of(value))
        places.add(account + one.email + bytes(at[ACCOUNT:]))
        members.add(account + one.thread + bytes(at[ACCOUNT:]))
        threads += one.own not in (one.thread, NOBODY)
    out = []
    if places != {bytes(at) for at, _ in walk.rows(txn, t.place, account)}:
        out.append("EMAILIDs and the places of messages differ")
    if members != {bytes(at) for at, _ in walk.rows(txn, t.member, account)}:
        out.append("THREADIDs and the places of messages differ")
    if threads != sum(THREAD.unpack(bytes(value))[1] for _, value in walk.rows(txn, t.thread, account)):
        out.append("threads of Message-IDs are counted wrongly")
    return out


def fill(txn: Txn, t: Tables, account: bytes, after: bytes, most: int) -> bytes:
    """Enter at most ``most`` messages of an account that are not entered yet, after the key ``after`` of ``msg``.

    Returns the key to continue after; empty at the end."""
    cursor = txn.cursor(db=t.msg)
    found: list[tuple[bytes, Item]] = []
    last = b""
    if cursor.set_range(after + b"\0" if after else account):
        for at, value in cursor.iternext():
            if at[:ACCOUNT] != account:
                break
            if len(found) >= most:
                last = found[-1][0]
                break
            found.append((bytes(at), (uid_of(at), only_names(layout.summary_of(value)), 0)))
    for at, item in found:
        if txn.get(at[:ACCOUNT] + ident(item[1]).email + at[ACCOUNT:], db=t.place) is None:
            add(txn, t, idents.entered(at[:MAILBOX], [item], True, ident))
    return last


def places(txn: Reading, table: Any, account: bytes, name: bytes) -> list[tuple[bytes, int]]:
    """Return (mailbox key, UID) of the messages that a table lists under an id."""
    cursor = txn.cursor(db=table)
    out = []
    prefix = account + name
    if cursor.set_range(prefix):
        for at in cursor.iternext(values=False):
            if at[:NAMED] != prefix:
                break
            if len(at) == KEY:
                where = account + bytes(at[NAMED:])
                out.append((where[:MAILBOX], uid_of(where)))
    return out
