"""What becomes of a message that has come: its header gets an end, what users send is completed before filters see it."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.message import summary
from fastmail.net.connection import Connection
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks
from fastmail.smtp import accept
from fastmail.smtp.accept import _vouched
from tests.support.homes import local_store
from tests.support.sessions import USER, Bench, Client
from tests.unit.smtp.test_milter import Filter, milter

LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0user@example.test\0secret") + b"\r\n"


async def send(client: Client, kind: str, message: bytes, *rcpts: str) -> bytes:
    """The reply to the message (LF), sent to the user by the service of that kind."""
    hello = b"LHLO me\r\n" if kind == "lmtp" else b"EHLO me\r\n"
    await client.send(hello + (LOGIN if kind == "submission" else b""))
    sender = USER.encode() if kind == "submission" else b"a@b.test"
    to = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in rcpts or [USER])
    reply = await client.send(b"MAIL FROM:<" + sender + b">\r\n" + to + b"DATA\r\n")
    assert reply.endswith(b"354 end with CRLF . CRLF\r\n"), reply
    return await client.send(message.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n") + b".\r\n")


def kept(bench: Bench) -> list[bytes]:
    return [bytes(m.content) for box in bench.store.boxes.values() for m in box.messages]  # type: ignore[attr-defined]


def received(path: Path, kind: str, message: bytes, **options: Any) -> bytes:
    """What is in the mailbox, without trace fields."""

    async def scenario() -> bytes:
        bench = Bench(str(path), **options)
        assert (await send(bench.open(kind), kind, message)).startswith(b"250 2.0.0")
        (content,) = kept(bench)
        return content

    content = asyncio.run(scenario())
    return content[content.index(b"+0000\n") + 6 :]


@pytest.mark.parametrize("kind", ["smtp", "submission", "lmtp"])
@pytest.mark.parametrize(
    "text",
    [
        b"Paper jam in tray 2\nsecond line\n",
        b"Paper jam in tray 2\n\nsecond paragraph\n",
        b"From tomorrow on: nothing\nprinter: none\n",
        b"x\n" * 200_000,
    ],
    ids=range(4),
)
def test_a_message_that_begins_with_its_text(tmp_path: Path, kind: str, text: bytes) -> None:
    content = received(tmp_path, kind, text)
    parsed = summary.read(mime.scan(content))
    assert parsed is not None
    assert content[parsed.parts[0].body : parsed.parts[0].end] == text
    assert (kind == "submission") == (b"\nDate: " in b"\n" + content[: parsed.parts[0].body])


@pytest.mark.parametrize("hello", ["HELO", "EHLO"])
def test_the_trace_says_how_a_message_came(tmp_path: Path, hello: str) -> None:
    """RFC 5321 4.4: SMTP after HELO, ESMTP after EHLO; the last greeting counts."""

    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("smtp")
        await client.send(b"EHLO first\r\nHELO second\r\n" if hello == "HELO" else b"HELO first\r\nEHLO second\r\n")
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<%b>\r\nDATA\r\n" % USER.encode())
        assert (await client.send(b"Subject: s\r\n\r\n.\r\n")).startswith(b"250 2.0.0")
        (content,) = kept(bench)
        word = b"SMTP" if hello == "HELO" else b"ESMTP"
        assert b" with %b" % word in content.replace(b"\n\t", b" ").replace(b"\n ", b" ")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_a_message_with_a_header_is_kept_as_it_is(tmp_path: Path, kind: str) -> None:
    message = b"Subject: x\nbroken\nTo : me\n\nbody\nFrom: x\n"
    assert received(tmp_path, kind, message) == message


LONG_TO = b"To: " + b",\n ".join(b"user%d@far.example.test" % n for n in range(12_000)) + b"\n"


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (
            LONG_TO
            + b"Bcc: secret@b.test\nDate: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <1@b.test>\nFrom: user@example.test\n",
            None,
        ),
        (b"Bcc: a\nBCC : b,\n\tc\nDate: x\nResent-Bcc:\n d\nMessage-ID: <1@b.test>\nFrom: user@example.test\n", None),
        (b"Bcc: a\n" * 40_000 + b"From: user@example.test\nmessage-id : <1@b.test>\ndate: x\n", None),
    ],
    ids=["behind a long field", "several", "many"],
)
def test_a_header_of_any_length_is_completed(tmp_path: Path, header: bytes, left: None) -> None:
    content = received(tmp_path, "submission", header + b"\nBcc: no field\n")
    head, _, body = content.partition(b"\n\n")
    lower = b"\n" + head.lower()
    assert body == b"Bcc: no field\n" and b"bcc" not in lower and b"secret" not in lower
    assert lower.count(b"\ndate") == lower.count(b"\nmessage-id") == lower.count(b"\nfrom") == 1


def test_filters_of_users_see_what_will_be_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}).start()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(one)]})
        assert (await send(bench.open("submission"), "submission", b"Bcc: x\nSubject: y\n\nbody\n")).startswith(b"250")
        (content,) = kept(bench)
        names = [said.partition(b"\0")[0] for said in one.said("L")]
        assert names == [b"From", b"Date", b"Message-ID", b"Subject"]
        shown = b"".join(said.replace(b"\0", b": ", 1).replace(b"\0", b"\n") for said in one.said("L"))
        assert content.endswith(shown + b"\nbody\n")

    asyncio.run(scenario())


def test_what_users_send_says_whose_complaints_it_counts_in(tmp_path: Path) -> None:
    told, whole = b"Feedback-ID: 1:example.test:user:example1\n", b"From: user@example.test\nSubject: x\n\nbody\n"
    options = {"outbound": {"feedback_id": "example1"}}
    assert told in received(tmp_path, "submission", whole, **options)
    assert b"Feedback-ID" not in received(tmp_path, "smtp", whole, **options)
    own = received(tmp_path, "submission", b"Feedback-ID: a:b:c:another\n" + whole, **options)
    assert told not in own and b"Feedback-ID: a:b:c:another\n" in own


@pytest.mark.parametrize(
    ("mechanism", "domain", "vouched"),
    [("ip4:192.0.2.1", "b.test", True), ("+all", "b.test", False), ("all", "b.test", False), ("mx", "c.test", False)],
)
def test_an_author_without_a_policy_is_vouched_for_by_spf(mechanism: str, domain: str, vouched: bool) -> None:
    """But not where anybody may send for the domain: a stranger would write to lists as their members."""
    spf = Checked("pass", "mailfrom", domain, mechanism)
    assert _vouched(Checks(sender=spf, dmarc=Dmarc("none", domain="a.b.test" if vouched else "b.test"))) is vouched


@pytest.mark.parametrize("text", [b"Subject: x\n\nbody\n", b"no header\n", b"x\n" * 200_000], ids=range(3))
def test_lmtp_that_nobody_is_asked_about_ends_as_by_all_steps(
    tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(name: str) -> tuple[bytes, bytes]:
        (tmp_path / name).mkdir()
        bench = Bench(str(tmp_path / name))
        reply = await send(bench.open("lmtp"), "lmtp", text, USER, USER.replace("@", "+detail@"))
        (content,) = kept(bench)
        number = reply.split(b"> ")[1].split()[0]
        front, date = content.index(b";\n\t"), content.index(b"+0000\n")
        return reply.replace(number, b"ID"), content[:front].replace(number, b"ID") + content[date:]

    short = asyncio.run(scenario("short"))
    assert short[0].count(b"250 2.0.0 <") == 2
    steps: list[object] = []
    take = accept._take

    def by_steps(*given: Any) -> Any:
        steps.append(given)
        return take(*given)

    monkeypatch.setattr(accept, "_take", by_steps)
    monkeypatch.setattr(accept, "asks_nobody", lambda session: False)
    assert asyncio.run(scenario("steps")) == short
    assert len(steps) == 1


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_lmtp_that_nobody_is_asked_about_takes_no_task(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = local_store(str(tmp_path / "data"), kind=kind)
        await store.start()
        try:
            bench = Bench(str(tmp_path), store)
            client = bench.open("lmtp")
            assert (await send(client, "lmtp", b"Subject: first\n\n")).startswith(b"250 2.0.0")  # opens the account
            tasks: list[object] = []
            monkeypatch.setattr(Connection, "_run", lambda *given: tasks.append(given))
            assert (await send(client, "lmtp", b"Subject: second\n\n")).startswith(b"250 2.0.0")
            assert not tasks
        finally:
            await store.close()

    asyncio.run(scenario())
