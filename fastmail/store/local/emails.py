"""Where a message is, by its EMAILID, and which messages are one conversation: tables ``place``, ``member`` and
``thread`` of layout.py.

A message that names a known one, in References or In-Reply-To, gets that one's THREADID: the nearest that is known
decides. Otherwise the first one that it names gives the thread its name. So every message is in one thread from its
commit on, for ever, and threads are never merged: one that arrives late and would join two is in one of them.

A known message is one that the account has. Its thread is found under the hash of its Message-ID: in ``thread`` where
the thread is called otherwise, with the number of places of such messages; else the thread is of that very name, and
``member`` says whether there is one. Messages of an earlier version are entered in the background (``fill``).
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from fastmail._core import idents
from fastmail.message.identity import NOBODY, TRAIL, Ident, fresh, ident, named
from fastmail.store.local import layout
from fastmail.store.local.layout import U32, Tables

THREAD = struct.Struct("<8sI")  # thread, places of messages with this Message-ID
KEY = 24
Item = tuple[int, Ident]  # UID, what names the message
Said = tuple[bytes, bytes, list[bytes]]  # what idents.named finds in a summary


def _wheres(key: bytes, items: Iterable[Item], thread: bool) -> list[tuple[bytes, bytes]]:
    account, box = key[:8], key[8:]
    return [(account + (one.thread if thread else one.mark) + box + U32.pack(uid), b"") for uid, one in items]


def add(txn: Any, t: Tables, key: bytes, items: Sequence[Item]) -> None:
    """Messages are in a mailbox now."""
    txn.cursor(db=t.place).putmulti(_wheres(key, items, False))
    txn.cursor(db=t.member).putmulti(_wheres(key, items, True))
    for _, one in items:
        if one.own not in (one.thread, NOBODY):
            at = key[:8] + one.own
            found = txn.get(at, db=t.thread)
            thread, count = THREAD.unpack(found) if found is not None else (one.thread, 0)
            txn.put(at, THREAD.pack(thread, count + 1), db=t.thread)


def drop(txn: Any, t: Tables, key: bytes, items: Sequence[Item]) -> None:
    """Messages are in a mailbox no more. Those that were not entered yet are passed over."""
    account, box = key[:8], key[8:]
    for uid, one in items:
        where = box + U32.pack(uid)
        if not txn.delete(account + one.mark + where, db=t.place):
            continue
        txn.delete(account + one.thread + where, db=t.member)
        if one.own not in (one.thread, NOBODY):
            at = account + one.own
            found = txn.get(at, db=t.thread)
            if found is not None:
                thread, count = THREAD.unpack(found)
                if count > 1:
                    txn.put(at, THREAD.pack(thread, count - 1), db=t.thread)
                else:
                    txn.delete(at, db=t.thread)


def _thread_of(txn: Any, t: Tables, account: bytes, own: bytes) -> bytes | None:
    """The thread of the messages whose Message-ID has this hash; None where there is none."""
    found = txn.get(account + own, db=t.thread)
    if found is not None:
        thread: bytes = THREAD.unpack(found)[0]
        return thread
    cursor = txn.cursor(db=t.member)
    return own if cursor.set_range(account + own) and cursor.key()[:16] == account + own else None


def unsure(txn: Any, t: Tables, account: bytes, said: Said) -> bool:
    """Does it matter for the thread of a new message that there are messages which the tables do not know yet? If it
    names one alone, that gives the thread its name, known or not; ``announce`` tells of those in other threads."""
    return len(said[2]) > 1 and _thread_of(txn, t, account, named(said[2][0])) is None


def announce(txn: Any, t: Tables, account: bytes, one: Ident) -> None:
    """A message with these names will be added soon, and those that name it may come before that."""
    if one.own not in (one.thread, NOBODY) and txn.get(account + one.own, db=t.thread) is None:
        txn.put(account + one.own, THREAD.pack(one.thread, 0), db=t.thread)


def finished(
    txn: Any, t: Tables, account: bytes, made: bytes, modseq: int, said: Said | None = None
) -> tuple[bytes, Ident]:
    """The summary of a new message as the index keeps it, and what names it; one that comes from another account keeps
    its EMAILID and THREADID. ``modseq``: of its creation; ``said``: what its header says, if that is known."""
    end = idents.rest_at(made)
    if end < len(made):
        one = ident(made)._replace(created=modseq)
    else:
        mark = fresh()
        thread, own = _decide(txn, t, account, said or idents.named(made))
        one = Ident(mark, modseq, thread or mark, own)
    return made[:end] + TRAIL.pack(*one), one


def _decide(txn: Any, t: Tables, account: bytes, said: Said) -> tuple[bytes, bytes]:
    """(thread of a new message, or empty where it has no identification; hash of its Message-ID)."""
    own, seed, names = said
    ours = named(own) if own else NOBODY
    for name in names:
        thread = _thread_of(txn, t, account, named(name))
        if thread is not None:
            return thread, ours
    if not seed:
        return b"", ours
    found = txn.get(account + ours, db=t.thread) if own else None  # the same message once more
    return THREAD.unpack(found)[0] if found is not None else named(seed), ours


def again(txn: Any, t: Tables, account: bytes) -> None:
    """Enter all messages of an account, and nothing else."""
    for table in (t.place, t.member, t.thread):
        layout.clear(txn, table, account)
    entered: dict[bytes, list[Item]] = {}
    for at, value in layout.rows(txn, t.msg, account):
        entered.setdefault(bytes(at[:12]), []).append((int.from_bytes(at[12:], "big"), ident(layout.summary_of(value))))
    for key, items in entered.items():
        add(txn, t, key, items)


def problems(txn: Any, t: Tables, account: bytes) -> list[str]:
    """What is wrong with the tables of an account all of whose messages were entered."""
    places, members, threads = set(), set(), 0
    for at, value in layout.rows(txn, t.msg, account):
        one = ident(layout.summary_of(value))
        places.add(account + one.mark + bytes(at[8:]))
        members.add(account + one.thread + bytes(at[8:]))
        threads += one.own not in (one.thread, NOBODY)
    out = []
    if places != {bytes(at) for at, _ in layout.rows(txn, t.place, account)}:
        out.append("EMAILIDs and the places of messages differ")
    if members != {bytes(at) for at, _ in layout.rows(txn, t.member, account)}:
        out.append("THREADIDs and the places of messages differ")
    if threads != sum(THREAD.unpack(bytes(value))[1] for _, value in layout.rows(txn, t.thread, account)):
        out.append("threads of Message-IDs are counted wrongly")
    return out


def fill(txn: Any, t: Tables, account: bytes, after: bytes, most: int) -> bytes:
    """Enter at most so many messages of an account that are not entered yet, from behind a key of ``msg`` on: the key
    to go on behind, empty at the end."""
    cursor = txn.cursor(db=t.msg)
    found: list[tuple[bytes, Ident]] = []
    last = b""
    if cursor.set_range(after + b"\0" if after else account):
        for at, value in cursor.iternext():
            if at[:8] != account:
                break
            if len(found) >= most:
                last = found[-1][0]
                break
            found.append((bytes(at), ident(layout.summary_of(value))))
    for at, one in found:
        if txn.get(at[:8] + one.mark + at[8:], db=t.place) is None:
            add(txn, t, at[:12], [(int.from_bytes(at[12:], "big"), one)])
    return last


def places(txn: Any, table: Any, account: bytes, name: bytes) -> list[tuple[bytes, int]]:
    """(mailbox key, UID) of the messages that a table names so."""
    cursor = txn.cursor(db=table)
    out = []
    prefix = account + name
    if cursor.set_range(prefix):
        for at in cursor.iternext(values=False):
            if at[:16] != prefix:
                break
            if len(at) == KEY:
                out.append((account + bytes(at[16:20]), int.from_bytes(at[20:], "big")))
    return out
