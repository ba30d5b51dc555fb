"""The content of mail is shown to scanners, and what they say is done (RFC 5321 4.2.5)."""

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.judge import Judge
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.scanners.nouns import Shown
from fastmail.policy.scanners.panel import Panel
from fastmail.policy.verdict import Thresholds
from fastmail.policy.wishes import Wishes
from fastmail.smtp import accept
from fastmail.smtp.milter import Filters, Milter
from tests.support.scanning import far, scanner
from tests.support.sessions import USER, Bench
from tests.unit.smtp.test_milter import Filter

MESSAGE = b"X-Spam-Flag: NO\nX-Virus-Status: Clean\nX-Old: 1\nFrom: joe@example.org\nSubject: x\n\nHello.\n"
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0user@example.test\0secret") + b"\r\n"
SPAM = Finding("s", "7/5", (Reason("s", 7.0),), "junk", remove=((b"x-old", 0),), add=(("X-Added", "yes"),))
AWAY = Finding("v", "away", (Reason("v.away", 0.0),), "later", (451, "4.7.1", "not now"), always=True, virus="unknown")
CLEAN = Finding("v", "clean", virus="clean")
VIRUS = Finding("v", "virus E", (), "refuse", (554, "5.7.1", "infected: E"), always=True, virus="infected")


class Says(Judge):
    """Somebody who looks at all mail and says the same of it."""

    def __init__(self, found: Sequence[Finding], enforce: bool = False) -> None:
        super().__init__(Panel([]), Thresholds(), enforce)
        self.found, self.seen, self.owners = found, list[tuple[str, Shown]](), list[int]()

    def wanted(self, where: str) -> bool:
        return True

    async def look(self, where: str, shown: Shown, owner: int = 0) -> list[Finding]:
        self.seen.append((where, shown))
        self.owners.append(owner)
        return list(self.found)


