"""Segments: what was written is found again, and damage harms only the records it lies in."""

import errno
import os
import random
from pathlib import Path

import pytest

from fastmail.durable import segments
from fastmail.durable.segments import SegmentReader, SegmentWriter
from fastmail.model.errors import CorruptData
from tests.support.examples import some

KEY = bytes(range(12))


def write(directory: Path, texts: list[bytes]) -> list[segments.Record]:
    writer = SegmentWriter(str(directory))
    out = []
    for text in texts:
        job, record = writer.append(KEY, "INBOX", 1000, len(text), [text[:3], text[3:]])
        os.pwrite(job.fd, b"".join(bytes(c) for c in job.chunks), job.offset)
        out.append(record)
    writer.close()
    return out


def sound(directory: Path) -> list[int]:
    return [r.id for r, _, _ in segments.scan(str(directory), 1) if r is not None]


TEXTS = [b"Subject: %d\n\n" % n + b"x" * (n * 37) for n in range(20)]


def test_records_are_read_and_scanned(tmp_path: Path) -> None:
    records = write(tmp_path, TEXTS)
    reader = SegmentReader(str(tmp_path))
    assert [reader.read(r.id, r.skip, r.length) for r in records] == TEXTS
    assert sound(tmp_path) == [r.id for r in records]
    found = [r for r, _, _ in segments.scan(str(tmp_path), 1) if r is not None]
    assert [(r.key, r.name, r.date, r.size) for r in found] == [(KEY, "INBOX", 1000, len(t)) for t in TEXTS]
    reader.close()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_read_at_once_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On tmpfs and NFS nobody learns whether a read would block: so it is one that may."""
    preadv = os.preadv

    def read(fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise OSError(number, os.strerror(number))
        return preadv(fd, buffers, offset, flags)

    (record, *_) = write(tmp_path, TEXTS)
    monkeypatch.setattr(segments.os, "preadv", read)
    reader = SegmentReader(str(tmp_path))
    assert reader.read(record.id, record.skip, record.length, True) is None
    assert reader.read(record.id, record.skip, record.length) == TEXTS[0]
    reader.close()


@pytest.mark.parametrize("seed", range(some(30)))
def test_a_flipped_octet_harms_one_record(tmp_path: Path, seed: int) -> None:
    records = write(tmp_path, TEXTS)
    path = Path(segments.path_of(str(tmp_path), 1))
    data = bytearray(path.read_bytes())
    at = random.Random(seed).randrange(segments.START, len(data))
    data[at] ^= 0x40
    path.write_bytes(data)
    hit = [r.id for r in records if r.offset <= at < r.offset + r.skip + r.length]
    assert sound(tmp_path) == [r.id for r in records if r.id not in hit]
    reader = SegmentReader(str(tmp_path))
    for record, text in zip(records, TEXTS, strict=True):
        if record.id in hit:
            with pytest.raises(CorruptData):
                reader.read(record.id, record.skip, record.length)
        else:
            assert reader.read(record.id, record.skip, record.length) == text
    reader.close()


@pytest.mark.parametrize("cut", [1, 7, 60, 400, 3000])
def test_a_torn_tail_harms_what_was_torn(tmp_path: Path, cut: int) -> None:
    records = write(tmp_path, TEXTS)
    path = Path(segments.path_of(str(tmp_path), 1))
    size = path.stat().st_size
    os.truncate(path, size - cut)
    assert sound(tmp_path) == [r.id for r in records if r.offset + r.skip + r.length <= size - cut]


def test_a_message_cannot_pass_for_a_record(tmp_path: Path) -> None:
    first = tmp_path / "a"
    second = tmp_path / "b"
    inner = write(first, [b"forged\n"])[0]
    forged = Path(segments.path_of(str(first), 1)).read_bytes()[inner.offset :]
    for shift in range(8):
        directory = second / str(shift)
        records = write(directory, [b" " * shift + forged, b"next\n"])
        path = Path(segments.path_of(str(directory), 1))
        data = bytearray(path.read_bytes())
        data[records[0].offset + 8] ^= 1  # damage the head, so that the scan goes through the content
        path.write_bytes(data)
        assert sound(directory) == [records[1].id]


def test_each_writer_has_files_of_its_own(tmp_path: Path) -> None:
    one, two = SegmentWriter(str(tmp_path)), SegmentWriter(str(tmp_path))
    a = one.append(KEY, "INBOX", 0, 1, [b"a"])[1]
    b = two.append(KEY, "INBOX", 0, 1, [b"b"])[1]
    assert a.number != b.number
    assert segments.in_use(str(tmp_path), a.number) and segments.in_use(str(tmp_path), b.number)
    one.close()
    assert not segments.in_use(str(tmp_path), a.number) and segments.in_use(str(tmp_path), b.number)
    two.close()


def test_a_file_whose_name_cannot_be_synced_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written into it could be gone with it; there is none then, and the next try makes one."""

    def fails(path: str) -> None:
        raise OSError(errno.EIO, "the disk fails", path)

    writer = SegmentWriter(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(segments, "sync_directory", fails)
        with pytest.raises(OSError, match="the disk fails"):
            writer.prepare()
    assert not os.listdir(tmp_path) and not writer.numbers and writer.wants_file
    writer.prepare()
    assert writer.has_room and segments.numbers(str(tmp_path)) == writer.numbers
    writer.close()


def test_the_head_of_a_file_is_whole_when_writes_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: max(1, len(data) // 2)], at))
    writer = SegmentWriter(str(tmp_path))
    writer.prepare()
    (number,) = writer.numbers
    assert list(segments.scan(str(tmp_path), number)) == []
    writer.close()
