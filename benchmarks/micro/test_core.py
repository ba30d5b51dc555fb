"""pytest-benchmark for each module of the compiled core: `make bench`.

Sizes are stated in the names; one call covers a line, a block or a page, as in the server.
"""

from array import array
from typing import Any

import lmdb
import pytest

from fastmail._core import fetch, imap, leaves, lines, mime, pages, rows, smtp, texts
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet

HEADER = (
    b"Received: from a.example ([192.0.2.1])\n\tby mx.example with ESMTPS id 1;\n\tMon, 1 Jan 2024 00:00:00 +0000\n"
    b"From: Some One <some.one@example.org>\nTo: a@example.net, B C <b@example.net>\nSubject: quarterly figures\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n"
)
LINE = b"The quick brown fox jumps over the lazy dog, and then it does so once more.\n"
PLAIN = HEADER + b"Content-Type: text/plain; charset=utf-8\n\n" + LINE * 48
PARTS = (
    HEADER
    + b"Content-Type: multipart/mixed; boundary=b\n\n"
    + (b"--b\nContent-Type: text/plain\n\n" + LINE * 12) * 4
    + b"--b--\n"
)


def mailbox(count: int) -> tuple[list[bytes], UidSet]:
    made: dict[int, bytes] = {}
    for uid in range(1, count + 1):
        base = uid & ~31
        made[base] = pages.extend(made.get(base), pages.pack(uid, uid % 3, uid, 0, 1_700_000_000 + uid, 4096, 0))
    return list(made.values()), UidSet.of_ranges((1, count))


BOX, VIEW = mailbox(10_000)


def test_mime_scan_plain_4k(benchmark: Any) -> None:
    assert benchmark(mime.scan, PLAIN)


def test_mime_scan_multipart_4k(benchmark: Any) -> None:
    assert benchmark(mime.scan, PARTS)


def test_content_reader_data_64k(benchmark: Any) -> None:
    data = lines.to_crlf(LINE * 840) + b".\r\n"

    def read() -> bool:
        reader = lines.ContentReader(True, 1 << 30)
        reader.feed(data)
        return reader.done

    assert benchmark(read)


def test_to_crlf_64k(benchmark: Any) -> None:
    assert benchmark(lines.to_crlf, LINE * 840)


def test_dot_stuffed_64k(benchmark: Any) -> None:
    assert benchmark(lines.dot_stuffed, LINE * 840)


@pytest.mark.parametrize(("name", "items"), [("uid_flags", 3), ("all_index_items", 31)])
def test_fetch_10000(benchmark: Any, name: str, items: int) -> None:
    def render() -> int:
        out = Out(1 << 20)
        for page in BOX:
            fetch.page(out, page, VIEW, VIEW, items, [], None, None, [], False)
        return len(out)

    assert benchmark(render) > 100_000


def test_fetch_envelope_1000(benchmark: Any) -> None:
    made = mime.scan(PLAIN)
    some = UidSet.of_ranges((1, 1000))
    summaries = dict.fromkeys(range(1, 1001), made)

    def render() -> int:
        out = Out(1 << 20)
        for page in BOX[:32]:
            fetch.page(out, page, VIEW, some, 35, [], None, summaries, [], False)
        return len(out)

    assert benchmark(render) > 100_000


def test_search_unseen_10000(benchmark: Any) -> None:
    program = array("q", [1, 1, 0])
    assert len(benchmark(lambda: pages.search(BOX, VIEW, program, []))) > 1000


def test_page_append(benchmark: Any) -> None:
    page = pages.extend(None, pages.pack(32, 0, 1, 0, 0, 0, 0))
    assert benchmark(pages.extend, page, pages.pack(33, 0, 1, 0, 0, 4096, 0))


def test_page_update(benchmark: Any) -> None:
    one = UidSet.of([40])
    assert benchmark(pages.update, BOX[1], one, 1, 4, 0, 99999, (1 << 64) - 1)


def test_view_from_pages_10000(benchmark: Any) -> None:
    presence = [(i * 32, pages.presence(page)) for i, page in enumerate(BOX)]
    assert len(benchmark(UidSet().plus_pages, presence, 0)) == 10_000


