"""SORT and THREAD (RFC 5256), SORT=DISPLAY (RFC 5957), ESORT and CONTEXT=SORT (RFC 5267 3, 4), THREAD=REFS.

The messages are found as by SEARCH; what is compared comes from index pages and cached header fields, and from the
message itself only where its header is not cached.
"""

import asyncio
import hashlib
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastmail._core import pages
from fastmail._core.imap import ParseError, Reader
from fastmail._core.uidset import UidSet, in_order
from fastmail.imap import bounds, context
from fastmail.imap.authenticate import Work
from fastmail.imap.search import Job, Wanted, make_job, narrowed, quoted, read_return
from fastmail.imap.views import Selected
from fastmail.message import order

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

THREADING = (b"date", b"subject", b"message-id", b"references", b"in-reply-to")
ON_LOOP = 2000  # messages that are compared without a helper thread
Row = tuple[int, int, int, tuple[bytes | None, ...]]  # uid, internal date, size, fields
Value = bytes | None
Criterion = tuple[bytes, bool]  # name, reverse


def _mark(selected: Selected, *parts: bytes) -> bytes:
    """Of which messages an answer is, and to what."""
    whole = b"\0".join((selected.key, b"%d" % selected.uidvalidity, *parts))
    return hashlib.blake2b(whole, digest_size=24).digest()


def _sent(row: Row, value: Value) -> int:
    found = order.sent_date(value)
    return row[1] if found is None else found


# criterion: the field that it compares, and how
KEYS: dict[bytes, tuple[bytes, Callable[[Row, Value], Any]]] = {
    b"ARRIVAL": (b"", lambda row, _: row[1]),
    b"CC": (b"cc", lambda _, value: order.address(value, False)),
    b"DATE": (b"date", _sent),
    b"DISPLAYFROM": (b"from", lambda _, value: order.address(value, True)),
    b"DISPLAYTO": (b"to", lambda _, value: order.address(value, True)),
    b"FROM": (b"from", lambda _, value: order.address(value, False)),
    b"SIZE": (b"", lambda row, _: row[2]),
    b"SUBJECT": (b"subject", lambda _, value: order.base_subject(value)[0]),
    b"TO": (b"to", lambda _, value: order.address(value, False)),
}


