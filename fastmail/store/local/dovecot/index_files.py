"""Keywords for which file names have no letters. Dovecot keeps them only in its index files, ``dovecot.index`` (a
snapshot) and ``dovecot.index.log`` (later changes; ``.log.2`` is the log before). They are read when its Maildirs are
taken over, and written when an account returns to it.

Formats: index version 7, log version 1, as Dovecot 2.0 to 2.4 write them (its documentation: "Index files",
"Transaction log"). Reading: a file that is damaged, or of another byte order, version or UIDVALIDITY, counts as empty
from there on; nothing is changed. The work is bounded by MOST, whatever the files say. Writing: a log from which
Dovecot rebuilds its index; it updates that from the Maildir as usual.
"""

import os
import struct
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fastmail.durable import beneath
from fastmail.model.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

LARGEST = 64 << 20  # octets read of a file at most
MOST = 20_000_000  # changes of one keyword of one message that are followed at most
MAX_WORD = 255
MOST_WORDS = 1000  # keywords of a mailbox at most
LITTLE = sys.byteorder == "little"
HEADER = struct.Struct("=BBHIIB3xIIIII")  # to the number of messages
LOG_POSITION = struct.Struct("=60xIII")  # of the header: file_seq, tail and head of the log
KEYWORD_HEAD = struct.Struct("=BBH")  # how, 0, octets of the keyword
_APPENDED = struct.Struct("=IB3x")  # UID, flags
EXTENSION = struct.Struct("=IIHHHH")
LOG_HEADER = struct.Struct("=BBHIIIIIQB3xI")
CORRUPTED = 1
APPEND, HEADER_UPDATE, KEYWORD_UPDATE, KEYWORD_RESET = 2, 0x20, 0x400, 0x800
TYPES, EXTERNAL = 0x0FFFFFFF, 0x10000000
ADD, REMOVE = 0, 1
FLAG_BITS = {ANSWERED: 1, FLAGGED: 2, DELETED: 4, SEEN: 8, DRAFT: 16}
UIDVALIDITY_AT, NEXT_UID_AT = 24, 28


class _Keywords:
    """Collects which of ``uids`` (ascending) has which keyword."""

    def __init__(self, uids: Sequence[int], but: Iterable[bytes]) -> None:
        self.uids = uids
        self.but = {word.lower() for word in but}
        self.having: dict[bytes, set[int]] = {}
        self.left = MOST

    def change(self, word: bytes, first: int, last: int, add: bool) -> None:
        if word.lower() in self.but or not 0 < len(word) <= MAX_WORD:
            return
        some = self.uids[bisect_left(self.uids, first) : bisect_right(self.uids, last)]
        self._pay(len(some))
        if add:
            self.having.setdefault(word, set()).update(some)
        elif word in self.having:
            self.having[word].difference_update(some)

    def reset(self, first: int, last: int) -> None:
        some = self.uids[bisect_left(self.uids, first) : bisect_right(self.uids, last)]
        for having in self.having.values():
            self._pay(len(some))
            having.difference_update(some)

    def _pay(self, cost: int) -> None:
        self.left -= cost + 1
        if self.left < 0:
            raise ValueError("too much")


def read(directory: str, uidvalidity: int, uids: Sequence[int], but: Iterable[bytes]) -> dict[bytes, set[int]]:
    """Return {keyword: UIDs that have it}, for these UIDs (ascending) and without the keywords ``but``."""
    out = _Keywords(uids, but)
    index = _file(directory, "dovecot.index")
    logs = _logs(directory)
    try:
        ident, validity, seq, offset = _snapshot(index, out)
    except (ValueError, struct.error, IndexError):
        out.having.clear()
        ident, validity, seq, offset = 0, 0, 0, 0
    for number, data in logs:
        if number < seq or (ident and LOG_HEADER.unpack_from(data)[3] != ident):
            continue
        start = offset if number == seq else LOG_HEADER.unpack_from(data)[2]
        try:
            for kind, body in _records(data, start):
                validity = _apply(kind, body, out) or validity
        except (ValueError, struct.error, IndexError):
            break
    return {word: having for word, having in out.having.items() if having} if validity == uidvalidity else {}


