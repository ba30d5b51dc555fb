"""What the index of one shard holds: tables, keys and rows, version 4. Only the writer's transactions write them.

Every part of a key or row that is read anywhere has its name here, or in the file that the table below names.

    page    mailbox key(12) first uid(4)     index page (_core/pages.pxd)
    page    mailbox key(12) 0xFFFFFFFF       Mailbox row (below), then the name in UTF-8: beside the last page, because
                                             a delivery writes both
    msg     mailbox key(12) uid(4)           u16 length, then b"n" or b"c" (new/ or cur/) and the file's name, or
                                             b"s" and a record (references.py), then the summary (_core/summary.pxd)
    name    account(8) name                  mailbox id(4)
    subs    account(8) name                  empty; subscribed names, which need not exist. A name of more than 480
                                             octets is shortened in the key (name_key), and the value is the whole;
                                             an older reader shows it shortened
    pop     mailbox key(12) uid(4)           order(4), then the UIDL: how POP3 shows a message that was taken over
    note    mailbox key(12) name             an annotation's value; mailbox id 0 is the account
    kw      mailbox key(12)                  keyword names, NUL between them; position = bit
    gone    mailbox key(12) modseq(8)        expunged UIDs as u32 pairs first, last
    todo    mailbox key(12) uid(4)           empty; the file must still be renamed to show its flags
    trash   mailbox key(12) base name        mark and name of a file to be removed, or with the mark in upper case to
                                             be put aside (kept.py)
    kept    mailbox key(12) uid(4), and more what was expunged and can still be read: see kept.py
    ref, dead, moved, seg                    records in segments: see references.py
    held    holder(8) ...                    content that a message in the queue holds (held.py)
    given   id(16) account(8) copy(1)        where a delivery with this id went (given.py); earlier readers ignore it
    meta    b"layout", b"next" account(8)    layout version; next mailbox id and last UIDVALIDITY of the account
    meta    b"kept" account(8)               of version 2: octets(8) of summaries and octets(8) of annotations that
                                             quotas count; moved into acct by the account's first write
    acct    account(8)                       what an account holds in all, and its MODSEQ      } see account_log.py
    alog    account(8) modseq(8) part(2)     what one operation changed in the account         }
    place   account(8) email(8) mailbox(4) uid(4)    empty; where the message with this EMAILID is     }
    member  account(8) thread(8) mailbox(4) uid(4)   empty; which messages are of this THREADID        } object_ids.py
    thread  account(8) hash of a Message-ID(8)       thread(8) count(4), where the thread is of another name  }

Version 3 added acct, alog, place, member, thread, kept, given, and recovered in rows. An index of version 2 is brought
over account by account: what has no row in acct is counted by its first write, and its messages get into place, member
and thread in the background.

Version 4 has no table ``new``. In it earlier versions had messages that were not in their mailboxes' pages yet; they
are put there before anything else is done (former_arrivals.py). An earlier version would count numbers of that table
from the beginning, below what the rows of mailboxes say, and show none of the messages that it puts there: so it must
not open an index of this version.

Numbers in keys are big-endian, so that they sort; in rows little-endian. A reader of this version ignores octets
it does not know behind a row's fixed part up to the name's offset, which the row itself states.
"""

import hashlib
import struct
from operator import attrgetter, itemgetter

from fastmail._core import pages
from fastmail.model.errors import CorruptData

# part of nearly every key here
from fastmail.model.keys import ACCOUNT as ACCOUNT
from fastmail.model.keys import MAILBOX as MAILBOX
from fastmail.model.keys import MESSAGE as MESSAGE
from fastmail.model.keys import OF_ACCOUNT as OF_ACCOUNT
from fastmail.model.keys import account_key as account_key
from fastmail.model.keys import account_of as account_of
from fastmail.model.keys import mailbox_key as mailbox_key
from fastmail.model.keys import mailbox_of as mailbox_of
from fastmail.model.keys import uid_key as uid_key
from fastmail.model.keys import uid_of as uid_of
from fastmail.store.interface import Mailbox

