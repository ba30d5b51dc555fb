"""Brings a mailbox's files in line with the index, after the commits: files are renamed to show their flags, moved from
new/ to cur/, and removed after EXPUNGE, or put aside while a session may still ask for them (kept.py).

The work is recorded in two tables of the index (``todo`` and ``trash``), in the commit that caused it, so a crash loses
none. A worker does the work it caused within a second; at start the first worker does what was left. Order: rename,
sync the directories, then delete the rows; or unlink, sync, then delete the rows. Until then the index is right and the
names are late. If another program has renamed a file meanwhile, it is found by its base name.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail.durable import beneath, files
from fastmail.durable.env import Read
from fastmail.durable.transaction import Txn
from fastmail.store.local.index import box_rows, kept, layout
from fastmail.store.local.index.layout import CUR, MAILBOX, NEW, base_of, uid_of
from fastmail.store.local.index.references import in_segment
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir import aside
from fastmail.store.local.maildir.looking import LOOKS, listing
from fastmail.store.local.maildir.names import FileName, path_of

BATCH = 2000  # files in one round


@dataclass(slots=True)
class Done:
    """What was done on disk; its rows may be deleted."""

    key: bytes
    named: list[tuple[int, bytes, int]] = field(default_factory=list)  # UID, mark and name, MODSEQ of its flags
    unlinked: list[bytes] = field(default_factory=list)  # keys in the trash table
    aside: list[bytes] = field(default_factory=list)  # keys in the trash table of files that were put aside
    more: bool = False
    touched: set[bytes] = field(default_factory=set)  # names of files that were renamed or removed, old and new


def pending(read: Read, t: Tables) -> set[bytes]:
    """Return the mailboxes with work left, of the whole environment."""
    out: set[bytes] = set()
    with read() as txn:
        for table in (t.todo, t.trash):
            cursor = txn.cursor(db=table)
            found = cursor.first()
            while found:
                key = bytes(cursor.key()[:MAILBOX])
                out.add(key)
                found = cursor.set_range(key + b"\xff" * 500)
    return out


def tidy(read: Read, t: Tables, key: bytes, directory: str) -> Done:
    """Do the disk's part for one mailbox, on a helper thread."""
    done = Done(key)
    renames: list[tuple[int, bytes, bytes, int]] = []
    unlinks: list[tuple[bytes, bytes]] = []
    with read() as txn:
        cursor = txn.cursor(db=t.todo)
        records: dict[int, Any] = {}
        if cursor.set_range(key):
            for at in cursor.iternext(values=False):
                if at[:MAILBOX] != key:
                    break
                if len(renames) >= BATCH:
                    done.more = True
                    break
                uid = uid_of(at)
                if uid not in records:
                    page = txn.get(layout.page_key(key, uid), db=t.page)
                    records.update({r[Field.UID]: r for r in pages.records(page)} if page is not None else {})
                value = txn.get(at, db=t.msg)
                record = records.get(uid)
                if value is None or record is None:
                    done.named.append((uid, b"", 0))
                    continue
                old = layout.marked_of(value)
                if in_segment(old):
                    done.named.append((uid, old, record[Field.MODSEQ]))
                    continue
                new = CUR + FileName.parse(old[1:]).with_flags(record[Field.FLAGS], record[Field.KEYWORDS])
                renames.append((uid, old, new, record[Field.MODSEQ]))
        cursor = txn.cursor(db=t.trash)
        if cursor.set_range(key):
            for at, name in cursor.iternext():
                if at[:MAILBOX] != key or len(unlinks) >= BATCH:
                    done.more = done.more or at[:MAILBOX] == key
                    break
                unlinks.append((bytes(at), bytes(name)))
    if renames:
        _rename(directory, renames, done)
    if unlinks:
        _unlink(directory, _put_aside(directory, unlinks, done), done)
    return done


def _rename(directory: str, renames: Sequence[tuple[int, bytes, bytes, int]], done: Done) -> None:
    moves = [(uid, old, new, modseq) for uid, old, new, modseq in renames if old != new]
    done.named += [(uid, new, modseq) for uid, old, new, modseq in renames if old == new]
    done.touched.update(name[1:] for _, old, new, _ in moves for name in (old, new))
    codes = files.rename_batch([(path_of(directory, old), path_of(directory, new)) for _, old, new, _ in moves])
    current: dict[bytes, bytes] | None = None
    named: list[tuple[int, bytes, int]] = []
    looks = 1
    for (uid, old, new, modseq), code in zip(moves, codes, strict=True):
        if code and not beneath.exists(path_of(directory, new)):
            if current is None:
                current = by_base(directory)
            found = current.get(base_of(old[1:]))
            while found is None and looks < LOOKS:  # looks are counted for the whole batch, which bounds the work
                looks += 1
                current = by_base(directory)
                found = current.get(base_of(old[1:]))
            if found is None:
                done.named.append((uid, old, modseq))  # the file is gone: the next comparison expunges the message
                continue
            done.touched.add(found[1:])
            code = files.rename_batch([(path_of(directory, found), path_of(directory, new))])[0]
            if code:
                done.more = done.more or code == errno.ENOENT  # another program has renamed it again
                continue
        named.append((uid, new, modseq))
    if moves:
        root = os.fsencode(directory)
        if not any(files.sync_dirs([root + b"/cur", root + b"/new"])):
            done.named += named  # only after the sync: a loss of power could bring back old names, and so old flags