def sort(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 5256 4."""
    reader.sp()
    wanted = read_return(reader)
    reader.open()
    criteria: list[Criterion] = []
    while True:
        at = reader.pos
        reverse = reader.skip(b"REVERSE ")
        name = reader.atom().upper()
        if name not in KEYS:
            raise ParseError(b", ".join(KEYS).decode() + ", with or without REVERSE", at)
        criteria.append((name, reverse))
        if len(criteria) > 50:
            raise ParseError("fewer sort criteria", at)
        if not reader.more():
            break
    reader.close()
    reader.sp()
    if wanted.update and context.in_use(session, tag):
        session.bad(tag, "another search that is kept up to date has this tag")
        return None
    return _begin(session, tag, reader, lambda job, tree: _sort(session, tag, job, tree, criteria, wanted, by_uid))


def thread(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 5256 4."""
    reader.sp()
    at = reader.pos
    name = reader.atom().upper()
    if name not in (b"ORDEREDSUBJECT", b"REFERENCES", b"REFS"):
        raise ParseError("ORDEREDSUBJECT, REFERENCES or REFS", at)
    reader.sp()
    return _begin(session, tag, reader, lambda job, tree: _thread(session, tag, job, tree, name, by_uid))


def _begin(session: "ImapSession", tag: bytes, reader: Reader, run: Callable[[Job, Any], Work]) -> Work:
    """Charset and search keys, then ``run``."""
    charset = reader.astring()
    reader.sp()
    _, tree = reader.search()
    reader.end()
    assert session.selected is not None
    job = make_job(session, tag, session.selected, charset, tree)
    return run(job, tree) if job is not None else None


async def _rows(session: "ImapSession", job: Job, found: UidSet, names: tuple[bytes, ...]) -> list[Row]:
    selected = session.selected
    assert selected is not None
    out: list[Row] = []
    missing: list[int] = []
    with session.service.store.snapshot(selected.account) as snapshot:
        fields = snapshot.fields(selected.key, found, names) if names else {}
        for page in snapshot.pages(selected.key, found):
            for record in pages.records(page):
                if record[0] not in found:
                    continue
                row = fields.get(record[0])
                if row is None and names:
                    missing.append(len(out))
                out.append((record[0], record[4], record[5], row or (None,) * len(names)))
    for position in missing:
        uid, date, size, _ = out[position]
        out[position] = (uid, date, size, await job.header_values(uid, names))
    return out


async def _compare(count: int, work: Callable[[], Any]) -> Any:
    """On the loop when it is short."""
    if count <= ON_LOOP:
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def _ordered(session: "ImapSession", job: Job, found: UidSet, criteria: list[Criterion]) -> list[int]:
    """UIDs in the order that the criteria ask for."""
    selected = session.selected
    assert selected is not None
    asked = b" ".join(b"-" + name if reverse else name for name, reverse in criteria)
    mark = _mark(selected, b"sort", asked, found.octets())
    known = session.service.answers.get(mark)
    if known is not None:
        return array("I", known).tolist()
    names = tuple(dict.fromkeys(field for name, _ in criteria if (field := KEYS[name][0])))
    rows = await _rows(session, job, found, names)

    def work() -> list[int]:
        for name, reverse in reversed(criteria):
            field, compared = KEYS[name]
            at = names.index(field) if field else -1
            rows.sort(key=lambda row: compared(row, row[3][at] if at >= 0 else None), reverse=reverse)
        return [row[0] for row in rows]

    uids: list[int] = await _compare(len(rows), work)
    session.service.answers.keep(mark, array("I", uids).tobytes())
    return uids


async def _sort(
    session: "ImapSession",
    tag: bytes,
    job: Job,
    tree: tuple[Any, ...],
    criteria: list[Criterion],
    wanted: Wanted,
    by_uid: bool,
) -> None:
    selected = session.selected
    assert selected is not None
    found = await job.evaluate(tree, job.within)
    uids = await _ordered(session, job, found, criteria)
    numbers = uids if by_uid else [selected.uids.seq(uid) for uid in uids]
    top = b" (MODSEQ %d)" % job.highest(found) if job.modseq and uids else b""
    if wanted.names is None:
        session.conn.write(b"* SORT" + b"".join(b" %d" % n for n in numbers) + top + b"\r\n")
    else:
        items = [b"* ESEARCH (TAG ", quoted(tag), b")", b" UID" if by_uid else b""]
        if b"MIN" in wanted.names and numbers:
            items.append(b" MIN %d" % numbers[0])
        if b"MAX" in wanted.names and numbers:
            items.append(b" MAX %d" % numbers[-1])
        if b"ALL" in wanted.names and numbers:
            items.append(b" ALL " + in_order(numbers))
        if b"COUNT" in wanted.names:
            items.append(b" COUNT %d" % len(numbers))
        if wanted.partial is not None:
            low, high = narrowed(wanted.partial, len(numbers))
            part = in_order(numbers[low - 1 : high]) or b"NIL"
            items.append(b" PARTIAL (%b %b)" % (wanted.label, part))
        if b"SAVE" in wanted.names:
            selected.saved = found
        if job.modseq and uids:
            items.append(b" MODSEQ %d" % job.highest(found))
        if not wanted.silent:
            session.conn.write(b"".join(items) + b"\r\n")
        if wanted.update:
            keys = context.frozen(selected, tree)

            async def again() -> list[int]:
                return await _ordered(session, job, await job.evaluate(keys, selected.uids), criteria)

            context.begin(session, tag, by_uid, True, uids, again)
    work_left = session.finish(tag, bounds.told(session, job.code, b"OK SORT completed"))
    if work_left is not None:
        await work_left


async def _thread(
    session: "ImapSession", tag: bytes, job: Job, tree: tuple[Any, ...], name: bytes, by_uid: bool
) -> None:
    selected = session.selected
    assert selected is not None
    found = await job.evaluate(tree, job.within)
    mark = _mark(selected, b"thread", name, found.octets(), b"" if by_uid else selected.uids.octets())
    text = session.service.answers.get(mark)
    if text is None:
        text = await _threaded(session, job, found, name, by_uid)
        session.service.answers.keep(mark, text)
    session.conn.write(b"* THREAD" + (b" " + text if text else b"") + b"\r\n")
    work_left = session.finish(tag, bounds.told(session, job.code, b"OK THREAD completed"))
    if work_left is not None:
        await work_left


async def _threaded(session: "ImapSession", job: Job, found: UidSet, name: bytes, by_uid: bool) -> bytes:
    """The threads, as they are told."""
    selected = session.selected
    assert selected is not None
    rows = await _rows(session, job, found, THREADING)

    def work() -> bytes:
        entries = []
        for uid, arrived, _, (date, subject, ident, refers, reply_to) in rows:
            sent = order.sent_date(date)
            base, reply = order.base_subject(subject)
            ids = order.message_ids(ident)
            above = order.message_ids(refers) or order.message_ids(reply_to)[:1]
            entries.append(
                order.Entry(uid, arrived if sent is None else sent, base, reply, ids[0] if ids else None, above)
            )
        if name == b"ORDEREDSUBJECT":
            roots = order.ordered_subject(entries)
        else:
            roots = order.references(entries, name == b"REFERENCES")
        number = {e.uid: e.uid if by_uid else selected.uids.seq(e.uid) for e in entries}
        return order.render(roots, number)

    text: bytes = await _compare(len(rows), work)
    return text
