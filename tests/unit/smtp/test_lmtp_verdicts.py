"""Mail by LMTP is judged for each recipient, which each have a reply (RFC 2033 4.2)."""

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.quarantine import Quarantine
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.verdict import Thresholds
from fastmail.policy.wishes import Wishes
from tests.support.sessions import USER, Bench
from tests.unit.smtp.test_judging import AWAY, SPAM, VIRUS, Says

OTHER = "other@example.test"
ACT = Wishes(enforce=True, thresholds=Thresholds(junk=5.0, refuse=9.0))
MESSAGE = (
    b"Authentication-Results: mx.example.test; dmarc=pass header.from=example.org\nX-Spam-Flag: NO\nX-Old: 1\n"
    b"From: joe@example.org\nSubject: x\n\nHello.\n"
)
HELD = Finding("s", "discard", (Reason("s", 1.0),), "quarantine", (554, "5.7.1", "kept"))


def finding(score: float) -> Finding:
    return Finding("s", f"{score}", (Reason("s", score),))


def run(
    path: Path, found: Sequence[Finding], *to: str, wishes: Wishes | None = ACT, other: dict[str, Any] | None = None
) -> Any:
    """(replies by recipient, {account: {mailbox: messages}}, who looked, the quarantine)."""

    async def main() -> Any:
        judge, kept = Says(found), Quarantine(str(path), 1000.0, 1 << 20)
        bench = Bench(str(path), outbound={"judge": judge, "wishes": wishes, "quarantine": kept})
        if other:
            bench.directory.accounts[OTHER] = replace(bench.directory.accounts[OTHER], **other)
        client = bench.open("lmtp")
        await client.send(b"LHLO x\r\nMAIL FROM:<joe@example.org>\r\n")
        for one in to:
            assert (await client.send(f"RCPT TO:<{one}>\r\n".encode())).startswith(b"250")
        await client.send(b"DATA\r\n")
        replies = (await client.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n")).decode().splitlines()
        boxes: dict[str, dict[str, list[bytes]]] = {}
        for address in (USER, OTHER):
            account = bench.deliverer.account(bench.directory.accounts[address])
            await bench.store.open(account)
            keys = {name: bench.store.find(account, name) for name in ("INBOX", "Junk")}
            boxes[address] = {
                n: [bytes(m.content) for m in bench.store.boxes[k].messages]  # type: ignore[attr-defined]
                for n, k in keys.items()
                if k
            }
        assert (await client.send(b"NOOP\r\n")).startswith(b"250"), "the session goes on"
        return replies, boxes, judge.seen, list(kept.each())

    return asyncio.run(main())


def counts(boxes: dict[str, dict[str, list[bytes]]]) -> list[tuple[int, int]]:
    return [(len(boxes[one]["INBOX"]), len(boxes[one].get("Junk", []))) for one in (USER, OTHER)]


def test_nothing_is_judged_without_the_setting(tmp_path: Path) -> None:
    replies, boxes, seen, _ = run(tmp_path, [VIRUS], USER, wishes=None)
    assert replies[0].startswith("250") and seen == [] and counts(boxes) == [(1, 0), (0, 0)]
    assert b"X-Spam-Flag: NO" in boxes[USER]["INBOX"][0]


def test_each_recipient_has_what_it_asks_for(tmp_path: Path) -> None:
    lenient = {"junk_score": 20.0, "refuse_score": 30.0}
    replies, boxes, seen, _ = run(tmp_path / "1", [finding(10.0)], USER, OTHER, other=lenient)
    assert replies[0] == f"550 5.7.1 <{USER}> this message looks unwanted"
    assert replies[1].startswith("250 2.0.0 <other@example.test> ") and counts(boxes) == [(0, 0), (1, 0)]
    ((where, shown),) = seen
    assert where == "smtp" and shown.recipients == [USER, OTHER]
    replies, boxes, _, _ = run(tmp_path / "2", [finding(6.0)], OTHER, USER, other=lenient)
    assert all(one.startswith("250") for one in replies) and counts(boxes) == [(0, 1), (1, 0)]


def test_the_order_of_replies_is_that_of_recipients(tmp_path: Path) -> None:
    replies, boxes, _, _ = run(
        tmp_path, [finding(10.0)], "team@example.test", USER, OTHER, other={"refuse_score": 50.0, "junk_score": 40.0}
    )
    assert [one[:3] for one in replies] == ["250", "550", "250"], "somebody of the team takes it"
    assert counts(boxes) == [(0, 1), (1, 0)]


def test_viruses_and_absent_scanners_count_without_enforce(tmp_path: Path) -> None:
    watching = Wishes()
    replies, boxes, _, _ = run(tmp_path / "1", [VIRUS], USER, OTHER, wishes=watching)
    assert [one.partition("> ")[2] for one in replies] == ["infected: E"] * 2 and counts(boxes) == [(0, 0), (0, 0)]
    replies, _, _, _ = run(tmp_path / "2", [AWAY], USER, wishes=watching)
    assert replies == [f"451 4.7.1 <{USER}> not now"]
    replies, boxes, _, _ = run(tmp_path / "3", [SPAM], USER, wishes=watching)
    assert replies[0].startswith("250") and counts(boxes)[0] == (1, 0)
    (content,) = boxes[USER]["INBOX"]
    assert content.count(b"X-Spam-Flag") == 1 and b"X-Spam-Flag: YES\n" in content and b"X-Old" not in content
    assert b"Authentication-Results: mx.example.test; dmarc=pass" in content, "that of the MTA in front"


def test_some_of_it_is_kept_back(tmp_path: Path) -> None:
    replies, boxes, _, kept = run(tmp_path, [HELD], USER, OTHER, other={"enforce": False})
    assert [one[:3] for one in replies] == ["250", "250"] and counts(boxes) == [(0, 0), (1, 0)]
    (one,) = kept
    assert one.recipients == [USER] and "discard" in one.why and replies[0].endswith(f"> {one.id} taken")


def test_nothing_is_kept_back_when_delivering_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries all recipients again, and the message would be in quarantine twice."""

    async def fails(*_: Any) -> None:
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(Deliverer, "deliver", fails)
    replies, _, _, kept = run(tmp_path, [HELD], USER, OTHER, other={"enforce": False})
    assert [one[:3] for one in replies] == ["452", "452"] and kept == []


@pytest.mark.parametrize(("blocked", "reply"), [("", "550 5.7.1"), ("junk", "250 2.0.0")])
def test_lists_of_senders_count(tmp_path: Path, blocked: str, reply: str) -> None:
    own = {"block": ("@example.org",), "blocked": blocked}
    replies, boxes, _, _ = run(tmp_path, [], USER, OTHER, wishes=Wishes(), other=own)
    assert replies[0].startswith("250") and replies[1].startswith(reply)
    assert counts(boxes) == [(1, 0), (0, 1 if blocked else 0)]
    assert b"X-Spam" not in boxes[USER]["INBOX"][0].replace(b"X-Spam-Flag: NO", b"")


def test_a_forged_sender_is_not_allowed(tmp_path: Path) -> None:
    own = {"allow": ("joe@example.org", "127.0.0.0/8")}
    replies, _, _, _ = run(tmp_path, [finding(10.0)], OTHER, other=own)
    assert replies[0].startswith("550"), "nothing shows who sent it, and the client is the MTA in front"
