"""What each recipient asks for about mail from others holds where the queue delivers it, too."""

import asyncio
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.delivery.lists import moderation
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import PUBLIC, List, Member
from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.wishes import Wishes
from tests.integration.test_forwards import receive, say, sent, use
from tests.integration.test_relay import World, world
from tests.integration.test_relay_local import OTHER, Broken
from tests.support.sessions import USER, Bench, Client
from tests.support.signing import MESSAGE, key, published
from tests.unit.policy.test_receive import ZONE
from tests.unit.smtp.test_judging import Says
from tests.unit.smtp.test_milter import Filter, milter

AUTHOR = b"ann@else.test"
CONTENT = MESSAGE.replace(b"joe@example.org", AUTHOR).replace(b"\n", b"\r\n") + b".\r\n"


def judging(one: World) -> Bench:
    """A bench of that world that judges; the user has mail of AUTHOR in Junk."""
    mail = {
        "outbound": one.outward.submission,
        "networks": [networks.parse("127.0.0.0/8")],
        "policy": Receiver(MemoryResolver({**ZONE, **published(key())}), Settings("mx.example.test")),
    }
    one.bench = Bench(str(one.path), one.bench.store, outbound=mail)
    one.bench.deliverer.history = one.history
    accounts = one.bench.directory.accounts
    accounts[USER] = replace(accounts[USER], block=(AUTHOR.decode(),))
    return one.bench


async def begun(bench: Bench) -> Client:
    client = bench.open("smtp", "192.0.2.1")
    await say(client, "EHLO mail.example.org", "MAIL FROM:<joe@example.org>")
    return client


async def count(bench: Bench, address: str, name: str) -> int:
    account = bench.deliverer.account(bench.directory.accounts[address])
    await bench.store.open(account)
    found = bench.store.find(account, name)
    return len(bench.store.boxes[found].messages) if found is not None else 0  # type: ignore[attr-defined]


def test_the_queue_delivers_to_the_mailbox_that_each_account_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            bench = judging(one)
            broken = Broken(bench, OTHER)
            one.run()
            client = await begun(bench)
            await say(client, f"RCPT TO:<{USER}>", f"RCPT TO:<{OTHER}>", "DATA")
            assert (await client.send(CONTENT)).endswith(b" queued\r\n")
            broken.on = False
            await one.drained()
            assert [await count(bench, USER, name) for name in ("INBOX", "Junk")] == [0, 1]
            assert [await count(bench, OTHER, name) for name in ("INBOX", "Junk")] == [1, 0]

    asyncio.run(main())


def test_mail_that_leaves_is_sent_by_itself_where_others_ask_for_something_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            bench = judging(one)
            accounts = bench.directory.accounts
            accounts[OTHER] = replace(accounts[OTHER], forward=("you@far.test",))
            client = await begun(bench)
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"250")
            assert (await client.send(f"RCPT TO:<{OTHER}>\r\n".encode())).startswith(b"452 4.5.3 send to this")
            await say(client, "RSET", "MAIL FROM:<joe@example.org>")
            assert (await client.send(f"RCPT TO:<{OTHER}>\r\n".encode())).startswith(b"250")
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"452 4.5.3 send to this")
            accounts[USER] = replace(accounts[USER], block=())
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"250")

    asyncio.run(main())


JUNK = b"List-Id: <l.test>\r\n" + MESSAGE.replace(b"\n", b"\r\n") + b".\r\n"  # DMARC fails from FAR
FAR = "198.51.100.9"


def enforcing(one: World, forwards_junk: bool = False) -> MemoryDirectory:
    """A world that judges and acts upon it, over a directory with lists."""
    place = MemoryDirectory()
    place.add_domain("example.test")
    place.add_accounts([(USER, "{PLAIN}secret"), (OTHER, "{PLAIN}secret")])
    place.add_alias("out@example.test", ["you@far.test"])
    place.add_alias("both@example.test", [USER, "you@far.test"])
    settings = Settings("mx.example.test", enforce=True, subject_tag="[SPAM]")
    mail = {"outbound": one.outward.submission, "policy": Receiver(MemoryResolver(ZONE), settings)}
    one.bench = Bench(str(one.path), one.bench.store, outbound=mail)
    use(one, place)
    one.bench.deliverer.history = one.history
    one.bench.deliverer.forwards_junk = forwards_junk
    one.run()
    return place


async def junk(one: World, *to: str, wait: bool = True) -> bytes:
    client = one.bench.open("smtp", FAR)
    await say(client, "EHLO far.test", "MAIL FROM:<joe@example.org>", *(f"RCPT TO:<{each}>" for each in to), "DATA")
    reply = await client.send(JUNK)
    if wait:
        await one.drained()
    return reply