def _put_aside(directory: str, every: Sequence[tuple[bytes, bytes]], done: Done) -> list[tuple[bytes, bytes]]:
    """Put files aside; return those that are left to be removed: also those that could not be put aside, since removing
    must always work."""
    left = [(at, name) for at, name in every if not kept.is_aside(name)]
    wanted = [(at, kept.plain(name)) for at, name in every if kept.is_aside(name)]
    if not wanted:
        return left
    done.touched.update(name[1:] for _, name in wanted)
    pairs = [(path_of(directory, name), aside.aside_path(directory, name)) for _, name in wanted]
    moved: list[bytes] = []
    current: dict[bytes, bytes] | None = None
    for (at, name), (_, place), code in zip(wanted, pairs, files.rename_batch(pairs), strict=True):
        if code == errno.ENOENT and not beneath.exists(place):  # another program has renamed the file
            current = by_base(directory) if current is None else current
            found = current.get(base_of(name[1:]))
            if found is not None:
                done.touched.add(found[1:])
                code = files.rename_batch([(path_of(directory, found), place)])[0]
        elif code == errno.ENOENT:
            code = 0  # done already: a crash came before the row was deleted
        if code:
            left.append((at, name))
        else:
            moved.append(at)
    root = os.fsencode(directory)
    if not any(files.sync_dirs([root + b"/tmp", root + b"/cur", root + b"/new"])):
        done.aside += moved
    return left


def _unlink(directory: str, unlinks: Sequence[tuple[bytes, bytes]], done: Done) -> None:
    if not unlinks:
        return
    codes = files.unlink_batch([path_of(directory, name) for _, name in unlinks])
    done.touched.update(name[1:] for _, name in unlinks)
    gone = [at for (at, _), code in zip(unlinks, codes, strict=True) if not code]
    missed = [one for one, code in zip(unlinks, codes, strict=True) if code]
    # they may have been put aside just now
    files.unlink_batch([aside.aside_path(directory, name) for _, name in missed])
    seen: set[bytes] = set()  # rows of files that were renamed while we tried to remove them
    for _ in range(LOOKS):
        if not missed:
            break
        current = by_base(directory)
        unseen = []
        for at, name in missed:
            found = current.get(base_of(name[1:]))
            code = files.unlink_batch([path_of(directory, found)])[0] if found is not None else 0
            if found is None or code == errno.ENOENT:
                unseen.append((at, name))
                if code:
                    seen.add(at)
            elif not code:
                gone.append(at)
        missed = unseen
    later = [at for at, _ in missed if at in seen]
    gone += [at for at, _ in missed if at not in seen]
    done.more = done.more or bool(later)  # another round tries them again
    root = os.fsencode(directory)
    if not any(files.sync_dirs([root + b"/cur", root + b"/new"])):
        done.unlinked += gone  # only after the sync: a loss of power could bring back a file without a row


def by_base(directory: str) -> dict[bytes, bytes]:
    """Return the present files by base name.

    A file that another program renames while the directory is read may be missed, so one look never proves that a file
    is gone."""
    return {base_of(n): m + n for m, sub in ((NEW, "new"), (CUR, "cur")) for n in listing(directory, sub)}


def read_by_base(directory: str, marked: bytes) -> bytes | None:
    """Return the content of a message's file, whatever its present name; None if there is none."""
    for _ in range(LOOKS):
        found = by_base(directory).get(base_of(marked[1:]))
        if found is None:
            continue
        try:
            return files.read_file(path_of(directory, found))
        except FileNotFoundError:
            continue  # renamed again
    return None


def read_kept(directory: str, marked: bytes) -> bytes | None:
    """Return the content of an expunged message, whose file may have its name still or be put aside. FileNotFoundError
    if there is none."""
    places = (path_of(directory, marked), aside.aside_path(directory, marked))
    for place in (*places, *places):  # twice: it may be put aside or renamed between two looks
        with suppress(FileNotFoundError):
            return files.read_file(place)
    found = read_by_base(directory, marked)
    return found if found is not None else files.read_file(places[1])


async def clear_all(submit: Callable[[Callable[[Txn, Tables], int]], Awaitable[int]], done: Done) -> None:
    """Delete the rows of what was done, in as many commits as long summaries need. ``submit``: runs a function in a
    write transaction and returns its result."""
    at, more = 0, True
    while more:
        at = await submit(partial(clear, done=done, first=at))
        more = at < len(done.named)


def clear(txn: Txn, t: Tables, done: Done, first: int = 0) -> int:
    """Delete the rows of what was done, from index ``first`` of ``named`` on, in a write transaction.

    A flag that was changed meanwhile keeps its row. Returns the index of what is left: WRITTEN octets of rows are
    enough for one transaction."""
    modseqs: dict[int, int] = {}  # by UID, of the page read last
    written = 0
    for place in range(first, len(done.named)):
        if written > box_rows.WRITTEN:
            return place
        uid, marked, modseq = done.named[place]
        at = layout.uid_key(done.key, uid)
        value = txn.get(at, db=t.msg) if marked else None
        if value is not None and layout.marked_of(value) != marked:
            txn.put(at, layout.pack_message(marked, bytes(layout.summary_of(value))), db=t.msg)
            written += len(value)
        if uid not in modseqs:
            page = txn.get(layout.page_key(done.key, uid), db=t.page)
            modseqs = {r[Field.UID]: r[Field.MODSEQ] for r in pages.records(page)} if page is not None else {}
        if not marked or modseqs.get(uid, modseq) == modseq:
            txn.delete(at, db=t.todo)
    for at in done.unlinked:
        txn.delete(at, db=t.trash)
    for at in done.aside:
        name = txn.get(at, db=t.trash)
        if name is not None and kept.is_aside(name):  # otherwise it has become due meanwhile and must be removed
            txn.delete(at, db=t.trash)
    return len(done.named)
