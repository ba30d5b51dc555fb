"""``fastmail batch``: what has come is one transaction, however many reads it takes."""

import os

import pytest

from fastmail.cli import batch

REQUESTS = b"".join(b'{"do": "account.set", "name": "user%d@d.test"}\n' % n for n in range(50))


@pytest.fixture
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that gives 100 octets at a time."""
    read = os.read
    monkeypatch.setattr(batch.os, "read", lambda source, most: read(source, min(most, 100)))


@pytest.mark.usefixtures("short_reads")
def test_what_has_come_is_taken_together() -> None:
    source, sink = os.pipe()
    os.write(sink, REQUESTS)
    chunks = batch._chunks(source)
    assert next(chunks) == REQUESTS, "though the writer has not ended"
    os.write(sink, b"last\n")
    os.close(sink)
    assert list(chunks) == [b"last\n"]
    os.close(source)


@pytest.mark.usefixtures("short_reads")
def test_no_more_than_a_chunk_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHUNK", 1000)
    source, sink = os.pipe()
    os.write(sink, REQUESTS)
    os.close(sink)
    found = list(batch._chunks(source))
    assert b"".join(found) == REQUESTS and max(map(len, found)) == 1000
    os.close(source)
