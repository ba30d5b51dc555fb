"""pytest-benchmark for each module of the compiled core: `make bench`.

Sizes are stated in the names; one call covers a line, a block or a page, as in the server.
"""

from array import array
from typing import Any

import pytest

from fastmail._core import fetch, imap, lines, mime, pages, smtp
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
