"""What the index of one shard holds: tables, keys and rows, version 3. Only the writer's transactions write them.

    page    mailbox key(12) first uid(4)     index page (_core/pages.pxd)
    page    mailbox key(12) 0xFFFFFFFF       Mailbox row (below), then the name in UTF-8: beside the last page, because
                                             a delivery writes both
    msg     mailbox key(12) uid(4)           u16 length, then b"n" or b"c" (new/ or cur/) and the file's name, or
                                             b"s" and a record (content.py), then the summary (_core/mime.pyx)
    new     number(8)                        arrivals (arrivals.py) in the order of their commits: mailbox key(12),
                                             record(40, as in a page), value for msg; settled into page and msg soon
    name    account(8) name                  mailbox id(4)
    subs    account(8) name                  empty; subscribed names, which need not exist. A name of more than 480
                                             octets is shortened in the key (name_key), and the value is the whole;
                                             an older reader shows it shortened
    pop     mailbox key(12) uid(4)           order(4), then the UIDL: how POP3 shows a message that was taken over
    note    mailbox key(12) name             an annotation's value; mailbox id 0 is the account
    kw      mailbox key(12)                  keyword names, NUL between them; position = bit
    gone    mailbox key(12) modseq(8)        expunged UIDs as u32 pairs first, last
    todo    mailbox key(12) uid(4)           empty; the file's name must still follow the flags
    trash   mailbox key(12) base name        mark and name of a file to be removed, or with the mark in upper case to
                                             be put aside (kept.py)
    kept    mailbox key(12) uid(4), and more what was expunged and can still be read: see kept.py
    ref, dead, moved, seg                    records in segments: see content.py
    held    holder(8) ...                    content that a message in the queue holds (holds.py)
    given   id(16) account(8) copy(1)        where a delivery with this id went (given.py); earlier readers ignore it
    meta    b"layout", b"next" account(8)    layout version; next mailbox id and last UIDVALIDITY of the account
    meta    b"kept" account(8)               of version 2: octets(8) of summaries and octets(8) of annotations that
                                             quotas count; moved into acct by the account's first write
    acct    account(8)                       what an account holds in all, and its MODSEQ      } see accounts.py
    alog    account(8) modseq(8) part(2)     what one operation changed in the account         }
    place   account(8) mark(8) mailbox(4) uid(4)     empty; where the message with this EMAILID is     }
    member  account(8) thread(8) mailbox(4) uid(4)   empty; which messages are of this THREADID        } see emails.py
    thread  account(8) hash of a Message-ID(8)       thread(8) count(4), where the thread is of another name  }

Version 3 added acct, alog, place, member, thread, kept, given, and recovered in rows. An index of version 2 is brought
over account by account: what has no row in acct is counted by its first write, and its messages get into place, member
and thread in the background.

Numbers in keys are big-endian, so that they sort; in rows little-endian. A reader of this version ignores octets
it does not know behind a row's fixed part up to the name's offset, which the row itself states.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastmail._core.leaves import Table
from fastmail.durable.segments import SegmentReader
from fastmail.model.errors import CorruptData
from fastmail.store.interface import Mailbox
from fastmail.store.local.index.arrivals import Arrivals
from fastmail.telemetry import log

LAYOUT = 3
TABLES = [
    "page",
    "msg",
    "new",
    "name",
    "subs",
    "pop",
    "note",
    "kw",
    "gone",
    "todo",
    "trash",
    "ref",
    "dead",
    "moved",
    "seg",
    "held",
    "kept",
    "given",
    "acct",
    "alog",
    "place",
    "member",
    "thread",
]

# version, offset of the name, special, uidvalidity, uidnext, exists, unseen, deleted, recent_from, modseq, octets,
# created (s since 1970), generation (grows when files of other programs are taken in), settled (arrivals up to this
# number are in the pages), changed (MODSEQ of the last flag change), recovered (Tables.recovered when UIDs and MODSEQs
# were last put above what can have been seen); the last three are not there in version 1, the last one not in version 2
ROW = struct.Struct("<BBHIIIIIIQQIIQQI")
ROW_V1 = ROW.size - 20
MODSEQ = struct.Struct("<28xQ")  # of a row
PAIR = struct.Struct("<II")  # first and last UID
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
U16 = struct.Struct("<H")
OF_A_MESSAGE = 16  # octets of a key that names a message
TOP = b"\xff\xff\xff\xff"
MAX_UID = 0xFFFFFFFE
MOST_OF_A_NAME = 480  # octets of a name in a key
# id of an account's next mailbox, highest UIDVALIDITY that it gave, Tables.recovered of that moment (not in version 2)
NEXT = struct.Struct("<III")
NEXT_V2 = NEXT.size - 4
GIVEN = struct.Struct(">IIIQ")


class Tables(NamedTuple):
    """Handles of the tables of one environment."""

    page: Any
    msg: Any
    new: Any
    name: Any
    subs: Any
    pop: Any
    note: Any
    kw: Any
    gone: Any
    todo: Any
    trash: Any
    ref: Any
    dead: Any
    moved: Any
    seg: Any
    held: Any
    kept: Any
    given: Any
    acct: Any
    alog: Any
    place: Any
    member: Any
    thread: Any
    meta: Any
    arrivals: Arrivals
    reader: SegmentReader
    segments: bool = False  # is new content kept in segments?
    shared: bool = False  # are UIDs given under Dovecot's locks, as its lists say?
    recovered: int = 0  # how often rows may have been seen that were lost (durable.recovery)
    whole: Callable[[Any, bytes], Table | None] | None = None  # Environment.table, for reading many rows


def unpack_next(row: bytes | memoryview | None) -> tuple[int, int, int]:
    """(id of the next mailbox, highest UIDVALIDITY, Tables.recovered) of an account."""
    if not row or len(row) not in (NEXT.size, NEXT_V2):
        return 1, 0, 0
    number, last, recovered = NEXT.unpack(bytes(row).ljust(NEXT.size, b"\0"))
    return number, last, recovered


def account_key(account: int) -> bytes:
    return U64.pack(account)


def mailbox_key(account: int, mailbox: int) -> bytes:
    return U64.pack(account) + U32.pack(mailbox)


def name_key(account: bytes, name: str) -> bytes:
    """Key of a mailbox's or subscription's name, below LMDB's limit of 511 octets: the name, or the beginning of a long
    one with a digest of the whole."""
    raw = name.encode("utf-8", "replace")
    if len(raw) > MOST_OF_A_NAME:
        head = raw[: MOST_OF_A_NAME - 40].decode("utf-8", "ignore").encode()
        raw = head + hashlib.blake2b(raw, digest_size=20).hexdigest().encode()
    return account + raw


def uid_key(key: bytes, uid: int) -> bytes:
    return key + U32.pack(uid)


def page_key(key: bytes, uid: int) -> bytes:
    return key + U32.pack(uid & ~31)


def row_key(key: bytes) -> bytes:
    return key + TOP


def pack_message(marked: bytes, summary: bytes) -> bytes:
    """Mark, file name and summary of a message as one value."""
    return U16.pack(len(marked)) + marked + summary


def marked_of(value: bytes | memoryview) -> bytes:
    """Mark and file name."""
    return bytes(value[2 : 2 + (value[0] | value[1] << 8)])


def summary_of(value: bytes | memoryview) -> bytes | memoryview:
    return value[2 + (value[0] | value[1] << 8) :]


def pack_row(box: Mailbox) -> bytes:
    return (
        ROW.pack(
            1,
            ROW.size,
            box.special,
            box.uidvalidity,
            box.uidnext,
            box.exists,
            box.unseen,
            box.deleted,
            box.recent_from,
            box.modseq,
            box.octets,
            box.created,
            box.generation,
            box.settled,
            box.changed,
            box.recovered,
        )
        + box.name.encode()
    )


def modseq_of(row: bytes | memoryview) -> int:
    """MODSEQ in a mailbox's row."""
    found: int = MODSEQ.unpack_from(row)[0]
    return found


