"""What is done to the index of a shard that was saved from a damaged file, where rows may be missing or wrong.

First, while nobody has it open, ``shape``: rows that cannot be read go, every mailbox has its row and its name, and
numbers that are given out go on above those that are in use. Then, beside the server, ``mend``: mailboxes that do not
agree with their files are made anew from them, with the UIDs that are known, and records in segments that nothing
names any more are given to the mailboxes they were delivered to; what was expunged and is still there may come back.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail.durable import segments
from fastmail.durable.commit import Operation
from fastmail.durable.env import Environment
from fastmail.durable.salvage import MARK
from fastmail.durable.segments import SegmentReader
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local import content, convert, layout, ops, repair
from fastmail.store.local.arrivals import HEAD, Arrivals
from fastmail.store.local.layout import Tables
from fastmail.store.local.shard import Shard
from fastmail.store.local.store import LocalStore
from fastmail.telemetry import log

KEYS = {
    "page": (16, 16), "msg": (16, 16), "new": (8, 8), "name": (9, 511), "subs": (9, 511), "pop": (16, 16),
    "note": (13, 511), "kw": (12, 12), "gone": (20, 20), "todo": (16, 16), "trash": (13, 511), "ref": (8, 8),
    "dead": (8, 8), "moved": (8, 8), "seg": (8, 8), "held": (9, 511),
}  # fmt: skip
VALUES = {"name": 4, "todo": 0, "subs": 0, "ref": 8, "dead": 8, "moved": 8, "seg": 1}
OF_THE_ACCOUNT = bytes(4)  # instead of a mailbox's id, in note
OF_A_MAILBOX = ("page", "msg", "pop", "note", "kw", "gone", "todo", "trash")


def shape(path: str, map_size: int) -> None:
    """Make the rows of an index agree among themselves. Nobody may have it open."""
    env = Environment(path, layout.TABLES, layout.LAYOUT, map_size)
    try:
        tables = Tables(**env.db, arrivals=Arrivals(env.db["new"]), reader=SegmentReader(""))
        with env.write() as txn:
            _drop_unreadable(txn, env.db)
            boxes = _boxes(txn, tables)
            _count(txn, tables, boxes)
            _drop_strays(txn, env.db, boxes)
            _references(txn, tables)
    finally:
        env.close()


def _drop_where(txn: Any, table: Any, bad: Callable[[bytes, bytes], bool]) -> None:
    for key in [key for key, value in txn.cursor(db=table).iternext() if bad(key, value)]:
        txn.delete(key, db=table)


def _drop_unreadable(txn: Any, db: dict[str, Any]) -> None:
    for name, (least, most) in KEYS.items():
        size = VALUES.get(name)
        _drop_where(
            txn,
            db[name],
            lambda key, value, least=least, most=most, size=size: (  # type: ignore[misc]
                not least <= len(key) <= most or (size is not None and len(value) != size)
            ),
        )
    _drop_where(txn, db["page"], _bad_page)
    _drop_where(txn, db["msg"], lambda key, value: _bad_message(value))
    _drop_where(txn, db["new"], lambda key, value: len(value) < HEAD or _bad_message(value[HEAD:]))
    _drop_where(txn, db["gone"], lambda key, value: bool(len(value) % ops.PAIR.size))
    _drop_where(txn, db["name"], lambda key, value: not _is_text(key[8:]))
    _drop_where(txn, db["subs"], lambda key, value: not _is_text(key[8:]))
    _drop_where(txn, db["pop"], lambda key, value: len(value) < 4)
    _drop_where(txn, db["trash"], lambda key, value: value[:1] not in (b"n", b"c") or b"/" in value)
    _drop_where(txn, db["meta"], lambda key, value: key[:4] == b"next" and len(value) != layout.NEXT.size)


def _is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode())
    except UnicodeDecodeError:
        return False


def _bad_page(key: bytes, value: bytes) -> bool:
    try:
        if key[12:] == layout.TOP:
            return not layout.unpack_row(key[:12], value).name
        first = int.from_bytes(key[12:], "big")
        uids = [record[0] for record in pages.records(value)]
        return first % 32 != 0 or sorted(set(uids)) != uids or any(not first <= uid < first + 32 for uid in uids)
    except (MailError, ValueError):
        return True


def _bad_message(value: bytes) -> bool:
    size = int.from_bytes(value[:2], "little")
    mark = value[2 : 2 + size]
    if len(mark) != size or mark[:1] not in (b"n", b"c", b"s"):
        return True
    return len(mark) != content.MARK.size if mark[:1] == b"s" else size < 2 or b"/" in mark or b"\0" in mark


def _in_use(txn: Any, t: Tables) -> dict[bytes, int]:
    """{mailbox key: highest UID} of all mailboxes of which there is something."""
    out: dict[bytes, int] = {}
    for table in (t.page, t.msg):
        for key, _ in txn.cursor(db=table).iternext():
            uid = int.from_bytes(key[12:], "big")
            out[key[:12]] = max(out.get(key[:12], 0), uid if key[12:] != layout.TOP and table is t.msg else 0)
    for key, page in txn.cursor(db=t.page).iternext():
        if key[12:] != layout.TOP:
            out[key[:12]] = max(out[key[:12]], pages.span(page)[1])
    for _, value in txn.cursor(db=t.new).iternext():
        key, uid = value[:12], int.from_bytes(value[12:16], "little")
        out[key] = max(out.get(key, 0), uid)
    return out


def _boxes(txn: Any, t: Tables) -> dict[bytes, Mailbox]:
    """Every mailbox has a row and its name leads to it; what has neither is no mailbox."""
    boxes = {k[:12]: layout.unpack_row(k[:12], v) for k, v in txn.cursor(db=t.page).iternext() if k[12:] == layout.TOP}
    names = {bytes(key): key[:8] + bytes(value) for key, value in txn.cursor(db=t.name).iternext()}
    used = _in_use(txn, t)
    now = int(time.time())
    for at, key in names.items():
        name = at[8:].decode()
        box = boxes.get(key)
        if box is None and key in used:
            boxes[key] = Mailbox(key, name, now, uidnext=used[key] + 1, created=now, generation=1)
            _settle_again(txn, t, key)
        elif box is None or box.name != name:
            txn.delete(at, db=t.name)
    for key, box in list(boxes.items()):
        at = key[:8] + box.name.encode()[:480]
        other = txn.get(at, db=t.name)
        if other is None:
            txn.put(at, key[8:], db=t.name)
        elif key[8:] != other:
            del boxes[key]
            txn.delete(layout.row_key(key), db=t.page)
            continue
        if box.uidnext <= used[key] or box.uidnext > layout.MAX_UID:
            box.uidnext = used[key] + 1
    highest: dict[bytes, tuple[int, int]] = {}
    for key, box in boxes.items():
        number, validity = highest.get(key[:8], (0, 0))
        highest[key[:8]] = max(number, int.from_bytes(key[8:], "big")), max(validity, box.uidvalidity)
    for account, (number, validity) in highest.items():
        found = txn.get(b"next" + account, db=t.meta)
        next_, last = layout.NEXT.unpack(found) if found else (1, 0)
        txn.put(b"next" + account, layout.NEXT.pack(max(next_, number + 1), max(last, validity)), db=t.meta)
    return boxes


def _settle_again(txn: Any, t: Tables, key: bytes) -> None:
    """The row that said which arrivals are settled is lost: those are that have their place in ``msg``."""
    last = max((pages.span(page)[1] for _, page in ops.pages_of(txn, t, key, None)), default=0)

    def settled(value: bytes) -> bool:
        uid = int.from_bytes(value[12:16], "little")
        return value[:12] == key and (uid <= last or txn.get(layout.uid_key(key, uid), db=t.msg) is not None)

    _drop_where(txn, t.new, lambda _, value: settled(value))


def _count(txn: Any, t: Tables, boxes: dict[bytes, Mailbox]) -> None:
    """What the rows say of their mailboxes, counted again."""
    for key, box in boxes.items():
        box.exists = box.unseen = box.deleted = box.octets = 0
        for _, page in ops.pages_of(txn, t, key, None):
            for _, flags, modseq, _, _, size, _ in pages.records(page):
                box.exists += 1
                box.unseen += not flags & 1
                box.deleted += bool(flags & 8)
                box.octets += size
                box.modseq = max(box.modseq, modseq)
        ops.save(txn, t, box)


def _drop_strays(txn: Any, db: dict[str, Any], boxes: dict[bytes, Mailbox]) -> None:
    """Rows of what is no mailbox any more: their files are found again, and their records too."""
    for name in OF_A_MAILBOX:
        _drop_where(txn, db[name], lambda key, value: key[:12] not in boxes and key[8:12] != OF_THE_ACCOUNT)
    _drop_where(txn, db["new"], lambda key, value: value[:12] not in boxes)


def _marks(txn: Any, t: Tables) -> Iterator[bytes]:
    """What rows say of records in segments."""
    for _, value in txn.cursor(db=t.msg).iternext():
        if value[2:3] == b"s":
            yield value[2:]
    for _, value in txn.cursor(db=t.new).iternext():
        if value[HEAD + 2 : HEAD + 3] == b"s":
            yield value[HEAD + 2 :]
    for key, _ in txn.cursor(db=t.held).iternext():
        if key[8:9] == b"s":
            yield key[8:]


def _references(txn: Any, t: Tables) -> None:
    """Count the references to records in segments; one with a row is never taken for an orphan."""
    count = Counter(content.MARK.unpack_from(mark)[1] for mark in _marks(txn, t) if len(mark) >= content.MARK.size)
    _drop_where(txn, t.ref, lambda key, value: True)
    for ident, number in count.items():
        at = layout.U64.pack(ident)
        txn.put(at, content.COUNT.pack(number - 1), db=t.ref)
        where = content.locate(txn, t, ident)
        txn.delete(layout.U64.pack(where), db=t.dead)


# ---------------------------------------------------------------- beside the server


def salvaged(store: LocalStore) -> list[Shard]:
    """Shards that were saved and not mended yet."""
    return [shard for shard in store.shards() if shard.salvaged]


async def mend(store: LocalStore, accounts: Sequence[Account], told: Callable[[str], None]) -> None:
    """Compare the accounts of salvaged shards with what they have on disk, and make anew what differs. ``told`` hears
    what was done."""
    for shard in salvaged(store):
        mine = [account for account in accounts if store.shard(account.id) is shard]
        for account in mine:
            try:
                for one in [one for one in await repair.check(store, account) if one.problems]:
                    told(f"{one.account} {one.mailbox}: {one.detail}")
                    await repair.rebuild(store, account)
            except (MailError, OSError, ValueError) as error:
                log.event("store.mend", "error", account=account.address, error=repr(error))
        given = await find_again(store, shard, mine)
        if given:
            told(f"{given} messages were found in segments and given to their mailboxes")
        tables = shard.tables
        await shard.queue.submit(Operation(lambda txn, t=tables: txn.delete(MARK, db=t.meta)))  # type: ignore[misc]


async def find_again(store: LocalStore, shard: Shard, accounts: Sequence[Account]) -> int:
    """Give messages that nothing names any more to their mailboxes, from all segments: how many."""
    await shard.queue.submit(Operation(partial(_references, t=shard.tables)))  # what was made anew names less, or more
    await store.help(_find_moved, shard)
    return await convert.recover(store, accounts, every=True)


def _find_moved(shard: Shard) -> None:
    """Compacted records whose new place was forgotten."""
    found: list[tuple[int, int]] = []
    for number in segments.numbers(shard.directory):
        for record, start, _ in segments.scan(shard.directory, number):
            here = segments.make_id(number, start)
            if record is not None and record.id != here:
                found.append((record.id, here))
    with shard.env.write() as txn:
        t = shard.tables
        for ident, here in found:
            named = txn.get(layout.U64.pack(ident), db=t.ref) is not None
            if named and txn.get(layout.U64.pack(ident), db=t.moved) is None:
                txn.put(layout.U64.pack(ident), layout.U64.pack(here), db=t.moved)
