"""The journal's files by themselves: what is written is read, and what was not committed or is of an earlier round is not."""

import errno
import os
import random
import struct
from pathlib import Path

import pytest

from fastmail._core import entries
from fastmail._core.entries import AGAIN
from fastmail.durable import journal
from fastmail.durable.journal import FULL, RECORD, START, Journal, Position, Record
from fastmail.model.errors import CorruptData

LEAST = 16384


def record(*rows: tuple[bytes, bytes], content: bytes | None = None) -> Record:
    made = Record()
    for key, value in rows:
        made.add(journal.PUT, 0, key, value)
    if content is not None:
        made.add_content(journal.MADE, b"mail/new/1", journal.I64.pack(7), [content[:100], content[100:]])
    return made


def of(octets: int) -> Record:
    """A record with a body of so many octets."""
    return record((b"k", b"x" * (octets - struct.calcsize("<BBHI") - 1)))


def begin(directory: Path, sequence: int = 1) -> Position:
    return journal.beginning(str(directory), sequence)


def read(directory: Path, at: Position) -> list[bytes]:
    return [bytes(found.body) for found in journal.records(str(directory), at)]


def body(made: Record) -> bytes:
    return b"".join(bytes(part) for part in made.body()[0])


@pytest.fixture
def one(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path), ["rows", "meta"], LEAST)


def test_records_of_every_size_are_read_as_they_were_written(tmp_path: Path, one: Journal) -> None:
    """From one octet in a value to more than several slots hold; the checksum of each takes in that of the last."""
    start = at = begin(tmp_path)
    written = []
    for size in [*range(9, 41), 500, 4096, LEAST - START - RECORD.size, LEAST, 100, 5 * LEAST, 9, 300_000, 9]:
        made = of(size)
        written.append(body(made))
        at = one.append(at, made, 0)
    one.sync()
    assert read(tmp_path, start) == written
    every = list(journal.records(str(tmp_path), start))
    assert [found.at.sequence for found in every] == list(range(1, len(written) + 1)) and every[-1].end == at
    assert all(found.at.offset % 8 == 0 for found in every)


def test_entries_say_what_was_added(tmp_path: Path, one: Journal) -> None:
    start = begin(tmp_path)
    made = record((b"a", b"1"), (b"b", b""), content=b"c" * 1000)
    made.add(journal.DELETE, 1, b"d")
    made.add(journal.CLEAR, 0, b"")
    made.add_content(journal.PIECE, b"segments/1", journal.U64.pack(9), [memoryview(b"piece")])
    one.append(start, made, 0)
    (found,) = journal.records(str(tmp_path), start)
    assert [(kind, table, key, bytes(value)) for kind, table, key, value in journal.entries(found)] == [
        (journal.PUT, "rows", b"a", b"1"),
        (journal.PUT, "rows", b"b", b""),
        (journal.MADE, "", b"mail/new/1", journal.I64.pack(7) + b"c" * 1000),
        (journal.DELETE, "meta", b"d", b""),
        (journal.CLEAR, "rows", b"", b""),
        (journal.PIECE, "", b"segments/1", journal.U64.pack(9) + b"piece"),
    ]


def test_a_record_with_more_parts_than_one_call_takes(tmp_path: Path, one: Journal) -> None:
    start = begin(tmp_path)
    made = Record()
    made.add_content(journal.MADE, b"x", journal.I64.pack(-1), [b"%d" % n for n in range(5000)])
    one.append(start, made, 0)
    assert read(tmp_path, start) == [body(made)]


def test_an_append_changes_no_size(tmp_path: Path, one: Journal) -> None:
    """Or its sync would have to wait for the file system's own journal."""
    at = begin(tmp_path)
    sizes: dict[str, tuple[int, int]] = {}
    for _ in range(2000):
        at = one.append(at, of(50), at.serial)
        for name in os.listdir(tmp_path):
            found = os.stat(tmp_path / name)
            assert sizes.setdefault(name, (found.st_size, found.st_blocks)) == (found.st_size, found.st_blocks)
    assert at.serial > 4


def test_slots_grow_with_what_is_written(tmp_path: Path, one: Journal) -> None:
    at = begin(tmp_path)
    while at.serial < 4:
        at = one.append(at, of(1000), 0)
    assert [slot.size for slot in journal.slots(str(tmp_path))] == [LEAST, 2 * LEAST, 4 * LEAST, 8 * LEAST]
    assert journal.next_size(str(tmp_path)) == 1 << 20  # never less than what was asked for
    os.truncate(journal.slots(str(tmp_path))[-1].path, 100 << 20)
    assert journal.next_size(str(tmp_path)) == journal.MOST


