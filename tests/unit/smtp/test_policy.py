"""Which sessions check what comes in, and what becomes of it (RFC 8601 5, RFC 9989 5.3)."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.greylist import Greylist
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Received, Settings
from tests.support.sessions import USER, Bench
from tests.support.signing import MESSAGE, key, published, signed
from tests.unit.policy.test_receive import ZONE

START = b"EHLO mail.example.org\r\nMAIL FROM:<joe@example.org>\r\nRCPT TO:<user@example.test>\r\n"


def run(path: Path, content: bytes, host: str = "192.0.2.1", protocol: str = "smtp", bdat: int = 0, **more: Any) -> Any:
    """(reply, mailboxes with their messages, names that were asked for)."""
    names = MemoryResolver({**ZONE, **published(key())})
    settings = Settings("mx.example.test", enforce=more.pop("enforce", False))

    async def main() -> Any:
        bench = Bench(str(path), outbound={"policy": Receiver(names, settings), **more})
        client = bench.open(protocol, host)
        await client.send((b"LHLO x\r\n" + START[START.index(b"MAIL") :]) if protocol == "lmtp" else START)
        wire = content.replace(b"\n", b"\r\n")
        if bdat:
            parts = [wire[at : at + bdat] for at in range(0, len(wire), bdat)]
            reply = b""
            for part in parts:
                last = b" LAST" if part is parts[-1] else b""
                reply = await client.send(b"BDAT %d%b\r\n%b" % (len(part), last, part))
        else:
            await client.send(b"DATA\r\n")
            reply = await client.send(wire + b".\r\n")
        account = bench.deliverer.account(bench.directory.accounts[USER])
        await bench.store.open(account)
        boxes = {}
        for name in ("INBOX", "Junk"):
            key_ = bench.store.find(account, name)
            boxes[name] = [m.content for m in bench.store.boxes[key_].messages] if key_ else []  # type: ignore[attr-defined]
        await client.send(b"RSET\r\n")
        return reply, boxes, names.asked

    return asyncio.run(main())


@pytest.mark.parametrize("bdat", [0, 100])
def test_mail_from_others_is_checked(tmp_path: Path, bdat: int) -> None:
    reply, boxes, _ = run(tmp_path, b"Authentication-Results: mx.example.test; dkim=pass\n" + signed(), bdat=bdat)
    assert reply.startswith(b"250")
    (content,) = boxes["INBOX"]
    assert content.count(b"Authentication-Results:") == 1
    for word in (b"spf=pass", b"dkim=pass", b"dmarc=pass"):
        assert word in content
    assert content.index(b"Received:") < content.index(b"Authentication-Results:") < content.index(b"DKIM-Signature:")


def test_mail_of_this_machine_of_users_and_of_trusted_networks_is_not(tmp_path: Path) -> None:
    exempt = {"exempt": [networks.parse("192.0.2.0/24")]}
    for number, (host, protocol, more) in enumerate(
        [("127.0.0.1", "smtp", {}), ("192.0.2.1", "lmtp", {}), ("192.0.2.1", "smtp", exempt)]
    ):
        reply, boxes, asked = run(tmp_path / str(number), MESSAGE, host, protocol, **more)  # type: ignore[arg-type]
        assert reply.startswith(b"250") and asked == []
        assert b"Authentication-Results" not in boxes["INBOX"][0]


def test_a_verdict_is_acted_upon_where_the_setting_says_so(tmp_path: Path) -> None:
    far = "198.51.100.9"
    reply, boxes, _ = run(tmp_path / "1", MESSAGE, far)
    assert reply.startswith(b"250") and b"dmarc=fail" in boxes["INBOX"][0]
    reply, boxes, _ = run(tmp_path / "2", MESSAGE, far, enforce=True)
    assert reply.startswith(b"550 5.7.1 DMARC") and boxes == {"INBOX": [], "Junk": []}
    reply, boxes, _ = run(tmp_path / "3", b"List-Id: <l.test>\n" + MESSAGE, far, enforce=True)
    assert reply.startswith(b"250") and len(boxes["Junk"]) == 1


def test_the_subject_of_junk_gets_a_tag(tmp_path: Path) -> None:
    names = MemoryResolver(ZONE)
    settings = Settings("mx.example.test", enforce=True, subject_tag="[SPAM]")

    async def main() -> bytes:
        bench = Bench(str(tmp_path), outbound={"policy": Receiver(names, settings)})
        client = bench.open("smtp", "198.51.100.9")
        await client.send(START + b"DATA\r\n")
        content = b"List-Id: <l.test>\n" + MESSAGE
        assert (await client.send(content.replace(b"\n", b"\r\n") + b".\r\n")).startswith(b"250")
        account = bench.deliverer.account(bench.directory.accounts[USER])
        await bench.store.open(account)
        return bench.store.boxes[bench.store.find(account, "Junk")].messages[0].content  # type: ignore[attr-defined, no-any-return]

    assert b"\nSubject: [SPAM] Is dinner ready?\n" in asyncio.run(main())


def test_unknown_senders_with_a_score_are_put_off(tmp_path: Path) -> None:
    """RFC 6647: 450 at the end of the data, and taken when the time is over."""
    zone = {name: found for name, found in ZONE.items() if not name[0].startswith(("_dmarc", "1.2.0"))}
    settings = Settings("mx.example.test", enforce=True, greylist=1.0)

    async def send(delay: float) -> bytes:
        receiver = Receiver(MemoryResolver(zone), settings, Greylist(str(tmp_path), delay))
        client = Bench(str(tmp_path), outbound={"policy": receiver}).open("smtp", "192.0.2.1")
        await client.send(START.replace(b"joe@example.org", b"joe@nowhere.test"))
        await client.send(b"DATA\r\n")
        return await client.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n")

    assert asyncio.run(send(300.0)).startswith(b"450 4.7.1 not known here yet: try again in 300 seconds")
    assert asyncio.run(send(300.0)).startswith(b"450 4.7.1")
    assert asyncio.run(send(0.0)).startswith(b"250")
    assert asyncio.run(send(300.0)).startswith(b"250")


def test_binary_mail_is_verified_as_it_came(tmp_path: Path) -> None:
    """RFC 3030: it is kept in base64, which no signature would survive."""
    names = MemoryResolver({**ZONE, **published(key())})
    kind = b"MIME-Version: 1.0\nContent-Type: application/x\nContent-Transfer-Encoding: binary\n\n"
    content = signed(MESSAGE.replace(b"\n\n", b"\n" + kind, 1).replace(b"Joe.\n", b"Joe\x00\x01.\n")).replace(
        b"\n", b"\r\n"
    )

    async def main() -> bytes:
        bench = Bench(str(tmp_path), outbound={"policy": Receiver(names, Settings("mx.example.test"))})
        client = bench.open("smtp", "192.0.2.1")
        await client.send(START.replace(b"org>\r\nRCPT", b"org> BODY=BINARYMIME\r\nRCPT"))
        reply = await client.send(b"BDAT %d LAST\r\n%b" % (len(content), content))
        assert reply.startswith(b"2"), reply
        account = bench.deliverer.account(bench.directory.accounts[USER])
        await bench.store.open(account)
        return bench.store.boxes[bench.store.find(account, "INBOX")].messages[0].content  # type: ignore[attr-defined, no-any-return]

    assert b"dkim=pass" in asyncio.run(main())


class Heard:
    """What sessions say about messages, and one that ends here."""

    def __init__(self, ends: bool) -> None:
        self.noted: list[tuple[str, str, list[str], str]] = []
        self.logins: list[str] = []
        self.ends = ends

    def note(self, received: Received, ip: str, sender: str, recipients: list[str], content: bytes) -> None:
        self.noted.append((ip, sender, recipients, received.checks.dmarc.result))

    async def take(self, recipients: list[str], content: bytes, received: Received | None, login: str = "") -> bool:
        self.logins.append(login)
        return self.ends


def test_checked_messages_are_counted_and_reports_may_end_here(tmp_path: Path) -> None:
    heard = Heard(False)
    reply, boxes, _ = run(tmp_path / "1", signed(), feedback=heard)
    assert heard.noted == [("192.0.2.1", "joe@example.org", [USER], "pass")] and len(boxes["INBOX"]) == 1
    reply, _, _ = run(tmp_path / "2", MESSAGE, "198.51.100.9", enforce=True, feedback=heard)
    assert reply.startswith(b"550") and heard.noted[-1] == ("198.51.100.9", "joe@example.org", [USER], "fail")
    reply, boxes, _ = run(tmp_path / "3", signed(), feedback=Heard(True))
    assert reply.startswith(b"250") and boxes["INBOX"] == []
    quiet = Heard(True)
    reply, boxes, _ = run(tmp_path / "4", MESSAGE, protocol="lmtp", feedback=quiet)
    assert reply.startswith(b"250") and boxes["INBOX"] == [] and quiet.noted == []


def test_what_users_send_may_be_a_report(tmp_path: Path) -> None:
    async def main() -> None:
        heard = Heard(True)
        client = Bench(str(tmp_path), outbound={"feedback": heard}).open("submission")
        await client.send(b"EHLO x\r\nAUTH PLAIN " + base64.b64encode(b"\0user@example.test\0secret") + b"\r\n")
        await client.send(b"MAIL FROM:<user@example.test>\r\nRCPT TO:<other@example.test>\r\nDATA\r\n")
        assert (await client.send(b"From: user@example.test\r\n\r\nx\r\n.\r\n")).startswith(b"250")
        assert heard.logins == [USER] and heard.noted == []

    asyncio.run(main())