LAYOUT = 4
TABLES = [
    "page",
    "msg",
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
# created (s since 1970), generation (grows when files of other programs are taken in), 0 (before version 4: up to which
# number its rows of ``new`` are in the pages), changed (MODSEQ of the last flag change), recovered (Tables.recovered
# when UIDs and MODSEQs were last put above what can have been seen); the last three are not there in version 1, the
# last one not in version 2
ROW = struct.Struct("<BBHIIIIIIQQIIQQI")
ROW_V1 = ROW.size - 20  # octets of the fixed part in version 1
ROW_HEAD = struct.Struct("<BB")  # how a row begins in each version: version, offset of the name
ROW_VERSION = 1  # a reader refuses any other
MODSEQ = struct.Struct("<28xQ")  # of a row
PAIR = struct.Struct("<II")  # first and last UID
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
U16 = struct.Struct("<H")
TOP = b"\xff\xff\xff\xff"  # after a mailbox key: the key of its row
NEW, CUR, SEGMENT, HELD = b"n", b"c", b"s", b"h"  # marks: where the content is (names.path_of, references.py, held.py)
SPAN = 32  # UIDs of a page (_core/pages.pxd)
RECORD = len(pages.pack(0, 0, 0, 0, 0, 0, 0))  # octets of a message's record in a page
RECORD_UID = struct.Struct("<I")  # how a record begins
TAIL = struct.Struct("<IIQ")  # the same and more: UID, flags, MODSEQ
FLAGGED = struct.Struct("<II8xQ16x")  # of a whole record: UID, flags, keywords
HOLDER = 8  # octets of a key of held that say who holds something
DELIVERED = b"d"  # after the holder, in a row of held that says where a message was delivered
MARK_AT = U16.size  # offset of the mark in a value of msg, after the length of mark and name
MAX_UID = 0xFFFFFFFE
MOST_OF_A_NAME = 480  # octets of a name in a key
MOST_OF_A_KEY = 511  # octets that LMDB allows
COUNTER = b"next"  # in meta, before an account's key: NEXT
# id of an account's next mailbox, highest UIDVALIDITY that it gave, Tables.recovered of that moment (not in version 2)
NEXT = struct.Struct("<III")
NEXT_V2 = NEXT.size - 4
GIVEN = struct.Struct(">IIIQ")
ORDER = struct.Struct("<I")  # in pop, before the UIDL


class MailboxRow(Mailbox):
    """A mailbox as its row has it.

    ``generation`` grows when files of other programs are taken in; 0: nobody has looked for any yet. ``recovered``:
    value of Tables.recovered when UIDs and MODSEQs were last raised above all that can have been seen."""

    generation: int = 0
    recovered: int = 0


# The fields of a mailbox's row in the order in which it stores them. A whole row is taken apart or put together in one
# call: every command that looks at a mailbox does that.
# fmt: off
ROW_FIELDS = (
    "version", "size", "special", "uidvalidity", "uidnext", "exists", "unseen", "deleted", "recent_from", "modseq",
    "octets", "created", "generation", "unused", "changed", "recovered",
)
# fmt: on
_row_head = attrgetter(*ROW_FIELDS[ROW_FIELDS.index("special") : ROW_FIELDS.index("unused")])
_box_fields = itemgetter(*map(ROW_FIELDS.index, MailboxRow.__struct_fields__[2:]))  # after key and name


def unpack_next(row: bytes | memoryview | None) -> tuple[int, int, int]:
    """Return (id of the next mailbox, highest UIDVALIDITY, Tables.recovered) of an account."""
    if not row or len(row) not in (NEXT.size, NEXT_V2):
        return 1, 0, 0
    number, last, recovered = NEXT.unpack(bytes(row).ljust(NEXT.size, b"\0"))
    return number, last, recovered


def name_key(account: bytes, name: str) -> bytes:
    """Return the key of a mailbox's or subscription's name. LMDB allows 511 octets, so of a long name the key has the
    beginning and a digest of the whole."""
    raw = name.encode("utf-8", "replace")
    if len(raw) > MOST_OF_A_NAME:
        head = raw[: MOST_OF_A_NAME - 40].decode("utf-8", "ignore").encode()
        raw = head + hashlib.blake2b(raw, digest_size=20).hexdigest().encode()
    return account + raw


def counter_key(account: bytes) -> bytes:
    """Return the key in meta of the account's next mailbox id and UIDVALIDITY."""
    return COUNTER + account


def base_of(name: bytes | memoryview) -> bytes:
    """Return a file's name without its flags, which is the part that no program changes."""
    return bytes(name).partition(b":")[0]


def trash_key(key: bytes, marked: bytes) -> bytes:
    """Return the key in trash of a file of the mailbox."""
    return key + base_of(marked[1:])[:MOST_OF_A_NAME]


def page_of(uid: int) -> int:
    """Return the first UID of the page that has this UID."""
    return uid - uid % SPAN


def page_key(key: bytes, uid: int) -> bytes:
    return uid_key(key, page_of(uid))


def row_key(key: bytes) -> bytes:
    return key + TOP


def pack_message(marked: bytes, summary: bytes) -> bytes:
    """Return mark, file name and summary of a message as one value."""
    return U16.pack(len(marked)) + marked + summary


def pack_pop3(order: int, uidl: bytes) -> bytes:
    """A row of pop."""
    return ORDER.pack(order) + uidl


def unpack_pop3(row: bytes | memoryview) -> tuple[int, bytes]:
    """(order, UIDL) of a row of pop."""
    order: int = ORDER.unpack_from(row)[0]
    return order, bytes(row[ORDER.size :])


def marked_of(value: bytes | memoryview) -> bytes:
    """Return mark and file name of a value of msg."""
    return bytes(value[MARK_AT : MARK_AT + U16.unpack_from(value)[0]])


def mark_of(value: bytes | memoryview) -> bytes:
    """Return only the mark of a value of msg."""
    return bytes(value[MARK_AT : MARK_AT + 1])


def summary_of(value: bytes | memoryview) -> bytes | memoryview:
    return value[MARK_AT + U16.unpack_from(value)[0] :]


def record_uid(record: bytes | memoryview) -> int:
    """Return the UID with which a record of a page begins; a row of kept begins with a record."""
    uid: int = RECORD_UID.unpack_from(record)[0]
    return uid


def pack_row(box: MailboxRow) -> bytes:
    return ROW.pack(ROW_VERSION, ROW.size, *_row_head(box), 0, box.changed, box.recovered) + box.name.encode()


def modseq_of(row: bytes | memoryview) -> int:
    """Return the MODSEQ in a mailbox's row."""
    found: int = MODSEQ.unpack_from(row)[0]
    return found


def unpack_row(key: bytes, row: bytes | memoryview) -> MailboxRow:
    version, at = ROW_HEAD.unpack_from(row) if len(row) >= ROW_V1 else (0, 0)
    if version != ROW_VERSION or len(row) < at:
        raise CorruptData(f"mailbox row {key.hex()} has an unknown layout")
    fixed = row if at >= ROW.size else bytes(row[:at]).ljust(ROW.size, b"\0")
    try:
        name = str(row[at:], "utf-8")
    except UnicodeDecodeError:
        raise CorruptData(f"the name in mailbox row {key.hex()} is damaged") from None
    return MailboxRow(bytes(key), name, *_box_fields(ROW.unpack_from(fixed)))
