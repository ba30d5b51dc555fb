"""Names, patterns, identifiers and URLs from clients: octets that are no UTF-8 name nothing, and none of them is dear."""

import asyncio
import time
from pathlib import Path

import pytest

from fastmail.imap import url
from tests.support.sessions import Bench, Client

LATIN = b"Caf\xe9"  # no UTF-8
QUICK = 2.0  # s; the old matcher took minutes


async def login(bench: Bench) -> Client:
    client = bench.open("imap")
    await client.send(b"a LOGIN user@example.test secret\r\n")
    return client


def literal(raw: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(raw), raw)


def run(tmp_path: Path, *commands: bytes) -> list[bytes]:
    """What each command brings, in one session."""

    async def main() -> list[bytes]:
        client = await login(Bench(str(tmp_path)))
        return [await client.send(command + b"\r\n") for command in commands]

    return asyncio.run(main())


@pytest.mark.parametrize("wanted", [b"*a" * 30 + b"*b", b"%a" * 30 + b"%b", b"*%" * 1000 + b"b", b"*a" * 9000])
@pytest.mark.parametrize("command", [b'LIST "" "%b"', b'LSUB "" "%b"', b'LIST "" ("%b" x) RETURN (SUBSCRIBED)'])
def test_a_pattern_costs_what_the_names_cost(wanted: bytes, command: bytes, tmp_path: Path) -> None:
    begun = time.monotonic()
    name = b"a" * 120
    got = run(tmp_path, b"c CREATE " + name, b"s SUBSCRIBE " + name, b"l " + command % wanted)
    assert got[-1].startswith(b"l OK") and time.monotonic() - begun < QUICK


def test_many_patterns_are_refused(tmp_path: Path) -> None:
    many = b" ".join(b"x%d*" % n for n in range(5000))
    same = b" ".join([b"Dra*"] * 5000)
    got = run(tmp_path, b'a LIST "" (' + many + b")", b'b LIST "" (' + same + b")")
    assert got[0].startswith(b"a NO [LIMIT]")
    assert got[1].count(b"* LIST ") == 1 and b'"/" Drafts' in got[1]


def test_inbox_has_no_case_in_a_pattern(tmp_path: Path) -> None:
    for wanted in (b"inbox", b"iNb%", b"*NBo*", b"%"):
        (got,) = run(tmp_path, b'a LIST "" ' + wanted)
        assert b'"/" INBOX\r\n' in got, wanted
    (got,) = run(tmp_path, b'a LIST "" dRAFTS')
    assert got == b"a OK LIST completed\r\n"


@pytest.mark.parametrize(
    "command",
    [b"CREATE", b"DELETE", b"SELECT", b"EXAMINE", b"SUBSCRIBE", b"UNSUBSCRIBE", b"GETACL", b"MYRIGHTS", b'LIST ""',
     b'LSUB ""', b"RENAME INBOX", b"GETQUOTAROOT", b"RESETKEY"],
)  # fmt: skip
@pytest.mark.parametrize("enabled", [b"NOOP", b"ENABLE IMAP4rev2", b"ENABLE UTF8=ACCEPT"])
def test_octets_that_are_no_utf8_name_no_mailbox(command: bytes, enabled: bytes, tmp_path: Path) -> None:
    got = run(
        tmp_path,
        b"e " + enabled,
        b"f CREATE " + literal("Café".encode()),
        b"g CREATE " + literal("Caf\ufffd".encode()),
        b"h " + command + b" " + literal(LATIN),
    )
    assert got[1].startswith(b"f OK") and got[2].startswith(b"g OK")
    assert got[3].startswith(b"h NO [CANNOT] "), "neither replaced nor read as Latin-1"