def test_slots_are_used_again_only_below_what_recovery_needs(tmp_path: Path, one: Journal) -> None:
    """Whatever is kept can be read, and the directory does not grow while nothing is kept."""
    random.seed(3)
    start = at = begin(tmp_path)
    kept: Position = start
    since: list[bytes] = []
    most = 0
    for n in range(3000):
        made = record((b"%d" % n, b"x" * random.randrange(900)))
        at = one.append(at, made, kept.serial)
        since.append(body(made))
        if random.random() < 0.01:
            kept, since = at, []
        if n % 100 == 0:
            assert read(tmp_path, kept) == since
            most = max(most, len(os.listdir(tmp_path)))
    assert read(tmp_path, kept) == since and most < 8 and at.serial > 20


def test_what_did_not_commit_is_written_over(tmp_path: Path, one: Journal) -> None:
    """By the next record, longer or shorter, and nothing of it is read."""
    start = at = begin(tmp_path)
    at = one.append(at, of(100), 0)
    for lost, kept in ((500, 60), (60, 500), (LEAST, 60), (60, LEAST), (3 * LEAST, 60), (60, 3 * LEAST), (200, 200)):
        after = one.append(at, of(lost), 0)
        one.spoil(at, after)
        before = read(tmp_path, start)
        made = of(kept)
        at = one.append(at, made, 0)
        assert read(tmp_path, start) == [*before, body(made)]


def test_a_record_of_a_process_that_died_is_not_taken_for_the_next(tmp_path: Path) -> None:
    """It wrote a whole record and no more; the next one is longer than what is left of the slot, so it begins another."""
    mine, theirs = (Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2))
    for room, longer in ((200, LEAST), (64, 70), (8, 40), (0, 9)):
        start = at = begin(tmp_path)
        at = mine.append(at, of(100), 0)
        at = mine.append(at, of(mine._size - at.offset - room - RECORD.size), 0)
        if room > 32:
            theirs.append(at, of(room - RECORD.size), 0)  # and died
        good = of(longer)
        at = mine.append(at, good, 0)
        assert read(tmp_path, start)[2:] == [body(good)]


@pytest.mark.parametrize("died", [False, True])
def test_a_slot_that_was_begun_and_not_committed_is_begun_anew(tmp_path: Path, died: bool) -> None:
    """The next record may not fit into the same one: then that one has no header any more, and nobody writes there."""
    mine, theirs = (Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2))
    start = at = begin(tmp_path)
    at = mine.append(at, of(LEAST - START - 40), 0)
    after = mine.append(at, of(500), 0)
    assert after.serial == at.serial + 1
    if not died:
        mine.spoil(at, after)
    large = of(9 * LEAST)
    at = theirs.append(at, large, 0)
    serials = [slot.serial for slot in journal.slots(str(tmp_path)) if slot.serial]
    assert len(serials) == len(set(serials))
    if not died:
        last = of(77)
        mine.append(at, last, 0)
        assert read(tmp_path, start)[1:] == [body(large), body(last)]


def test_one_that_fails_in_the_middle_looks_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slot may be begun elsewhere by another process; what it writes afterwards is read all the same."""
    mine, theirs = (Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2))
    start = at = begin(tmp_path)
    at = mine.append(at, of(LEAST - START - 40), 0)
    write = journal.write_at

    def fails(fd: int, buffers: list[bytes], offset: int) -> None:
        if offset >= START and sum(map(len, buffers)) > 400:
            raise OSError(errno.EIO, "no")
        write(fd, buffers, offset)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "write_at", fails)
    with pytest.raises(OSError, match="no"):
        mine.append(at, of(500), 0)
    monkeypatch.setattr(journal, "write_at", write)
    large, last = of(9 * LEAST), of(77)
    at = theirs.append(at, large, 0)
    synced: set[str] = set()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.add(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    at = mine.append(at, last, 0)
    mine.sync()
    assert read(tmp_path, start)[1:] == [body(large), body(last)] and mine._serial == at.serial
    assert {slot.path for slot in journal.slots(str(tmp_path)) if 1 < slot.serial <= at.serial} <= synced


def test_two_that_write_in_turn(tmp_path: Path) -> None:
    """The place of the next record is all that they share."""
    random.seed(5)
    two = [Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2)]
    start = at = begin(tmp_path)
    written = []
    for n in range(1000):
        made = record((b"%d" % n, b"y" * random.randrange(1500)))
        at = random.choice(two).append(at, made, 0)
        written.append(body(made))
    assert read(tmp_path, start) == written


def test_a_sync_covers_what_others_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for one that wrote nothing itself since the others went on to another slot."""
    mine, theirs = (Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2))
    at = mine.append(begin(tmp_path), of(50), 0)
    while at.serial < 3:
        at = theirs.append(at, of(1000), 0)
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    mine.follow(at)
    mine.sync()
    assert synced == [slot.path for slot in journal.slots(str(tmp_path)) if slot.serial == at.serial]


