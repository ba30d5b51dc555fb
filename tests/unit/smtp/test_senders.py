"""S18: a user's message names its author rightly, in the envelope and in the header, however its content comes."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.auth.send_as import Rules
from fastmail.auth.send_as import parse as rules_of
from fastmail.directory.records import Domain
from fastmail.model.errors import ConfigError
from fastmail.telemetry import counters
from tests.support.sessions import USER, Bench, Client
from tests.unit.smtp.test_burl import PLACE, draft, url
from tests.unit.smtp.test_milter import Filter, milter

LOGIN = base64.b64encode(f"\0{USER}\0secret".encode())
OTHER = "other@example.test"


def bench_of(path: Path, header: str = "refuse", *send_as: str, **more: Any) -> Bench:
    bench = Bench(str(path), outbound={"senders": rules_of(header, send_as), **more})
    bench.directory.aliases["sales@example.test"] = [USER]
    bench.directory.aliases["info@xn--fhre-loa.test"] = [USER]
    bench.directory.domains["xn--fhre-loa.test"] = Domain("fähre.test")
    bench.directory.aliases["boss@example.test"] = [OTHER]
    return bench


async def begin(bench: Bench, sender: str = USER, smtputf8: bool = False) -> Client:
    client = bench.open("submission")
    await client.send(b"EHLO me.test\r\nAUTH PLAIN " + LOGIN + b"\r\n")
    utf8 = b" SMTPUTF8" if smtputf8 else b""
    assert b"250 2.1.0" in await client.send(f"MAIL FROM:<{sender}>".encode() + utf8 + b"\r\n")
    assert b"250 2.1.5" in await client.send(f"RCPT TO:<{USER}>\r\n".encode())
    return client


async def by_data(bench: Bench, message: bytes) -> bytes:
    client = await begin(bench, smtputf8=not message.isascii())
    await client.send(b"DATA\r\n")
    return await client.send(message + b"\r\n.\r\n")


async def by_bdat(bench: Bench, message: bytes) -> bytes:
    """In pieces of three octets."""
    client = await begin(bench, smtputf8=not message.isascii())
    for at in range(0, len(message), 3):
        await client.send(b"BDAT %d\r\n" % len(message[at : at + 3]) + message[at : at + 3])
    return await client.send(b"BDAT 0 LAST\r\n")


async def by_binary(bench: Bench, message: bytes) -> bytes:
    client = await begin(bench)
    await client.send(f"RSET\r\nMAIL FROM:<{USER}> BODY=BINARYMIME\r\nRCPT TO:<{USER}>\r\n".encode())
    return await client.send(b"BDAT %d LAST\r\n" % len(message) + message)


async def by_burl(bench: Bench, message: bytes) -> bytes:
    place = await of_draft(bench, message)
    client = await begin(bench, smtputf8=not message.isascii())
    return await client.send(b"BURL " + place + b" LAST\r\n")


async def by_both(bench: Bench, message: bytes) -> bytes:
    """A header that comes in two pieces: the first line by BDAT, the others by BURL."""
    half = message.index(b"\r\n") + 2
    place = await of_draft(bench, message[half:])
    client = await begin(bench, smtputf8=not message.isascii())
    await client.send(b"BDAT %d\r\n" % half + message[:half])
    return await client.send(b"BURL " + place + b" LAST\r\n")


async def of_draft(bench: Bench, content: bytes) -> bytes:
    """The URL of a new draft."""
    client = await draft(bench, content)
    uid = re.search(rb"UIDNEXT (\d+)", await client.send(b"s STATUS Drafts (UIDNEXT)\r\n"))
    assert uid is not None
    return await url(client, place=f"{PLACE[:-1]}{int(uid[1]) - 1}")


WAYS: dict[str, Callable[[Bench, bytes], Awaitable[bytes]]] = {
    "data": by_data,
    "bdat": by_bdat,
    "binary": by_binary,
    "burl": by_burl,
    "both": by_both,
}


def kept(bench: Bench) -> int:
    """Messages in the INBOX."""
    return sum(
        len(box.messages)
        for box in bench.store.boxes.values()  # type: ignore[attr-defined]
        if box.row.name == "INBOX"
    )


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


OWN = [
    f"From: {USER}",
    f"From: Somebody Else <{USER}>",
    f'From: "boss@example.test" <{USER.upper()}>',
    "From: user+list@example.test",
    "From: sales@example.test",
    "From: sales+x@example.test",
    "From: info@xn--fhre-loa.test",
    "From: info@FÄHRE.test",
    "From: Info <info+x@fähre.test>",
    'From: "user"@example.test',
    "From: user(boss@example.test)@(b)example(c).test",
    f"From: {USER}, sales@example.test\r\nSender: {USER}",
    f"From: We: {USER}, sales@example.test;",
    f"From:\r\n {USER}",
    f"From: <@boss.test:{USER}>",
    f"From: {USER}\r\nResent-From: sales@example.test\r\nResent-Sender: {USER}",
    "Subject: without an author",
    f"From: {USER}\r\nReply-To: boss@example.test\r\nTo: boss@example.test",
]
FOREIGN = [
    "From: boss@example.test",
    "From: other@example.test",
    "From: user@far.test",
    "From: user@example.test.evil.test",
    "From: user@sub.example.test",
    f"From: {USER} <boss@example.test>",
    "From: =?utf-8?q?user=40example=2Etest?= <boss@example.test>",
    "From: =?utf-8?q?boss=40example=2Etest?=",
    "From: =?utf-8?b?Ym9zc0BleGFtcGxlLnRlc3Q=?=@example.test",
    "From: user+=?utf-8?b?Ym9zc0BleGFtcGxlLnRlc3QA?=@example.test",
    f"From: {USER}, boss@example.test",
    f"From: boss@example.test, {USER}\r\nSender: {USER}",
    f"From: We: {USER}, boss@example.test;",
    f"From: We: {USER};, boss@example.test",
    "From: Nobody:;",
    f"From: {USER}\r\nFrom: boss@example.test",
    f"From: boss@example.test\r\nFrom: {USER}",
    f"From: {USER}\r\nFROM : boss@example.test",
    f"From: {USER}\r\nFrom\t:\r\n\tboss@example.test",
    f"From: {USER}\r\nSender: boss@example.test",
    f"From: {USER}\r\nSender:",
    f"From: {USER}\r\nResent-From: boss@example.test",
    f"From: {USER}\r\nResent-Sender: boss@example.test",
    f"From: {USER}\r\nResent-From: {USER}\r\nResent-From: boss@example.test",
    "From: boss@example.test\r\nSender: user@example.test\r\nResent-From: user@example.test",
    "From: <@example.test:boss@example.test>",
    f"From: <@{USER}:boss@example.test>",
    "From: bo(x)ss@example.test (user@example.test)",
    "From: boss (\\) @ example . test",
    "From: boss\r\n @example.test",
    'From: "boss"@example.test',
    'From: "user@example.test"@far.test',
    f"From: {USER} boss@example.test",
    f"From: <{USER}> <boss@example.test>",
    f"From: {USER}; boss@example.test",
    f'From: "{USER}',
    "From: info@xn--fhre-loa.example",
    "From: info@fähre.example",
    "From: user@exаmple.test",
    "From: nobody@any.test",
    "From: user",
    f"From: {USER}\r\nSubject: " + "x" * 9000 + "\r\nFrom: boss@example.test",
    "From: " + ", ".join([USER] * 101),
]


@pytest.mark.parametrize("way", WAYS)
def test_s18_headers_of_the_login(tmp_path: Path, way: str) -> None:
    async def work() -> None:
        bench = bench_of(tmp_path)
        for number, fields in enumerate(OWN, 1):
            if way == "binary" and not fields.isascii():
                continue
            got = await WAYS[way](bench, fields.encode() + b"\r\nTo: x@y.test\r\n\r\nFrom: boss@example.test\r\n")
            assert got.splitlines()[-1].startswith(b"250 2.0.0"), (fields, got)
            assert way != "data" or kept(bench) == number

    run(work)


@pytest.mark.parametrize("way", WAYS)
def test_s18_headers_of_others(tmp_path: Path, way: str) -> None:
    """Refused with words that say what to do; the session goes on."""

    async def work() -> None:
        bench = bench_of(tmp_path)
        for fields in FOREIGN:
            got = await WAYS[way](bench, fields.encode() + b"\r\nTo: x@y.test\r\n\r\nbody\r\n")
            last = got.splitlines()[-1]
            assert last.startswith(b"550 5.7.1 ") and b"[auth] send_as" in last and last.isascii(), (fields, got)
            assert len(last) < 512
        assert kept(bench) == 0

    run(work)


def test_s18_a_header_whose_lines_end_otherwise(tmp_path: Path) -> None:
    """BINARYMIME may bring a bare CR or LF, which programs end a line at; in the text it stays."""

    async def work() -> None:
        bench = bench_of(tmp_path)
        for odd in (b"\r", b"\n", b"\n\r", b"\r\r\n"):
            message = f"From: {USER}\r\nSubject: x".encode() + odd + b"From: boss@example.test\r\n\r\nx"
            assert (await by_binary(bench, message)).splitlines()[-1].startswith(b"550 5.7.1 "), odd
        got = await by_binary(bench, f"From: {USER}\r\n\r\nx\rFrom: boss@example.test\r\n".encode())
        assert got.splitlines()[-1].startswith(b"250 2.0.0")

    run(work)


def test_s18_a_header_without_its_end(tmp_path: Path) -> None:
    """Lines that are no fields do not hide one."""

    async def work() -> None:
        bench = bench_of(tmp_path)
        for message in (
            f"From: {USER}\r\nnonsense\r\nFrom: boss@example.test\r\n\r\nbody",
            f"From: {USER}\r\n \r\nFrom: boss@example.test\r\n\r\nbody",
            "From: boss@example.test\r\nno field follows, and no empty line",
            "From: boss@example.test",
            f" folded\r\nFrom: {USER}\r\nSender: boss@example.test\r\n\r\n",
        ):
            got = await by_data(bench, message.encode())
            assert got.startswith(b"550 5.7.1 "), (message, got)
        large = f"From: {USER}\r\n".encode() + b"X-Y: z\r\n" * 60000 + b"Sender: boss@example.test\r\n\r\nbody"
        assert (await by_data(bench, large)).startswith(b"550 5.7.1 ")

    run(work)


EXCEPTIONS = [
    (f"{USER} boss@example.test", ["boss@example.test", "BOSS@EXAMPLE.test"], ["third@example.test", "boss@far.test"]),
    (f"{USER} @far.test", ["x@far.test", "y@FAR.test"], ["x@sub.far.test", "boss@example.test"]),
    ("@example.test @fähre.example", ["x@xn--fhre-loa.example", "x@fähre.example"], ["x@far.test"]),
    (f"{USER} *", ["x@far.test", "boss@example.test"], []),
    (f"{OTHER} *", [], ["x@far.test"]),
    ("@far.test *", [], ["x@far.test"]),
]


@pytest.mark.parametrize(("rule", "may", "may_not"), EXCEPTIONS)
def test_s18_exceptions_by_account_and_domain(tmp_path: Path, rule: str, may: list[str], may_not: list[str]) -> None:
    """They count for the envelope and for the header."""

    async def work() -> None:
        bench = bench_of(tmp_path, "refuse", rule)
        for address in [*may, *may_not]:
            got = await by_data(bench, f"From: {USER}\r\nSender: {address}\r\n\r\nx".encode())
            assert got.startswith(b"250" if address in may else b"550"), (address, got)
            client = bench.open("submission")
            await client.send(b"EHLO me.test\r\nAUTH PLAIN " + LOGIN + b"\r\n")
            got = await client.send(f"MAIL FROM:<{address}> SMTPUTF8\r\n".encode())
            assert got.startswith(b"250" if address in may else b"553"), (address, got)

    run(work)


def test_s18_only_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        bench = bench_of(tmp_path, "log")
        before = counters.snapshot().get("smtp.senders_foreign", 0)
        assert (await by_data(bench, b"From: boss@example.test\r\n\r\nx")).startswith(b"250")
        assert counters.snapshot()["smtp.senders_foreign"] == before + 1
        said = capsys.readouterr().err
        assert "event=smtp.sender " in said and "boss@example.test" in said and USER in said
        assert (await by_data(bench, f"From: {USER}\r\n\r\nx".encode())).startswith(b"250")
        assert "smtp.sender" not in capsys.readouterr().err
        bench = bench_of(tmp_path, "off")
        assert (await by_data(bench, b"From: boss@example.test\r\n\r\nx")).startswith(b"250")
        assert "smtp.sender" not in capsys.readouterr().err

    run(work)


def test_s18_filters_are_not_asked_about_it(tmp_path: Path) -> None:
    """They see messages that name their author rightly only; what they change is the administrator's own doing."""

    async def work() -> None:
        one = await Filter({}).start()
        bench = bench_of(tmp_path, milters=[milter(one)])
        assert (await by_data(bench, b"From: boss@example.test\r\n\r\nx")).startswith(b"550 5.7.1")
        assert one.said("L") == []
        assert (await by_data(bench, f"From: {USER}\r\n\r\nx".encode())).startswith(b"250")
        assert f"From\0{USER}\0".encode() in one.said("L")
        one.server.close()

    run(work)


def test_s18_others_are_not_asked(tmp_path: Path) -> None:
    """Mail from other servers and by LMTP has any author."""

    async def work() -> None:
        bench = bench_of(tmp_path)
        for kind, hello in (("smtp", b"EHLO me\r\n"), ("lmtp", b"LHLO me\r\n")):
            client = bench.open(kind)
            await client.send(hello + b"MAIL FROM:<a@far.test>\r\n" + f"RCPT TO:<{USER}>\r\nDATA\r\n".encode())
            assert (await client.send(b"From: boss@example.test\r\n\r\nx\r\n.\r\n")).startswith(b"250")

    run(work)


def test_rules_that_cannot_be_meant() -> None:
    for header, rules in (
        ("maybe", []),
        ("refuse", ["a@x.test"]),
        ("refuse", ["a *"]),
        ("refuse", ["a@x.test b"]),
        ("refuse", [""]),
    ):
        with pytest.raises(ConfigError, match="header_senders|send_as"):
            rules_of(header, rules)
    found = rules_of("log", ["A@x.test b@y.test", "a@X.test @Z.test"])
    assert found.send_as == {"a@x.test": frozenset({"b@y.test", "@z.test"})}
    assert Rules().header == "refuse"
