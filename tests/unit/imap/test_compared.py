"""What SORT, THREAD and SEARCH read of addresses, and what they remember (RFC 5256, RFC 5957, RFC 3501 6.4.4)."""

import asyncio
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core.uidset import UidSet
from fastmail.imap import compared
from fastmail.imap.views import Answers
from tests.support.examples import seeds
from tests.support.sessions import Bench, Client


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def opened(path: Path) -> tuple[Bench, Client]:
    bench = Bench(str(path))
    client = bench.open("imap")
    await client.send(b"a LOGIN user@example.test secret\r\na SELECT INBOX\r\n")
    return bench, client


async def append(client: Client, header: bytes) -> None:
    text = header + b"\r\n\r\nx\r\n"
    assert b"a OK" in await client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(text), text))


async def answer(client: Client, command: bytes) -> bytes:
    return (await client.send(b"a " + command + b"\r\n")).splitlines()[0]


HEADERS = [
    b"From: Jane <jane (the old one) . doe @ x . example>\r\nTo: =?utf-8?q?J=C3=BCrgen?= <j@x.example>",
    b'From: "Doe, Jane" <other@y.example>\r\nTo: team: a@b.example, c@d.example;',
    b"From: " + b"(" * 480 + b"\r\nTo: " + b"(" * 480 + b")" * 480 + b" x@y",
    b"From: bob@z.example (Robert)\r\nCc: jane.doe@x.example",
    b"Subject: no addresses",
]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (b"FROM jane.doe@x.example", b" 1"),
        (b'FROM "old one"', b""),  # a comment is no part of the ENVELOPE
        (b'FROM "doe, jane"', b" 2"),
        (b"FROM robert", b" 4"),  # but one that stands for a name is
        (b"FROM <bob@z.example>", b" 4"),
        (b"TO team", b" 2"),
        (b"TO c@d.example", b" 2"),
        (b'CHARSET UTF-8 TO "j\xc3\xbcrgen"', b" 1"),
        (b"NOT CC jane.doe", b" 1 2 3 5"),
        (b'OR TO "" CC ""', b" 1 2 3 4"),
        (b"BCC x", b""),
        (b"HEADER FROM (the", b" 1"),  # HEADER is about the text of the field
        (b"FUZZY FROM {15+}\r\nexample nothing", b" 1 2 4"),
    ],
)
def test_search_looks_through_the_envelope(tmp_path: Path, keys: bytes, wanted: bytes) -> None:
    async def scenario() -> None:
        _, client = await opened(tmp_path)
        for header in HEADERS:
            await append(client, header)
        command = keys.replace(b"(the", b'"(the"')
        found = [
            line for line in (await client.send(b"a SEARCH " + command + b"\r\n")).splitlines() if b"SEARCH" in line
        ]
        assert found[0] == b"* SEARCH" + wanted

    run(scenario)


def test_sort_compares_the_first_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, client = await opened(tmp_path)
        for header in HEADERS:
            await append(client, header)
        # values: JANE.DOE, OTHER, none, BOB, none
        assert await answer(client, b"SORT (FROM) UTF-8 ALL") == b"* SORT 3 5 4 1 2"
        # JANE; DOE, JANE; none, ROBERT, none
        assert await answer(client, b"SORT (DISPLAYFROM) UTF-8 ALL") == b"* SORT 3 5 2 1 4"
        # J, TEAM, X, none, none
        assert await answer(client, b"SORT (REVERSE TO) UTF-8 ALL") == b"* SORT 3 2 1 4 5"
        # JU<diaeresis>RGEN; TEAM; the comment, which stands for a name; none, none
        assert await answer(client, b"SORT (DISPLAYTO) UTF-8 ALL") == b"* SORT 4 5 3 1 2"
        assert b"OK" in await client.send(b"a NOOP\r\n")

    run(scenario)


def test_sort_collates_by_titlecase(tmp_path: Path) -> None:
    """``_`` lies between capitals and small letters; letters with marks are taken apart (RFC 5051)."""

    async def scenario() -> None:
        _, client = await opened(tmp_path)
        for subject in ("a_b", "aab", "AZB", "\u00e4z", "a\u00df", "azz"):
            await append(client, f"Subject: {subject}".encode())
        assert await answer(client, b"SORT (SUBJECT) UTF-8 ALL") == b"* SORT 2 3 6 1 5 4"

    run(scenario)


ASKED = [
    b"UID SORT (SUBJECT REVERSE DATE) UTF-8 ALL",
    b"UID SORT (REVERSE SUBJECT FROM) UTF-8 ALL",
    b"UID SORT (SIZE) UTF-8 SEEN",
    b"UID SORT (ARRIVAL DISPLAYTO) UTF-8 NOT SEEN",
    b"UID THREAD REFERENCES UTF-8 ALL",
    b"THREAD REFS UTF-8 SEEN",
    b"UID THREAD ORDEREDSUBJECT UTF-8 ALL",
]