def run(
    path: Path, judge: Judge, kind: str = "smtp", host: str = "192.0.2.1", content: bytes = MESSAGE, **more: Any
) -> Any:
    """(reply, {mailbox: messages})."""

    async def main() -> Any:
        policy = Receiver(MemoryResolver({}), Settings("mx.example.test", reverse=False, enforce=judge.enforce))
        bench = Bench(str(path), outbound={"policy": policy, "judge": judge, **more}, message_size=1 << 26)
        client = bench.open(kind, host)
        sender = USER.encode() if kind == "submission" else b"joe@example.org"
        await client.send(
            (b"LHLO x\r\n" if kind == "lmtp" else b"EHLO x\r\n") + (LOGIN if kind == "submission" else b"")
        )
        wire = (content if kind != "submission" else content.replace(b"joe@example.org", USER.encode())).replace(
            b"\n", b"\r\n"
        )
        await client.send(b"MAIL FROM:<" + sender + b">\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        reply = await client.send(wire + b".\r\n")
        account = bench.deliverer.account(bench.directory.accounts[USER])
        await bench.store.open(account)
        keys = {name: bench.store.find(account, name) for name in ("INBOX", "Junk")}
        return reply, {n: [bytes(m.content) for m in bench.store.boxes[k].messages] for n, k in keys.items() if k}  # type: ignore[attr-defined]

    return asyncio.run(main())


def test_strangers_mail_has_our_fields_and_no_others(tmp_path: Path) -> None:
    judge = Says([SPAM])
    reply, boxes = run(tmp_path, judge)
    assert reply.startswith(b"250")
    (content,) = boxes["INBOX"]  # nothing is done without enforce
    assert content.count(b"X-Spam-Flag: ") == 1 and b"X-Spam-Flag: YES\n" in content
    assert b"X-Virus" not in content and b"X-Old" not in content and b"X-Added: yes\n" in content
    assert b"X-Spam-Status: Yes, score=7 required=5\n\ttests=s\n" in content
    assert content.index(b"Authentication-Results:") < content.index(b"X-Spam-Status") < content.index(b"From:")
    ((where, shown),) = judge.seen
    assert (where, shown.sender, shown.recipients, shown.ip) == (
        "smtp",
        "joe@example.org",
        ["user@example.test"],
        "192.0.2.1",
    )
    assert bytes(shown.content) == MESSAGE and judge.owners == [1], "it is for one account"
    assert shown.front.startswith(
        b"Return-Path: <joe@example.org>\nReceived: from x ([192.0.2.1])\n\tby mx.example.test with ESMTP"
    )
    assert b"\nAuthentication-Results: mx.example.test;" in shown.front and shown.front.endswith(b"\n")


def test_spam_goes_to_junk_where_the_verdict_counts(tmp_path: Path) -> None:
    reply, boxes = run(tmp_path, Says([SPAM], enforce=True))
    assert reply.startswith(b"250") and boxes["INBOX"] == [] and len(boxes["Junk"]) == 1


@pytest.mark.parametrize("enforce", [False, True])
def test_viruses_and_scanners_that_are_away_count_always(tmp_path: Path, enforce: bool) -> None:
    reply, boxes = run(tmp_path / "1", Says([SPAM, VIRUS], enforce))
    assert reply == b"554 5.7.1 infected: E\r\n" and boxes == {"INBOX": [], "Junk": []}
    reply, boxes = run(tmp_path / "2", Says([AWAY, SPAM], enforce))
    assert reply == b"451 4.7.1 not now\r\n" and boxes == {"INBOX": [], "Junk": []}
    junk = Finding("v", "virus E", (), "junk", always=True, virus="infected")
    reply, boxes = run(tmp_path / "3", Says([junk], enforce))
    assert reply.startswith(b"250") and boxes["INBOX"] == []
    assert b"X-Virus-Status: Infected\n" in boxes["Junk"][0]


def test_users_mail_is_sent_or_refused(tmp_path: Path) -> None:
    judge = Says([VIRUS])
    reply, boxes = run(tmp_path / "1", judge, "submission")
    assert reply == b"554 5.7.1 infected: E\r\n" and boxes["INBOX"] == []
    ((where, shown),) = judge.seen
    assert (where, shown.login) == ("submission", USER) and b"with ESMTPA id" in shown.front
    reply, boxes = run(tmp_path / "2", Says([SPAM], enforce=True), "submission")
    assert reply.startswith(b"250") and len(boxes["INBOX"]) == 1 and b"X-Spam-Status" not in boxes["INBOX"][0]


def test_whose_mail_nobody_looks_at(tmp_path: Path) -> None:
    exempt = {"exempt": [networks.parse("192.0.2.0/24")]}
    for number, (kind, host, more) in enumerate(
        [("lmtp", "192.0.2.1", {}), ("smtp", "127.0.0.1", {}), ("smtp", "192.0.2.1", exempt)]
    ):
        judge = Says([VIRUS], enforce=True)
        reply, boxes = run(tmp_path / str(number), judge, kind, host, **more)  # type: ignore[arg-type]
        assert reply.startswith(b"250") and judge.seen == [] and len(boxes["INBOX"]) == 1


def test_a_message_that_lies_in_a_file_is_shown_to_a_real_scanner(tmp_path: Path) -> None:
    content = MESSAGE + b"A line of some text.\n" * 50_000

    class There(Judge):
        """Asks a scanner that listens while it is asked."""

        heard: list[bytes] = []

        async def look(self, where: str, shown: Shown, owner: int = 0) -> list[Finding]:
            assert isinstance(shown.content, memoryview), "it is in a file"
            async with far(b"stream: Eicar FOUND\0", read="clamd") as there:
                self._panel = Panel([scanner("clamav", there.address)])
                found = await super().look(where, shown)
                self.heard += there.heard
            return found

    judge = There(Panel([scanner("clamav", "127.0.0.1:1")]), Thresholds(), False)
    reply, boxes = run(tmp_path, judge, content=content)
    assert reply == b"554 5.7.1 the message is infected: Eicar\r\n" and boxes == {"INBOX": [], "Junk": []}
    assert judge.heard == [content] and list(tmp_path.iterdir()) == []


def test_the_received_field_has_the_verified_name(tmp_path: Path) -> None:
    """By it SpamAssassin knows whether the client has one."""
    judge = Says([])
    zone: dict[tuple[str, str], list[Any]] = {
        ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
        ("mail.example.org", "A"): ["192.0.2.1"],
    }
    policy = Receiver(MemoryResolver(zone), Settings("mx.example.test"))
    run(tmp_path, judge, policy=policy)
    ((_, shown),) = judge.seen
    assert b"Received: from x (mail.example.org [192.0.2.1])\n" in shown.front and shown.host == "mail.example.org"


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
@pytest.mark.parametrize(
    ("when", "found"), [("before", VIRUS), ("before", CLEAN), ("looked", VIRUS), ("looked", CLEAN), ("filtered", CLEAN)]
)
def test_who_hangs_up_has_nothing_delivered_that_was_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, when: str, found: Finding
) -> None:
    """Whenever it does so: the scanner, and the filter that refuses the message, are asked all the same."""

    async def main() -> None:
        one = await Filter({"E": [b"r"]}).start()
        judge = Says([found], True)
        policy = Receiver(MemoryResolver({}), Settings("mx.example.test", reverse=False, enforce=True))
        more = {
            "policy": policy,
            "judge": judge,
            "wishes": Wishes(True),
            "milters": [Milter(f"127.0.0.1:{one.port}", otherwise="accept")],
        }
        bench = Bench(str(tmp_path), outbound=more)
        client = bench.open(kind, "192.0.2.1")
        await client.send(b"LHLO x\r\n" if kind == "lmtp" else b"EHLO x\r\n")
        await client.send(b"MAIL FROM:<joe@example.org>\r\n")
        await client.send(b"RCPT TO:<user@example.test>\r\n")
        await client.send(b"DATA\r\n")

        def hangs_up(owner: object, name: str) -> None:
            real = getattr(owner, name)

            async def work(*args: Any, **more: Any) -> Any:
                if not client.connection.closing:
                    client.connection.connection_lost(None)
                return await real(*args, **more)

            monkeypatch.setattr(owner, name, work)

        hangs_up(*{"before": (accept, "take"), "looked": (judge, "look"), "filtered": (Filters, "message")}[when])
        await client.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n")
        assert client.connection.closing and len(judge.seen) == 1
        assert bool(one.said("E")) is (found is CLEAN), "what the scanner refuses is shown to no filter"
        account = bench.deliverer.account(bench.directory.accounts[USER])
        await bench.store.open(account)
        for name in ("INBOX", "Junk"):
            key = bench.store.find(account, name)
            assert not key or not bench.store.boxes[key].messages, name  # type: ignore[attr-defined]
        session = client.connection.session
        assert session.filters is None and session.transaction is None and session.stranger is None  # type: ignore[union-attr]

    asyncio.run(main())