def test_sequence_set_to_uids(benchmark: Any) -> None:
    holes = VIEW.minus(UidSet.of(range(7, 10_000, 7)))
    numbers = UidSet.of_ranges((1, 50, 100, 4294967295))
    assert benchmark(holes.at, numbers)


def test_imap_parse_fetch(benchmark: Any) -> None:
    line = (
        b"a1 UID FETCH 1:100,200:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (From To Subject Date)])"
    )

    def parse() -> Any:
        reader = imap.Reader(line)
        reader.head()
        reader.sp()
        reader.atom()
        reader.sp()
        reader.sequence_set()
        reader.sp()
        return reader.fetch_items()

    assert len(benchmark(parse)) == 5


def test_smtp_parse_mail(benchmark: Any) -> None:
    def parse() -> Any:
        _, end = smtp.parse_path(b"<some.one@example.org> SIZE=4096 BODY=8BITMIME", 0, False)
        return smtp.parse_params(b"<some.one@example.org> SIZE=4096 BODY=8BITMIME", end)

    assert benchmark(parse)


# ---------------------------------------------------------------- header fields, rows, pages of LMDB, texts

CROWD = b"From: a@b.example\nTo: " + b",\n ".join(
    b'"Some Body, %d" <some.body.%d@example.org>' % (n, n) for n in range(1000)
)
ODD = (
    b'Content-Type: application/octet-stream; name*0*=utf-8\'\'a%20; name*1="b c"; x="' + b"y" * 200 + b'"\n'
    b'Content-Disposition: attachment; filename="quarterly figures.pdf"; size=4096\n\nx\n'
)
MAILBOX = bytes(12)
SUMMARIES = [(MAILBOX + uid.to_bytes(4, "big"), b"\3\0nab" + mime.scan(PLAIN)) for uid in range(1, 1001)]
UIDS = UidSet.of_ranges((1, 1000))


def test_fields_addresses_1000(benchmark: Any) -> None:
    assert benchmark(mime.scan, CROWD + b"\n\nx\n")


def test_fields_parameters(benchmark: Any) -> None:
    assert benchmark(mime.scan, ODD)


def test_rows_values_1000(benchmark: Any) -> None:
    assert len(benchmark(lambda: rows.values(iter(SUMMARIES), MAILBOX, UIDS, (b"from", b"subject", b"date")))) == 1000


def test_rows_search_field_1000(benchmark: Any) -> None:
    found = benchmark(lambda: rows.search_field(iter(SUMMARIES), MAILBOX, UIDS, b"subject", b"figures"))
    assert len(found[0]) == 1000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """(the octets of an LMDB file with a table of 1,000 summaries, its last transaction)."""
    place = tmp_path_factory.mktemp("leaves")
    with lmdb.open(str(place), max_dbs=2, map_size=1 << 26) as env:
        with env.begin(write=True) as txn:
            for key, value in SUMMARIES:
                txn.put(key, value, db=env.open_db(b"msg", txn))
        last = env.info()["last_txnid"]
    return (place / "data.mdb").read_bytes(), last


def test_leaves_every_row_1000(benchmark: Any, stored: tuple[bytes, int]) -> None:
    octets, last = stored

    def read() -> int:
        table = leaves.table(octets, last, b"msg")
        assert table is not None
        return len(rows.marks(table, MAILBOX, UIDS))

    assert benchmark(read) == 1000


def test_leaves_one_summary_of_1000(benchmark: Any, stored: tuple[bytes, int]) -> None:
    octets, last = stored

    def read() -> object:
        table = leaves.table(octets, last, b"msg")
        assert table is not None
        return leaves.Summaries(table, MAILBOX, UIDS, {}).get(500)

    assert benchmark(read) is not None


def test_texts_find_1000_of_4k(benchmark: Any) -> None:
    text = LINE * 54
    ends = array("I")
    for n in range(1000):
        ends.extend((n, n * (len(text) + 1), n * (len(text) + 1) + len(text)))
    data = (text + b"\0") * 999 + LINE * 53 + b"needle".ljust(len(LINE)) + b"\0"
    assert benchmark(texts.find, ends, data, b"needle", True) == [999]