def numbers(directory: str) -> tuple[int, int]:
    """Return (UIDVALIDITY, UIDNEXT) from index and log, 0 for what they do not have. UIDNEXT is above every message in
    them."""
    index = _file(directory, "dovecot.index")
    validity = following = ident = seq = 0
    if len(index) >= 120:
        major, _, _, _, _, compatible, ident, state, validity, following, _ = HEADER.unpack_from(index)
        if major != 7 or bool(compatible & 1) != LITTLE or state & CORRUPTED:
            validity = following = ident = 0
        else:
            seq = LOG_POSITION.unpack_from(index)[0]
    for number, data in _logs(directory):
        _, _, start, its_ident, *_ = LOG_HEADER.unpack_from(data)
        if number < seq or (ident and its_ident != ident):
            continue
        for kind, body in _records(data, start):
            if kind == APPEND:
                last = max((uid for uid, _ in _APPENDED.iter_unpack(body[: len(body) - len(body) % 8])), default=0)
                following = max(following, last + 1 if last < 0xFFFFFFFF else 0)
            elif kind == HEADER_UPDATE:
                now = _header_field(body, UIDVALIDITY_AT)
                if now and now != validity:
                    validity, following = now, 0
                following = max(following, _header_field(body, NEXT_UID_AT))
    return validity, following


def _logs(directory: str) -> list[tuple[int, bytes]]:
    """Return (number, octets) of the sound logs, in order."""
    return sorted(
        (LOG_HEADER.unpack_from(data)[4], data)
        for data in (_file(directory, "dovecot.index.log.2"), _file(directory, "dovecot.index.log"))
        if _sound_log(data)
    )


def _file(directory: str, name: str) -> bytes:
    try:
        return beneath.read(os.path.join(directory, name), LARGEST)
    except OSError:
        return b""