def unpack_row(key: bytes, row: bytes | memoryview) -> Mailbox:
    if len(row) < ROW_V1 or row[0] != 1 or len(row) < row[1]:
        raise CorruptData(f"mailbox row {key.hex()} has an unknown layout")
    at = row[1]
    fixed = row if at >= ROW.size else bytes(row[:at]).ljust(ROW.size, b"\0")
    (
        _,
        _,
        special,
        validity,
        uidnext,
        exists,
        unseen,
        deleted,
        recent,
        modseq,
        octets,
        created,
        generation,
        settled,
        changed,
        recovered,
    ) = ROW.unpack_from(fixed)
    try:
        name = str(row[at:], "utf-8")
    except UnicodeDecodeError:
        raise CorruptData(f"the name in mailbox row {key.hex()} is damaged") from None
    return Mailbox(
        bytes(key),
        name,
        validity,
        uidnext,
        exists,
        unseen,
        deleted,
        recent,
        modseq,
        octets,
        special,
        created,
        generation,
        settled,
        changed,
        recovered,
    )


# ---------------------------------------------------------------- walks over tables


def rows(txn: Any, table: Any, prefix: bytes) -> Iterator[tuple[Any, Any]]:
    """(key, value) of a table whose keys begin with prefix."""
    cursor = txn.cursor(db=table)
    if cursor.set_range(prefix):
        for at, value in cursor.iternext():
            if at[: len(prefix)] != prefix:
                return
            yield at, value


def clear(txn: Any, table: Any, prefix: bytes) -> None:
    """Delete the rows of a table whose keys begin with prefix."""
    cursor = txn.cursor(db=table)
    if cursor.set_range(prefix):
        while cursor.key()[: len(prefix)] == prefix and cursor.delete():
            pass


def boxes(txn: Any, t: Tables, account: bytes) -> list[Mailbox]:
    """All mailboxes of the account with this key, by id, as their rows lie there."""
    out = []
    cursor = txn.cursor(db=t.page)
    at = account
    while cursor.set_range(at) and cursor.key()[:8] == account:
        key = bytes(cursor.key()[:12])
        if not cursor.set_key(row_key(key)):
            break
        try:
            out.append(unpack_row(key, cursor.value()))
        except CorruptData as error:  # the others are not harmed
            log.event("mailbox.damaged", "error", why=error, then="fastmail check --repair")
        at = row_key(key) + b"\0"
    return out