async def mailbox(one: World, name: str, address: str = USER) -> list[bytes]:
    record = one.bench.deliverer.directory.account(address)
    assert record is not None
    account = one.bench.deliverer.account(record)
    await one.bench.store.open(account)
    found = one.bench.store.find(account, name)
    return [one.content for one in one.bench.store.boxes[found].messages] if found is not None else []  # type: ignore[attr-defined]


@pytest.mark.parametrize("forwards", [False, True])
def test_junk_is_not_forwarded_where_a_copy_is_kept(tmp_path: Path, forwards: bool) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = enforcing(one, forwards)
            place.change_account(OTHER, lambda old: replace(old, forward=("me@far.test",), keeps=True))
            for to in ("both@example.test", OTHER):
                assert (await junk(one, to)).startswith(b"250"), to
            assert [to for _, to, _ in sent(one)] == ([["you@far.test"], ["me@far.test"]] if forwards else [])
            for address in (USER, OTHER):
                assert len(await mailbox(one, "Junk", address)) == 1 and not await mailbox(one, "INBOX", address)
            (kept,) = await mailbox(one, "Junk")
            assert b"\nSubject: Is dinner ready?\n" in kept, "what may leave keeps its subject"

    asyncio.run(main())


@pytest.mark.parametrize("forwards", [False, True])
def test_junk_that_nobody_would_have_here_is_refused(tmp_path: Path, forwards: bool) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = enforcing(one, forwards)
            place.change_account(OTHER, lambda old: replace(old, forward=("me@far.test",), keeps=False))
            reply = await junk(one, "out@example.test", OTHER)
            if forwards:
                assert reply.startswith(b"250") and len(sent(one)) == 2
                return
            assert reply == b"550 5.7.1 this message looks unwanted, and is not forwarded\r\n" and sent(one) == []
            assert (await junk(one, "out@example.test", USER)).startswith(b"250"), "one reply is for all"
            assert [to for _, to, _ in sent(one)] == [["you@far.test"]] and len(await mailbox(one, "Junk")) == 1

    asyncio.run(main())


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_junk_to_a_list_waits_for_its_owners(tmp_path: Path, word: str) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = enforcing(one)
            place.put_list(List("team@example.test", owners=(OTHER,), mode=PUBLIC))
            place.put_members("team@example.test", [Member(USER), Member("you@far.test")])
            assert (await junk(one, "team@example.test", wait=False)).startswith(b"250")
            await one.until(lambda: any(item.token for item, _ in one.spool.jobs()) and one.spool.depth() == (1, 1))
            assert sent(one) == [] and not await mailbox(one, "INBOX") and not await mailbox(one, "Junk")
            (asked,) = await mailbox(one, "INBOX", OTHER)
            assert b"\nThis server thinks that it is junk.\n" in asked and b"Is dinner ready?" in asked
            found = re.search(rb"(?m)^Subject: (approve .*)", asked)
            assert found is not None
            answer = f"From: <{OTHER}>\r\nSubject: {found[1].decode().replace('approve', word)}\r\n\r\n".encode()
            assert (await receive(one, "team-request@example.test", OTHER, answer)).startswith(b"250")
            await one.drained()
            assert len(await mailbox(one, "INBOX")) == len(sent(one)) == (word == "approve")

    asyncio.run(main())


def test_a_list_with_much_junk_takes_no_more_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(moderation, "MOST", 1)
        async with world(tmp_path) as one:
            place = enforcing(one)
            place.put_list(List("team@example.test", owners=(OTHER,), mode=PUBLIC))
            assert (await junk(one, "team@example.test", wait=False)).startswith(b"250")
            await one.until(lambda: any(item.token for item, _ in one.spool.jobs()))
            assert (await junk(one, "team@example.test", wait=False)).startswith(b"452 4.3.1 too many messages wait")

    asyncio.run(main())


def by_lmtp(one: World, forwards_junk: bool = False) -> MemoryDirectory:
    """The same world, where mail by LMTP is judged; the scanner calls all of it spam."""
    place = enforcing(one, forwards_junk)
    found = [Finding("s", "7", (Reason("s", 7.0),))]
    mail = {"outbound": one.outward.submission, "judge": Says(found), "wishes": Wishes(enforce=True)}
    one.bench = Bench(str(one.path), one.bench.store, outbound=mail)
    use(one, place)
    one.bench.deliverer.history = one.history
    one.bench.deliverer.forwards_junk = forwards_junk
    return place