def test_a_slot_is_on_the_disk_before_the_next_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever goes on to the next: the sync of that one alone has to cover all before it."""
    dirty: set[str] = set()
    names: list[int] = []
    real_sync, real_write = os.fdatasync, journal.write_at

    def path(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}")

    def write(fd: int, buffers: list[bytes], offset: int) -> None:
        if any(len(part) for part in buffers):
            if offset == 0:
                names.append(len(dirty - {path(fd)}))
            dirty.add(path(fd))
        real_write(fd, buffers, offset)  # type: ignore[arg-type]

    def sync(fd: int) -> None:
        real_sync(fd)
        dirty.discard(path(fd))

    monkeypatch.setattr(journal, "write_at", write)
    monkeypatch.setattr(os, "fdatasync", sync)
    two = [Journal(str(tmp_path), ["rows"], LEAST) for _ in range(2)]
    at = begin(tmp_path)
    for n in range(400):
        at = two[n % 3 == 0].append(at, of(700), at.serial)
    assert len(names) > 5 and not any(names)


def test_reading_ends_at_the_first_that_does_not_check(tmp_path: Path, one: Journal) -> None:
    """Each octet of a record, its head included, is covered; what follows a damaged one is not read either."""
    start = at = begin(tmp_path)
    places = []
    for n in range(3):
        at = one.append(at, record((b"%d" % n, b"value")), 0)
        places.append(at)
    slot = next(slot for slot in journal.slots(str(tmp_path)) if slot.serial == at.serial)
    whole = Path(slot.path).read_bytes()
    begins, ends = places[0].offset, places[0].offset + RECORD.size + len(body(record((b"1", b"value"))))
    for octet in range(begins, ends):
        torn = bytearray(whole)
        torn[octet] ^= 0x10
        Path(slot.path).write_bytes(torn)
        assert len(read(tmp_path, start)) == 1, octet
    Path(slot.path).write_bytes(whole[: places[1].offset - 8])
    assert len(read(tmp_path, start)) == 1
    Path(slot.path).write_bytes(whole)
    assert len(read(tmp_path, start)) == 3


@pytest.mark.parametrize("octet", [0, 20, 28, 36, 40, 42, 46])
def test_a_slot_whose_header_is_damaged_is_read_no_further(tmp_path: Path, one: Journal, octet: int) -> None:
    start = at = begin(tmp_path)
    while at.serial < 2:
        at = one.append(at, of(1000), 0)
    path = Path(journal.slots(str(tmp_path))[-1].path)
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[octet] ^= 1
    path.write_bytes(torn)
    assert 0 < len(read(tmp_path, start)) == at.sequence - 2
    path.write_bytes(whole[:3000])  # shorter than a header
    assert len(read(tmp_path, start)) == at.sequence - 2


def test_nothing_of_an_earlier_round_is_read(tmp_path: Path, one: Journal) -> None:
    """After a recovery the journal goes on elsewhere, from a random checksum; slots are filled again and again."""
    random.seed(7)
    for sequence in range(1, 200, 10):  # sequence numbers that were there before
        start = at = begin(tmp_path, 1 if sequence % 20 == 1 else sequence)
        one.close()
        assert read(tmp_path, start) == []
        written = []
        for _ in range(random.randrange(12)):
            made = of(random.choice([50, 50, 50, 2000]))
            at = one.append(at, made, start.serial)
            written.append(body(made))
            assert read(tmp_path, start) == written


def test_the_part_in_use_is_missed(tmp_path: Path, one: Journal) -> None:
    at = one.append(begin(tmp_path), of(50), 0)
    one.close()
    os.unlink(journal.slots(str(tmp_path))[0].path)
    with pytest.raises(CorruptData):
        one.append(at, of(50), 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"short",
        struct.pack("<BBHI", journal.PUT, 0, 5, 500) + b"short",
        struct.pack("<BBHI", journal.PUT, 0, 500, 5) + b"short",
        struct.pack("<BBHI", journal.MADE | AGAIN, 0, 1, 7) + b"k" + bytes(7),
        struct.pack("<BBHI", journal.MADE | AGAIN, 0, 1, 16) + b"k" + bytes(8) + struct.pack("<II", 0, 0),
    ],
    ids=["short", "value", "key", "shorter than a reference", "a reference to nothing"],
)
def test_what_is_no_entry_is_damage(raw: bytes) -> None:
    at = Position(1, START, 1, 1)
    with pytest.raises(CorruptData):
        list(journal.entries(journal.Found(at, at, memoryview(raw), ("rows",))))


def test_content_that_several_share_is_there_once(tmp_path: Path, one: Journal) -> None:
    """Each with what is its own before it; the same octets in another object are kept again."""
    start = begin(tmp_path)
    made = Record()
    shared = b"c" * 10_000
    for n in range(20):
        made.add_content(journal.MADE, b"%d" % n, journal.I64.pack(n), [b"own %d" % n, shared])
        made.add(journal.PUT, 0, b"row %d" % n, b"value")
    made.add_content(journal.PIECE, b"other", journal.U64.pack(8), [bytes(bytearray(shared))])
    made.add_content(journal.PIECE, b"none", journal.U64.pack(8), [])
    made.add_content(journal.PIECE, b"again", journal.U64.pack(9), [shared])
    assert made.body()[1] < 25_000
    one.append(start, made, 0)
    (found,) = journal.records(str(tmp_path), start)
    every = {entry.key: bytes(entry.value) for entry in journal.entries(found)}
    assert all(every[b"%d" % n] == journal.I64.pack(n) + b"own %d" % n + shared for n in range(20))
    assert every[b"other"] == journal.U64.pack(8) + shared and every[b"again"] == journal.U64.pack(9) + shared
    assert every[b"none"] == journal.U64.pack(8) and every[b"row 7"] == b"value"


def test_entries_of_any_number_and_length_follow_each_other() -> None:
    """A record grows by steps: what was added before is still there after each, and long content stays in its place."""
    chance = random.Random(3)
    made, right = Record(), []
    for n in range(300):
        key, value = b"%d" % n, chance.randbytes(chance.choice((0, 1, 7, 1015, 1016, 1017, 5000)))
        if n % 7 == 3:
            made.add_content(journal.MADE, key, b"before", [value])
            right.append((journal.MADE, key, b"before" + value))
        else:
            made.add(journal.PUT, 0, bytearray(key) if n % 2 else key, memoryview(value) if n % 3 else value)
            right.append((journal.PUT, key, value))
    parts, length = made.body()
    raw = b"".join(parts)
    assert length == len(raw)
    assert [(kind, key, bytes(value)) for kind, _, key, value in entries.read(memoryview(raw), ("rows",))] == right


def test_a_key_too_long_leaves_the_record_as_it_was() -> None:
    made = Record()
    made.add(journal.PUT, 0, b"key", b"value")
    before = body(made)
    for add in (
        lambda: made.add(journal.PUT, 0, bytes(1 << 16)),
        lambda: made.add_content(journal.MADE, bytes(1 << 16), b"", [b"a"]),
    ):
        with pytest.raises(OverflowError):
            add()
    assert body(made) == before


def test_a_slot_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees it before it is whole: another process may take any slot that it sees."""
    real = os.pwrite
    seen: list[list[str]] = []

    def full(fd: int, data: bytes, at: int) -> int:
        seen.append([name for name in os.listdir(tmp_path) if name.endswith(journal.SUFFIX)])
        if at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[:4096], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        journal.make_slot(str(tmp_path), LEAST)
    assert os.listdir(tmp_path) == [] and seen == [[], []]
    monkeypatch.setattr(os, "pwrite", real)
    (tmp_path / f"{journal.NEW}7.1").write_bytes(b"of one that died")
    journal.clear(str(tmp_path))
    assert journal.make_slot(str(tmp_path), LEAST + 1).size == LEAST + 4096
    assert os.listdir(tmp_path) == [f"0{journal.SUFFIX}"]


def test_a_position_is_packed_and_unpacked() -> None:
    at = Position(7, FULL, 1 << 40, 0xFFFFFFFF)
    assert Position.unpack(at.pack()) == at
