"""Scanners that learn: what goes there, what their answers mean, and what happens where they fail."""

import asyncio
from typing import Any

import pytest

from fastmail.policy.scanners import teaching
from fastmail.policy.scanners.nouns import Shown
from fastmail.policy.scanners.panel import ASK, FAULTS
from fastmail.policy.scanners.teaching import TEACH, Lesson, Pupil, teach_all
from fastmail.telemetry import counters
from tests.support.scanning import MESSAGE, READ, Far, Handler, far, scanner

DONE = {"rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"success":true}', "spamassassin": b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 2\r\n\r\n\r\n"}  # fmt: skip
KNOWN = {"rspamd": b'HTTP/1.1 208 Already\r\nContent-Length: 2\r\n\r\n{}', "spamassassin": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 2\r\n\r\n\r\n"}  # fmt: skip
READS = {"rspamd": "http", "spamassassin": "spamd"}
NOBODY = "127.0.0.1:1"


def teach(kind: str, answer: bytes | Handler, spam: bool = True, singly: bool = False, **more: Any) -> tuple[str, Far]:
    async def main() -> tuple[str, Far]:
        async with far(answer, read=READS[kind], singly=singly) as there:
            return await Pupil(scanner(kind, NOBODY, learns=there.address, **more)).teach(Lesson(MESSAGE, spam)), there

    return asyncio.run(main())


@pytest.mark.parametrize("kind", TEACH)
@pytest.mark.parametrize("per_user", [False, True])
def test_the_check_and_the_lesson_name_the_same_user(kind: str, per_user: bool) -> None:
    """By the field that this scanner reads, where the setting asks for it; nobody where there is no one owner."""
    field = {"rspamd": b"\r\nDeliver-To: ", "spamassassin": b"\r\nUser: "}[kind]
    clean = {"rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"action":"no action"}',
             "spamassassin": b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0 / 5\r\n\r\n"}[kind]  # fmt: skip

    async def main(owner: str) -> list[bytes]:
        heard = []
        async with far(DONE[kind], read=READS[kind]) as there:
            await Pupil(scanner(kind, NOBODY, learns=there.address, per_user=per_user)).teach(
                Lesson(MESSAGE, True, owner)
            )
            heard += there.heard
        async with far(clean, read=READS[kind]) as there:
            await ASK[kind](
                scanner(kind, there.address, per_user=per_user), Shown(MESSAGE, owner=owner, recipients=["x@b.test"])
            )
            return heard + there.heard

    for owner in ("me@example.test", "m\u00fcller@example.test"):
        for one in asyncio.run(main(owner)):
            head, _, sent = one.partition(b"\r\n\r\n")
            assert sent == MESSAGE and head.count(field) == per_user
            assert not per_user or head.endswith(field + owner.encode()), head
    for owner in ("", "me@example.test\r\nPass: all"):
        assert all(field not in one and b"Pass" not in one for one in asyncio.run(main(owner)))


@pytest.mark.parametrize("kind", TEACH)
@pytest.mark.parametrize("singly", [False, True])
def test_what_the_answers_mean(kind: str, singly: bool) -> None:
    before = counters.snapshot().get("scanner.taught.learned", 0)
    assert teach(kind, DONE[kind], singly=singly)[0] == "learned"
    assert counters.snapshot()["scanner.taught.learned"] == before + 1
    assert teach(kind, KNOWN[kind], singly=singly)[0] == "known"


def test_older_rspamd_says_otherwise_that_it_knows_a_message() -> None:
    body = b'{"error":"<1@b.test> has been already learned as spam, ignore it"}'
    answer = b"HTTP/1.1 404 <1@b.test> has been already learned\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert teach("rspamd", answer)[0] == "known"


@pytest.mark.parametrize(("spam", "path"), [(True, b"/learnspam"), (False, b"/learnham")])
def test_rspamd_hears_what_it_is_and_the_password(spam: bool, path: bytes) -> None:
    head, _, sent = teach("rspamd", DONE["rspamd"], spam, password="q1")[1].heard[0].partition(b"\r\n\r\n")
    assert sent == MESSAGE and head.startswith(b"POST " + path + b" HTTP/1.1\r\n")
    assert b"\r\nPassword: q1" in head and b"\r\nContent-Length: %d" % len(MESSAGE) in head
    assert b"Password" not in teach("rspamd", DONE["rspamd"])[1].heard[0]
    assert "q1" not in repr(scanner("rspamd", NOBODY, password="q1")), "what is logged has no password"


@pytest.mark.parametrize(("spam", "word"), [(True, b"spam"), (False, b"ham")])
def test_spamd_hears_what_it_is(spam: bool, word: bytes) -> None:
    head, _, sent = teach("spamassassin", DONE["spamassassin"], spam)[1].heard[0].partition(b"\r\n\r\n")
    assert sent == MESSAGE
    assert head.split(b"\r\n") == [
        b"TELL SPAMC/1.5", b"Content-length: %d" % len(MESSAGE), b"Message-class: " + word, b"Set: local"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("rspamd", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        ("rspamd", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        ("rspamd", b"SPAMD/1.1 0 EX_OK\r\n\r\n"),
        ("rspamd", b""),
        ("spamassassin", b"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled.\r\n"),
        ("spamassassin", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("spamassassin", b"SPAMD/1.1 0 EX_OK\r\n" + b"A: b\r\n" * 10_000),
        ("spamassassin", b""),
    ],
)
def test_anything_else_is_a_failure(kind: str, answer: bytes) -> None:
    assert teach(kind, answer)[0] == "failed"


def test_one_that_hangs_costs_its_seconds() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    for kind in TEACH:
        assert teach(kind, hang, seconds=0.05)[0] == "failed"


def test_large_messages_are_left_out() -> None:
    said, there = teach("rspamd", DONE["rspamd"], largest=len(MESSAGE) - 1)
    assert said == "left_out" and there.heard == []


def test_one_that_fails_is_left_alone_and_tried_again() -> None:
    async def main() -> list[str]:
        pupil = Pupil(scanner("rspamd", NOBODY, learns=NOBODY))
        said = [await pupil.teach(Lesson(MESSAGE, True)) for _ in range(FAULTS + 1)]
        pupil._until = 0.0  # its rest is over
        async with far(DONE["rspamd"], read="http") as there:
            object.__setattr__(pupil.scanner, "learns", there.address)
            return [*said, await pupil.teach(Lesson(MESSAGE, True))]

    assert asyncio.run(main()) == ["failed"] * FAULTS + ["left_out", "learned"]


def test_each_learns_in_order_beside_the_others() -> None:
    async def main() -> list[bytes]:
        heard: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await READ["http"](reader))
            writer.write(DONE["rspamd"])
            await writer.drain()
            writer.close()

        async with far(serve) as there:
            pupils = [Pupil(scanner("spamassassin", NOBODY, learns=NOBODY)), Pupil(scanner("rspamd", NOBODY, learns=there.address))]  # fmt: skip
            await teach_all(pupils, [Lesson(MESSAGE, spam) for spam in (True, False, True)])
        return [one.partition(b" HTTP")[0] for one in heard]

    assert asyncio.run(main()) == [b"POST /learnspam", b"POST /learnham", b"POST /learnspam"]


def test_every_kind_that_can_be_taught_is_taught_by_something() -> None:
    from fastmail.policy.scanners.nouns import LEARN

    assert set(teaching.TEACH) == set(LEARN)