async def handed_over(one: World, *to: str, content: bytes = JUNK) -> list[str]:
    """The replies to a message by LMTP, one for each recipient."""
    client = one.bench.open("lmtp")
    await say(client, "LHLO mx", "MAIL FROM:<joe@example.org>", *(f"RCPT TO:<{each}>" for each in to), "DATA")
    return (await client.send(content)).decode().splitlines()


NOT_FORWARDED = "this message looks unwanted, and is not forwarded"


@pytest.mark.parametrize("forwards", [False, True])
def test_by_lmtp_junk_does_not_leave_either(tmp_path: Path, forwards: bool) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = by_lmtp(one, forwards)
            place.change_account(OTHER, lambda old: replace(old, forward=("me@far.test",), keeps=True))
            replies = await handed_over(one, "out@example.test", "both@example.test", OTHER)
            await one.drained()
            left = sorted(to for _, (to,), _ in sent(one))
            assert [one[:3] for one in replies] == ["250" if forwards else "550", "250", "250"]
            assert forwards or replies[0] == f"550 5.7.1 <out@example.test> {NOT_FORWARDED}"
            assert left == (["me@far.test", "you@far.test", "you@far.test"] if forwards else [])
            for address in (USER, OTHER):
                assert len(await mailbox(one, "Junk", address)) == 1 and not await mailbox(one, "INBOX", address)

    asyncio.run(main())


def test_by_lmtp_each_address_that_forwards_has_what_it_asks_for(tmp_path: Path) -> None:
    """One calls it junk and keeps it, the other one does not and forwards it: each of one message."""

    async def main() -> None:
        async with world(tmp_path) as one:
            place = by_lmtp(one)
            lenient = {"junk_score": 20.0, "refuse_score": 30.0}
            place.change_account(USER, lambda old: replace(old, forward=("you@far.test",), keeps=True))
            place.change_account(OTHER, lambda old: replace(old, forward=("me@far.test",), keeps=True, **lenient))
            assert [each[:3] for each in await handed_over(one, USER, OTHER)] == ["250", "250"]
            await one.drained()
            assert [to for _, to, _ in sent(one)] == [["me@far.test"]]
            assert [len(await mailbox(one, name)) for name in ("INBOX", "Junk")] == [0, 1]
            assert [len(await mailbox(one, name, OTHER)) for name in ("INBOX", "Junk")] == [1, 0]

    asyncio.run(main())


def test_by_lmtp_junk_to_a_list_waits_and_a_refusal_is_its_own(tmp_path: Path) -> None:
    """Other recipients of the message have it all the same (RFC 2033 4.2)."""

    async def main() -> None:
        async with world(tmp_path) as one:
            place = by_lmtp(one)
            place.change_account(USER, lambda old: replace(old, junk_score=20.0))
            for name, mode in (("team", PUBLIC), ("closed", "members")):
                place.put_list(List(f"{name}@example.test", owners=(OTHER,), mode=mode))
                place.put_members(f"{name}@example.test", [Member("you@far.test")])
            content = JUNK.partition(b"\r\n")[2]  # no mail of a list
            lists = ("team@example.test", "closed@example.test")
            replies = await handed_over(one, *lists, USER, content=content)
            assert [each[:3] for each in replies] == ["250", "550", "250"] and "only its members" in replies[1]
            await one.until(lambda: any(item.token for item, _ in one.spool.jobs()) and one.spool.depth() == (1, 1))
            assert sent(one) == [] and len(await mailbox(one, "INBOX")) == 1
            (asked,) = await mailbox(one, "INBOX", OTHER)
            assert b"\nThis server thinks that it is junk.\n" in asked

    asyncio.run(main())


def test_a_list_that_a_filter_takes_out_refuses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = enforcing(one)
            place.put_list(List("closed@example.test", owners=(OTHER,), mode="members"))
            content = JUNK.partition(b"\r\n")[2]
            for answers, reply in (([b"c"], b"550 5.7.2"), ([b"-<closed@example.test>\0", b"c"], b"250")):
                milters = [milter(await Filter({"E": answers}).start())]
                mail = {"outbound": one.outward.submission, "milters": milters}
                one.bench = Bench(str(one.path), one.bench.store, outbound=mail)
                use(one, place)
                client = one.bench.open("smtp", FAR)
                await say(client, "EHLO far.test", "MAIL FROM:<joe@example.org>", f"RCPT TO:<{USER}>")
                await say(client, "RCPT TO:<closed@example.test>", "DATA")
                assert (await client.send(content)).startswith(reply)
            await one.drained()
            assert len(await mailbox(one, "INBOX")) == 1 and sent(one) == []

    asyncio.run(main())