@pytest.mark.parametrize("seed", seeds(6))
def test_what_is_remembered_takes_in_new_messages(tmp_path: Path, seed: int) -> None:
    """Whatever was asked before, of whatever messages, an answer is that of a fresh look."""

    async def scenario() -> None:
        rng = random.Random(seed)
        bench, client = await opened(tmp_path)
        for number in range(60):
            subject = rng.choice(["x", "re: x", "=?utf-8?q?=C3=A4?=", "y" * 2000, "y" * 2000 + "z", "[fwd: x]", ""])
            await append(
                client,
                f"From: p{rng.randint(0, 3)}@b.test\r\nTo: q{rng.randint(0, 2)}@b.test\r\nSubject: {subject}\r\n"
                f"Date: {rng.randint(1, 9)} Jan 2024\r\nMessage-ID: <{number}@t>\r\n"
                f"References: <{rng.randint(0, 60)}@t> <{rng.randint(0, 60)}@t>".encode(),
            )
            await client.send(b"a UID STORE %d +FLAGS (\\Seen)\r\n" % rng.randint(1, number + 1))
            if number % 9 == 8:
                await client.send(b"a UID STORE %d +FLAGS (\\Deleted)\r\na EXPUNGE\r\n" % rng.randint(1, number + 1))
            for command in rng.sample(ASKED, 2):
                known = await answer(client, command)
                kept, bench.imap.answers = bench.imap.answers, Answers()
                assert await answer(client, command) == known, command
                bench.imap.answers = kept

    run(scenario)


def test_only_new_messages_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    arrived = compared.order.arrived

    def counted(pages: Any, uids: UidSet) -> Any:
        read.append(len(uids))
        return arrived(pages, uids)

    monkeypatch.setattr(compared.order, "arrived", counted)

    async def scenario() -> None:
        _, client = await opened(tmp_path)
        for number in range(300):
            await append(client, b"Subject: %d\r\nMessage-ID: <%d@t>" % (number * 7 % 300, number))
        for command, most in ((b"SORT (SUBJECT) UTF-8 ALL", 12), (b"THREAD REFERENCES UTF-8 ALL", 1)):
            read.clear()
            await answer(client, command)
            assert sum(read) >= 300
            await append(client, b"Subject: 155a\r\nMessage-ID: <new@t>")
            read.clear()
            await answer(client, command)
            assert 1 <= sum(read) <= most  # the new one, and what bisection meets

    run(scenario)


@pytest.mark.parametrize("version", [0, 99])
def test_messages_without_a_usable_summary_are_read(tmp_path: Path, version: int) -> None:
    async def scenario() -> None:
        bench, client = await opened(tmp_path)
        for header in (
            b"Subject: b\r\nMessage-ID: <1@t>",
            b"Subject: =?utf-8?q?=C3=A4?=\r\nReferences: <1@t>",
            b"Subject: a",
        ):
            await append(client, header)
        wanted = [await answer(client, command) for command in ASKED[:5]]
        for box in bench.store.boxes.values():  # type: ignore[attr-defined]
            for message in box.messages:
                message.summary = bytes([version]) + message.summary[1:]
        bench.imap.answers = Answers()
        assert [await answer(client, command) for command in ASKED[:5]] == wanted

    run(scenario)


def test_references_that_the_header_cache_lacks_are_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, client = await opened(tmp_path)
        many = b" ".join(b"<%d@t>" % number for number in range(37_500))
        await append(client, b"Message-ID: <37499@t>\r\nSubject: a")
        await append(client, b"X-Long: " + b"x" * 20_000 + b"\r\nSubject: b\r\nReferences: " + many)
        await append(client, b"X-Long: " + b"x" * 20_000 + b"\r\nIn-Reply-To: <37499@t>\r\nReferences: none")
        await append(client, b"X-Long: " + b"x" * 20_000 + b"\r\nIn-Reply-To: <37499@t>")
        assert await answer(client, b"THREAD REFERENCES UTF-8 ALL") == b"* THREAD (1 (2)(3)(4))"

    run(scenario)


def test_long_fields_are_not_remembered(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, client = await opened(tmp_path)
        for number in range(10):
            await append(
                client,
                b"To: =?utf-8?q?" + b"%d" % number + b"a" * 60_000 + b"?= <a@b>\r\nSubject: " + b"\xc3\xa4" * 30_000,
            )
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await answer(client, b"SORT (DISPLAYTO SUBJECT TO) UTF-8 ALL")
        await answer(client, b"THREAD REFERENCES UTF-8 ALL")
        await answer(client, b"SEARCH OR TO nothing SUBJECT nothing")
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < 200_000, grown

    run(scenario)


def test_messages_with_long_summaries_are_compared_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    real = compared._some

    def some(uids: UidSet, items: Any) -> UidSet:
        found = real(uids, items)
        looked.append(len(found))
        return found

    async def scenario() -> None:
        bench, client = await opened(tmp_path)
        bench.imap.answers = Answers(0)  # nothing is remembered
        for number in range(12):
            await append(client, b"Subject: %d\r\nFrom: a@b.example\r\nMessage-ID: <%d@x>" % (number % 5, number))
        for command in (b"SORT (SUBJECT FROM) UTF-8 ALL", b"THREAD ORDEREDSUBJECT UTF-8 ALL"):
            monkeypatch.setattr(compared, "OCTETS", 1 << 20)
            wanted = await answer(client, command)
            monkeypatch.setattr(compared, "OCTETS", 1)
            looked.clear()
            assert await answer(client, command) == wanted
            assert looked == [1] * 12

    monkeypatch.setattr(compared, "_some", some)
    run(scenario)