def test_octets_that_are_no_utf8_are_no_identifier(tmp_path: Path) -> None:
    bad = literal(LATIN)
    got = run(tmp_path, b"a SETACL INBOX " + bad + b" lr", b"b DELETEACL INBOX " + bad, b"c LISTRIGHTS INBOX " + bad,
              b"d SETACL INBOX " + literal("\ufffd@example.test".encode()) + b" lr",
              b"e SETACL INBOX " + b"a" * 400 + b" lr", b"f GETACL INBOX")  # fmt: skip
    assert [one.split(b" ")[1] for one in got] == [b"NO"] * 5 + [b"ACL"]
    assert got[5].startswith(b'* ACL INBOX "user@example.test"') or got[5].startswith(b"* ACL INBOX user@example.test")
    assert got[5].count(b"@") == 1


@pytest.mark.parametrize("name", [b"us\xe9r@example.test", b"\xff"])
def test_a_login_that_is_no_utf8_is_nobody(name: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        imap, pop3 = bench.open("imap"), bench.open("pop3")
        got = await imap.send(b"a LOGIN " + literal(name) + b" secret\r\n")
        assert got.startswith(b"a BAD user name is not UTF-8")
        assert (await pop3.send(b"USER " + name + b"\r\n")).startswith(b"-ERR ")
        assert await pop3.send(b"PASS secret\r\n") == b"-ERR USER comes first\r\n"

    asyncio.run(main())


@pytest.mark.parametrize(
    "text",
    ["imap://" + "a" * 60000, "imap://a@b/c;UID=" + "9" * 5000, "imap://a@b/c;UID=4294967296", "imap://a@b/c;UID=0",
     "imap://a@b/Caf%E9;UID=1", "imap://a@b/c;UID=1;UID=2", "imap://a@b/c;UID=1;EXPIRE=x", "imap://a@b/c;SECTION=1",
     "imap://a@b/c;UID=1;PARTIAL=" + "9" * 40, "imap://a@:1/c;UID=1", "imap://a@b:x/c;UID=1", "imap:///;UID=",
     "imap://é@b/c;UID=1", "imap://a;LOGIN=x@b/c;UID=1", "c;UID=1;OTHER=2"],
)  # fmt: skip
def test_what_is_no_url_of_a_message(text: str) -> None:
    begun = time.monotonic()
    assert url.parse(text) is None
    assert time.monotonic() - begun < QUICK


def test_urls_of_messages() -> None:
    whole = url.parse("imap://a%40b;AUTH=*@host:143/Caf%C3%A9/x;UIDVALIDITY=7/;UID=20/;SECTION=1.2/;PARTIAL=3.4")
    assert whole == url.Url("a@b", "host", "Café/x", 7, 20, "1.2", (3, 4), "")
    assert url.parse("/INBOX;UID=1") == url.Url("", "", "INBOX", 0, 1, "", None, "")
    assert url.parse(";UID=1/;SECTION=HEADER") == url.Url("", "", "", 0, 1, "HEADER", None, "")
    timed = url.parse("imap://a@b/c/;uid=1;expire=2030-01-01T00:00:00Z;urlauth=user+x")
    assert timed is not None and timed.auth.upper() == ";EXPIRE=2030-01-01T00:00:00Z;URLAUTH=USER+X"


def test_a_day_that_is_not_there_has_passed(tmp_path: Path) -> None:
    rump = b"imap://user@example.test/INBOX/;UID=1;EXPIRE=2030-02-31T10:00:00Z;URLAUTH=authuser"

    async def main() -> None:
        client = await login(Bench(str(tmp_path)))
        got = await client.send(b'g GENURLAUTH "' + rump + b'" INTERNAL\r\n')
        whole = got.split(b'"')[1]
        assert (await client.send(b'u URLFETCH "' + whole + b'"\r\n')) == (
            b'* URLFETCH "' + whole + b'" NIL\r\nu OK URLFETCH completed\r\n'
        )

    asyncio.run(main())


def test_keywords_are_bounded(tmp_path: Path) -> None:
    many = b" ".join(b"k%d" % n for n in range(9000))
    got = run(tmp_path, b"a SELECT INBOX", b"b STORE 1:* -FLAGS (" + many + b")", b"c UID STORE 1 +FLAGS " + b"k" * 300)
    assert b"b BAD" in got[1] and b"c BAD a shorter keyword" in got[2]
