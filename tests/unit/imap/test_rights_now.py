"""Rights are those of the moment in which a command begins, whatever way it came: by a line, or by literals (S33); and
nothing is told of somebody else's quota before them."""

import pytest
from msgspec.structs import replace

from fastmail.model.quota import Quota
from tests.support.sessions import Bench
from tests.unit.imap.test_acl import ALICE, CONTENT, PLACE, Two, run

TEXT = "Subject: fresh\r\n\r\nbody\r\n"
LITERAL = f"{{{len(TEXT)}+}}\r\n{TEXT}"


@pytest.mark.parametrize("lost", ["t", "e"])
@pytest.mark.parametrize(
    "line",
    [
        f"REPLACE 1 {PLACE} {LITERAL}",
        f"UID REPLACE 1 {PLACE} (\\Seen) {LITERAL}",
        f"REPLACE 1 {PLACE} ~{LITERAL}",
        f"REPLACE 1 INBOX {LITERAL}",
        f"REPLACE 1 {PLACE} CATENATE (TEXT {LITERAL})",
    ],
)
def test_s33_replace_needs_the_rights_of_now(line: str, lost: str) -> None:
    """The message that it would remove stays."""

    async def work(two: Two) -> None:
        await two.grant("lrswite")
        assert "b OK" in await two.ask(f"SELECT {PLACE}")
        await two.grant("-" + lost)
        got = await two.ask(line)
        assert "b NO [NOPERM]" in got, got
        assert "MESSAGES 3" in await two.owner("STATUS Work (MESSAGES)")

    run(work)


@pytest.mark.parametrize(
    "line",
    [
        f'APPEND INBOX CATENATE (URL "/;uid=1" TEXT {LITERAL})',
        f'APPEND INBOX CATENATE (TEXT {LITERAL} URL "/;UID=2")',
        f'APPEND INBOX {LITERAL} CATENATE (URL ";UID=1")',
        "APPEND INBOX CATENATE (URL {8+}\r\n/;uid=1/ TEXT {2+}\r\nx\r)",
        f'REPLACE 1 INBOX CATENATE (URL "/;uid=1" TEXT {LITERAL})',
    ],
)
def test_s33_catenate_reads_with_the_rights_of_now(line: str) -> None:
    """The content of a mailbox that may not be read any more does not come by way of a URL."""

    async def work(two: Two) -> None:
        await two.grant("lrswite")
        assert "b OK" in await two.ask(f"SELECT {PLACE}")
        await two.grant("-r")
        got = await two.ask(line)
        assert "b NO " in got, got
        assert "b OK" in await two.ask("SELECT INBOX")
        assert "hello" not in await two.ask("FETCH 1:* (BODY.PEEK[])")
        assert "b OK" in await two.ask("NOOP")

    run(work)


@pytest.mark.parametrize("size", [len(TEXT), 5000])
@pytest.mark.parametrize("sync", ["", "+"])
@pytest.mark.parametrize("letters", ["", "r", "p", "lr"])
def test_s33_a_stranger_does_not_hear_how_full_a_mailbox_is(letters: str, sync: str, size: int) -> None:
    """Its answer is the same whether there is room or not, and the same as for a mailbox that is not there."""

    def fill(bench: Bench) -> None:
        bench.directory.accounts[ALICE] = replace(bench.directory.accounts[ALICE], quota=Quota(3 * len(CONTENT) + 30))

    answers = []

    async def work(two: Two) -> None:
        if letters:
            await two.grant(letters)
        for place in (PLACE, PLACE.replace("Work", "Nowhere")):
            for line in (f"APPEND {place}", f"APPEND {place} (\\Seen)"):
                await two.bob.send(f"b {line} {{{size}{sync}}}\r\n".encode())
                start = len(two.bob.transport.data)
                got = (await two.bob.send(b"x" * size + b"\r\n")).decode() or two.bob.transport.data[:start].decode()
                answers.append(got.splitlines()[-1])
                assert "OVERQUOTA" not in got

    run(work, fill)
    with_room = list(answers)
    answers.clear()
    run(work)
    assert answers == with_room
    if letters != "lr":
        assert len(set(answers)) == 1 and "[TRYCREATE]" in answers[0]


def test_s33_who_may_put_something_there_hears_it_early() -> None:
    def fill(bench: Bench) -> None:
        bench.directory.accounts[ALICE] = replace(bench.directory.accounts[ALICE], quota=Quota(3 * len(CONTENT) + 30))

    async def work(two: Two) -> None:
        await two.grant("lrswite")
        assert "b NO [OVERQUOTA]" in await two.ask(f"APPEND {PLACE} {{5000}}")
        assert "b OK" in await two.ask("SELECT INBOX")
        assert "b OK" in await two.ask(f"APPEND INBOX {LITERAL}")
        assert "b OK" in await two.ask("SELECT INBOX")
        for line in (f"REPLACE 1 {PLACE} {{5000}}", f"UID REPLACE 1 {PLACE} {{5000}}"):
            assert "b NO [OVERQUOTA]" in await two.ask(line), "what is replaced is in another account"

    run(work, fill)


@pytest.mark.parametrize("message", [TEXT, TEXT + "more\r\n" * 500])
def test_s33_append_needs_the_rights_of_its_end(message: str) -> None:
    """Where a message goes is looked up as its literal begins; that counts only if all of it came in one piece."""

    async def work(two: Two) -> None:
        await two.grant("lrsi")
        line = f"b APPEND {PLACE} {{{len(message)}+}}\r\n{message}\r\n".encode()
        assert b"b OK [APPENDUID" in await two.bob.send(line)
        await two.bob.send(line[:-1])
        await two.grant("-i")
        got = await two.bob.send(line[-1:])
        assert b"b NO [NOPERM]" in got, got
        assert "MESSAGES 4" in await two.owner("STATUS Work (MESSAGES)")
        assert b"b NO [NOPERM]" in await two.bob.send(line)

    run(work)