def _snapshot(data: bytes, out: _Keywords) -> tuple[int, int, int, int]:
    """Read dovecot.index; return its id, UIDVALIDITY, and the log and offset up to which it goes. ValueError if it is
    damaged."""
    if len(data) < 120:
        raise ValueError("no index")
    major, _, base, size, width, compatible, ident, state, validity, _, count = HEADER.unpack_from(data)
    if major != 7 or bool(compatible & 1) != LITTLE or state & CORRUPTED or not 120 <= base <= size <= len(data):
        raise ValueError("damaged, or of another kind")
    seq, _, offset = LOG_POSITION.unpack_from(data)
    at = base
    while at + EXTENSION.size <= size:
        length, _, place, octets, _, named = EXTENSION.unpack_from(data, at)
        at += EXTENSION.size
        name = data[at : at + named]
        at = -(-(at + named) // 8) * 8
        if name == b"keywords":
            _take_records(data[size:], width, count, place, octets, _names(data[at : at + length]), out)
        at = -(-(at + length) // 8) * 8
    return ident, validity, seq, offset


def _names(header: bytes) -> list[bytes]:
    """Return the keywords for which the bits of a record stand."""
    (count,) = struct.unpack_from("=I", header)
    start = 4 + 8 * count
    if start > len(header):
        raise ValueError("too many keywords")
    if count > MOST_WORDS:
        raise ValueError("too many keywords")
    places = [struct.unpack_from("=I", header, 8 + 8 * n)[0] for n in range(count)]
    return [header[start + place : start + place + MAX_WORD + 1].partition(b"\0")[0] for place in places]


def _take_records(
    rows: bytes, width: int, count: int, place: int, octets: int, names: Sequence[bytes], out: _Keywords
) -> None:
    if width < place + octets or width < 5:
        raise ValueError("records too short")
    for at in range(0, min(count * width, len(rows) - width + 1), width):
        bits = int.from_bytes(rows[at + place : at + place + octets], "little")
        if bits:
            (uid,) = struct.unpack_from("=I", rows, at)
            for number, name in enumerate(names):
                if bits >> number & 1:
                    out.change(name, uid, uid, True)


def _sound_log(data: bytes) -> bool:
    if len(data) < LOG_HEADER.size:
        return False
    major, _, size, _, _, _, _, _, _, flags, _ = LOG_HEADER.unpack_from(data)
    return bool(major == 1 and size >= 24 and (size < 36 or bool(flags & 1) == LITTLE))


def _records(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, body) of each record, up to the first that is incomplete."""
    while at + 8 <= len(data):
        size = 0
        for octet in data[at : at + 4]:
            if not octet & 0x80:
                return
            size = size << 7 | octet & 0x7F
        size <<= 2
        if size < 8 or at + size > len(data):
            return
        (kind,) = struct.unpack_from("=I", data, at + 4)
        yield kind & TYPES, data[at + 8 : at + size]
        at += size


def _apply(kind: int, body: bytes, out: _Keywords) -> int:
    """Apply a record; return UIDVALIDITY if it has one, else 0."""
    if kind == KEYWORD_UPDATE:
        how, _, length = KEYWORD_HEAD.unpack_from(body)
        end = KEYWORD_HEAD.size + length
        word, start = body[KEYWORD_HEAD.size : end], -(-end // 4) * 4  # ranges begin at a multiple of 4
        for first, last in struct.iter_unpack("=II", body[start:]):
            out.change(word, first, last, how != REMOVE)
    elif kind == KEYWORD_RESET:
        for first, last in struct.iter_unpack("=II", body):
            out.reset(first, last)
    elif kind == HEADER_UPDATE:
        return _header_field(body, UIDVALIDITY_AT)
    return 0


def _header_field(body: bytes, field: int) -> int:
    """Return a number of the index's header that a HEADER_UPDATE record sets, 0 if it does not."""
    at, value = 0, 0
    while at + 4 <= len(body):
        place, length = struct.unpack_from("=HH", body, at)
        if place <= field and place + length >= field + 4 and at + 8 + field - place <= len(body):
            (value,) = struct.unpack_from("=I", body, at + 4 + field - place)
        at += 4 + -(-length // 4) * 4
    return value


# -------------------------------------------------------------------- writing


def flag_bits(flags: int) -> int:
    """Return Dovecot's bits for system flags (model.flags)."""
    return sum(bit for ours, bit in FLAG_BITS.items() if flags & ours)


def log(
    uidvalidity: int, uidnext: int, messages: Sequence[tuple[int, int]], having: Mapping[bytes, Sequence[int]]
) -> bytes:
    """Return a ``dovecot.index.log`` from which Dovecot builds an index with these ``messages`` (UID, its flag bits)
    and keywords."""
    ident = max(int(time.time()), 1)
    parts = [
        LOG_HEADER.pack(1, 3, LOG_HEADER.size, ident, 2, 0, 0, ident, 1, int(LITTLE), 0),
        _record(HEADER_UPDATE, struct.pack("=HHI", UIDVALIDITY_AT, 4, uidvalidity)),
    ]
    for start in range(0, len(messages), 1000):
        some = messages[start : start + 1000]
        parts.append(_record(APPEND, b"".join(struct.pack("=IB3x", uid, flags) for uid, flags in some)))
    for word, uids in having.items():
        if not uids:
            continue  # Dovecot rejects a log with a record without UIDs
        head = struct.pack("=BBH", ADD, 0, len(word)) + word
        body = b"".join(struct.pack("=II", first, last) for first, last in _ranges(uids))
        parts.append(_record(KEYWORD_UPDATE, head + bytes(-len(head) % 4) + body))
    parts.append(_record(HEADER_UPDATE, struct.pack("=HHI", NEXT_UID_AT, 4, uidnext)))
    return b"".join(parts)


def _ranges(uids: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for uid in uids:
        if uid != last + 1 or not first:
            if first:
                yield first, last
            first = uid
        last = uid
    if first:
        yield first, last


def _record(kind: int, body: bytes) -> bytes:
    size = (len(body) + 8) >> 2
    octets = bytes(0x80 | size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return octets + struct.pack("=I", kind | EXTERNAL) + body
