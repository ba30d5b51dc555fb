"""Mailing lists from a session through the queue to members here and at another host, and what comes back."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.delivery.lists import engine
from fastmail.delivery.lists.leaving import leave
from fastmail.delivery.lists.one_click import OneClick
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import ACTIVE, ALWAYS, ANNOUNCERS, OPEN, PUBLIC, SUSPENDED, List, Member
from fastmail.policy.signer import Signer
from fastmail.queue.model import Job
from tests.integration.test_forwards import OTHER, STRANGER, directory, inbox, receive, sent, use
from tests.integration.test_relay import World, world
from tests.integration.test_relay_more import program
from tests.integration.test_signed import PASSES, results
from tests.support.sessions import USER
from tests.support.signing import keyed

TEAM = "crew@example.test"
YOU, ME, NEW = "you@far.test", "me@far.test", "new@far.test"
Work = Callable[[World, MemoryDirectory], Awaitable[None]]


def post(author: str = STRANGER, ident: str = "1@far.test", more: str = "") -> bytes:
    text = f"From: Some One <{author}>\r\nTo: <{TEAM}>\r\nSubject: hi\r\nMessage-ID: <{ident}>\r\n{more}\r\n.dot\r\nbody\r\n"
    return text.encode()


def scenario(tmp_path: Path, work: Work, members: tuple[str, ...] = (USER, OTHER, YOU, ME), **sink: Any) -> None:
    async def main() -> None:
        async with world(tmp_path, **sink) as one:
            place = directory()
            place.put_list(List(TEAM, name="The crew", owners=(OTHER,), mode=PUBLIC))
            place.put_members(TEAM, [Member(address) for address in members])
            use(one, place)
            one.run()
            await work(one, place)

    asyncio.run(main())


def test_members_here_and_elsewhere(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        for address in (USER, OTHER):
            (content,) = await inbox(one, address)
            assert content.startswith(b"Return-Path: <crew-bounces@example.test>\nDelivered-To: " + address.encode())
        got = sent(one)
        assert sorted(to for _, to, _ in got) == [[ME], [YOU]], "a transaction for each"
        for sender, (to,), content in got:
            local, _, host = to.partition("@")
            assert re.fullmatch(rf"crew-bounces\+[a-z2-7]{{8}}=[a-z2-7]{{2}}={host}={local}@example\.test", sender)
            head, _, rest = content.partition(b"Received: from ")
            assert head.decode().split("\r\n") == [
                "List-Id: The crew <crew.example.test>",
                "List-Help: <mailto:crew-request@example.test?subject=help>",
                "List-Unsubscribe: <mailto:crew-unsubscribe@example.test?subject=unsubscribe>",
                "List-Post: <mailto:crew@example.test>",
                "List-Owner: <mailto:crew-owner@example.test>",
                "Precedence: list",
                "",
            ]
            assert rest.endswith(post()), "everything else is as it was"

    scenario(tmp_path, work)


def test_who_may_write(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, mode="members"))
        assert (await receive(one, TEAM, body=post())).startswith(b"550 5.7.2")
        assert (await receive(one, TEAM, YOU, body=post(YOU))).startswith(b"250")
        assert (await receive(one, TEAM, body=post(OTHER, "2@x"))).startswith(b"250"), "an owner"
        place.change_member(TEAM, YOU, lambda old: replace(old, state="unconfirmed"))
        assert (await receive(one, TEAM, YOU, body=post(YOU, "3@x"))).startswith(b"550 5.7.2")
        place.change_list(TEAM, lambda old: replace(old, mode=ANNOUNCERS, announcers=(ME,)))
        assert (await receive(one, TEAM, body=post(USER, "4@x"))).startswith(b"550 5.7.2")
        assert (await receive(one, TEAM, body=post(ME, "5@x"))).startswith(b"250")
        place.change_list(TEAM, lambda old: replace(old, mode=PUBLIC, logins_only=True))
        assert (await receive(one, TEAM, body=post(ME, "6@x"))).startswith(b"550 5.7.2")
        place.change_list(TEAM, lambda old: replace(old, mode="domain", logins_only=False))
        assert (await receive(one, TEAM, body=post(ME, "7@x"))).startswith(b"550 5.7.1")
        place.add_alias("way@example.test", [TEAM])
        assert (await receive(one, "way@example.test", body=post(ME, "8@x"))).startswith(b"550 5.7.2")
        await one.drained()

    scenario(tmp_path, work)


@pytest.mark.parametrize(
    ("sender", "more", "reply"),
    [
        ("", "", b"550 5.7.1"),
        (STRANGER, "Auto-Submitted: auto-replied (vacation)\r\n", b"550 5.7.1"),
        (STRANGER, "Auto-Submitted: No ; really\r\n", b"250"),
        (STRANGER, "Content-Type: Multipart/Report; boundary=x\r\n", b"550 5.7.1"),
        (STRANGER, "List-ID: <CREW.example.test>\r\n", b"554 5.4.6"),
        (STRANGER, "List-Id: other <screw.example.test>\r\n", b"250"),
        (STRANGER, "From: two@far.test\r\n", b"550 5.7.1"),
        (STRANGER, "Received: x\r\n" * 60, b"554 5.4.6"),
    ],
)
def test_what_is_no_post(tmp_path: Path, sender: str, more: str, reply: bytes) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, TEAM, sender, post(more=more))).startswith(reply)
        await one.drained()
        assert len(sent(one)) == (2 if reply == b"250" else 0)

    scenario(tmp_path, work)


def test_what_has_no_sender_goes_to_the_others_behind_an_alias(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.add_alias("way@example.test", [TEAM, USER])
        assert (await receive(one, "way@example.test", "", post())).startswith(b"250")
        await one.drained()
        assert len(await inbox(one)) == 1 and sent(one) == []

    scenario(tmp_path, work)


def test_a_post_is_sent_once(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.add_alias("way@example.test", [TEAM])
        for to in (TEAM, "way@example.test", TEAM):
            assert (await receive(one, to, body=post())).startswith(b"250")
        await one.drained()
        assert len(sent(one)) == 2
        assert (await receive(one, TEAM, body=post(ident="2@far.test"))).startswith(b"250")
        await one.drained()
        assert len(sent(one)) == 4

    scenario(tmp_path, work)


def test_a_long_list_goes_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MEMBERS", 3)
    far = [f"m{number:02}@far.test" for number in range(11)]

    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_member(TEAM, far[4], lambda old: replace(old, state=SUSPENDED))
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        assert sorted(to for _, (to,), _ in sent(one)) == far[:4] + far[5:]
        assert len(await inbox(one)) == 1

    scenario(tmp_path, work, (USER, *far))


def test_a_list_is_no_member_of_a_list(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.put_list(List("inner@example.test", owners=(USER,), mode=PUBLIC))  # after it became a member
        place.put_members("inner@example.test", [Member(YOU)])
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        assert [to for _, to, _ in sent(one)] == [[ME]]

    scenario(tmp_path, work, ("inner@example.test", ME))


def test_a_member_whose_mail_comes_back(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, bounce_days=2))
        one.sink.answers["RCPT"] = lambda sink, line: "550 5.1.1 nobody" if YOU in line else "250 ok"
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        you, me = place.member(TEAM, YOU), place.member(TEAM, ME)
        assert you is not None and me is not None and (you.bounces, you.state, me.bounces) == (1, ACTIVE, 0)
        place.change_member(TEAM, YOU, lambda old: replace(old, bounced=old.bounced - 86400))
        back = next(sender for sender, to, _ in sent(one) if to == [ME])
        assert "=far.test=me@" in back
        one.sink.taken.clear()
        # the report of another host, for the address that the first post had for this member
        assert (await receive(one, TEAM, body=post(ident="2@x"))).startswith(b"250")
        await one.drained()
        assert (await receive(one, back, "", REPORT)).startswith(b"250")
        await one.drained()
        me = place.member(TEAM, ME)
        assert me is not None and me.bounces == 1, "the token's member, whatever the report names"
        place.change_member(TEAM, ME, lambda old: replace(old, bounced=old.bounced - 86400))
        assert (await receive(one, back, "", REPORT)).startswith(b"250")
        await one.drained()
        me = place.member(TEAM, ME)
        assert me is not None and me.state == SUSPENDED
        notices = [text for text in await inbox(one, OTHER) if b"was suspended" in text]
        assert len(notices) == 1 and b"Return-Path: <>" in notices[0] and b"5.1.1" in notices[0]
        # who cannot show the token is heard by nobody
        for address, sender, reply in (
            (back.replace("=far", "=fat"), "", b"550 5.1.1"),
            ("crew-bounces@example.test", "", b"550 5.1.1"),
            (back, STRANGER, b"550 5.7.1"),
        ):
            assert (await receive(one, address, sender, REPORT)).startswith(reply)

    scenario(tmp_path, work)


REPORT = b"""From: <MAILER-DAEMON@far.test>\r
Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r
Auto-Submitted: auto-replied\r
\r
--b\r
\r
sorry\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; far.test\r
\r
Final-Recipient: rfc822; other.name@elsewhere.test\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 nobody\r
\r
--b--\r
"""


def asks(subject: str) -> bytes:
    return f"From: <{NEW}>\r\nSubject: {subject}\r\nMessage-ID: <q@far.test>\r\n\r\nplease\r\n".encode()


def test_joining_and_leaving(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, joins=OPEN))
        assert (await receive(one, "crew-subscribe@example.test", NEW, body=asks("x"))).startswith(b"250")
        await one.drained()
        ((sender, to, text),) = sent(one)
        assert (sender, to) == ("", [NEW]) and b"Auto-Submitted: auto-replied" in text
        assert b"In-Reply-To: <q@far.test>" in text and place.member(TEAM, NEW) is None
        (subject,) = re.findall(rb"(?m)^Subject: (confirm [^\r]*)", text)
        (back,) = re.findall(rb"(?m)^From: .*<(.*)>", text)
        one.sink.taken.clear()
        assert (await receive(one, back.decode(), NEW, body=asks("Re: " + subject.decode()))).startswith(b"250")
        await one.drained()
        member = place.member(TEAM, NEW)
        assert member is not None and member.state == ACTIVE and len(sent(one)) == 1
        assert (await receive(one, "crew-unsubscribe@example.test", NEW, body=asks("x"))).startswith(b"250")
        await one.drained()
        assert place.member(TEAM, NEW) is not None, "who wrote that is not known"
        (subject,) = re.findall(rb"(?m)^Subject: (confirm [^\r]*)", sent(one)[-1][2])
        assert (await receive(one, back.decode(), NEW, body=asks("Re: " + subject.decode()))).startswith(b"250")
        await one.drained()
        assert place.member(TEAM, NEW) is None and b"You left" in sent(one)[-1][2]

    scenario(tmp_path, work)


def test_answers_are_bounded(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        request = "crew-request@example.test"
        assert (await receive(one, request, "", asks("help"))).startswith(b"550 5.7.1")
        robot = b"Auto-Submitted: auto-replied\r\n" + asks("help")
        assert (await receive(one, request, NEW, body=robot)).startswith(b"250")
        await one.drained()
        assert sent(one) == [], "no answer to a program"
        for _ in range(9):
            assert (await receive(one, request, NEW, body=asks("what?"))).startswith(b"250")
        await one.drained()
        assert len(sent(one)) == 4
        assert (await receive(one, "crew-subscribe@example.test", ME, asks("x"))).startswith(b"250")
        await one.drained()
        assert b"You get its mail already" in sent(one)[-1][2]
        assert (await receive(one, "crew-subscribe@example.test", "more@far.test", asks("x"))).startswith(b"250")
        await one.drained()
        assert b"by invitation" in sent(one)[-1][2], "the list is closed"

    scenario(tmp_path, work)


def test_owners_get_mail_for_their_address(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, "crew-owner@example.test", body=post())).startswith(b"250")
        await one.drained()
        assert len(await inbox(one, OTHER)) == 1 and sent(one) == []

    scenario(tmp_path, work)


def test_what_the_settings_change(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        changes = {"tag": "[crew]", "footer": "bye", "reply_to": "list", "rewrite_from": ALWAYS}
        place.change_list(TEAM, lambda old: replace(old, **changes))
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        text = sent(one)[0][2]
        for line in (
            b"From: Some One via The crew <crew@example.test>",
            b"X-Original-From: Some One <stranger@elsewhere.test>",
            b"Reply-To: <crew@example.test>",
            b"Subject: [crew] hi",
        ):
            assert text.count(b"\r\n" + line + b"\r\n") == 1, line
        assert text.endswith(b".dot\r\nbody\r\n-- \r\nbye\r\n") and text.lower().count(b"\r\nfrom:") == 1

    scenario(tmp_path, work)


@pytest.mark.parametrize(
    ("policy", "rewritten"), [("reject", True), ("quarantine", True), ("none", False), ("", False)]
)
def test_from_where_the_author_asks_for_it(tmp_path: Path, policy: str, rewritten: bool) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        if policy:
            one.dns.records["_dmarc.elsewhere.test", "TXT"] = [f'"v=DMARC1; p={policy}"']
        one.dns.records["elsewhere.test", "A"] = ["192.0.2.1"]
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        assert (b"From: Some One via The crew" in sent(one)[0][2]) == rewritten

    scenario(tmp_path, work)


@pytest.mark.parametrize("word", ["approve", "reject", ""])
def test_moderated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, mode="moderated"))
        now = engine.time.time()
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.until(lambda: [job.due > now + 9 for _, job in one.spool.jobs()] == [True])
        (notice,) = await inbox(one, OTHER)
        assert b"Content-Type: message/rfc822" in notice and b"\n.dot\nbody\n" in notice and sent(one) == []
        (subject,) = re.findall(rb"(?m)^Subject: (approve .*)", notice)
        answer = subject.decode().replace("approve", word)
        request = "crew-request@example.test"
        for text in (
            asks("approve 0123456789ABC-" + "0" * 20),
            asks(answer[:-1] + "x"),
            b"Auto-Submitted: auto-replied\r\n" + asks(answer),
        ):
            assert (await receive(one, request, YOU, text)).startswith(b"250")
        ((item, job),) = [pair for pair in one.spool.jobs() if pair[0].token]
        await one.until(lambda: one.spool.depth() == (1, 1))
        assert not [True for sender, *_ in sent(one) if sender], "nothing that an owner wrote"
        if word:
            for _ in range(2):
                assert (await receive(one, request, OTHER, asks("Re: " + answer))).startswith(b"250")
        else:  # its time is over
            monkeypatch.setattr(engine.time, "time", lambda: item.options.release + 1.0)
            one.spool.change_now(job.key, _due_now)
            assert one.runner is not None
            one.runner.wake()
        await one.drained()
        assert sorted(to for sender, (to,), _ in sent(one) if sender) == ([ME, YOU] if word == "approve" else [])

    scenario(tmp_path, work)


def _due_now(job: Job) -> Job:
    job.due = 0
    return job


def test_an_owner_who_logged_in_need_not_wait(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, mode="moderated", owners=(USER,)))
        assert (await one.send(TEAM, body=post(USER))).startswith(b"250")
        await one.drained()
        assert len(sent(one)) == 2

    scenario(tmp_path, work)


def test_what_a_list_sends_is_signed_for_its_domain(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = directory()
            place.put_list(List(TEAM, owners=(OTHER,), mode=PUBLIC))
            place.put_members(TEAM, [Member(YOU), Member(ME)])
            made = keyed(place, tmp_path)
            one.outward.sign_with(Signer(place, str(tmp_path)))
            use(one, place)
            one.run()
            assert (await receive(one, TEAM, body=post())).startswith(b"250")
            assert (await receive(one, "crew-request@example.test", YOU, body=post(YOU, "2@x"))).startswith(b"250")
            await one.drained()
            got = sent(one)
            assert len(got) == 3, "two members, and the answer to the request"
            assert [results(content, made) for _, _, content in got] == [PASSES] * 3

    asyncio.run(main())


@pytest.mark.parametrize("extensions", [["PIPELINING", "8BITMIME"], ["CHUNKING", "8BITMIME"], ["PIPELINING"]])
def test_each_member_has_a_link_of_its_own_that_is_signed(tmp_path: Path, extensions: list[str]) -> None:
    """RFC 8058 4; also for a host that takes 7 bits only, whose copy is changed once more."""
    url = "https://lists.example.test"

    async def main() -> None:
        async with world(tmp_path, extensions=extensions) as one:
            place = directory()
            place.put_list(List(TEAM, owners=(OTHER,), mode=PUBLIC))
            place.put_members(TEAM, [Member(address) for address in (USER, OTHER, YOU, ME)])
            made = keyed(place, tmp_path)
            signer = Signer(place, str(tmp_path))
            one.outward.sign_with(signer)
            one.outward.one_click = OneClick(url, Links(place), signer)
            use(one, place)
            one.run()
            body = post(more="Content-Type: text/plain; charset=utf-8\r\n") + "\u00e4\r\n".encode()
            assert (await receive(one, TEAM, body=body)).startswith(b"250")
            await one.drained()
            links: dict[str, str] = {}
            for _, (to,), content in sent(one):
                assert results(content, made) == PASSES
                (field,) = re.findall(rb"(?m)^List-Unsubscribe: <(https:[^>]*)>,\r\n <mailto:[^>]*>\r$", content)
                assert content.count(b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") == 1
                links[to] = field.decode().removeprefix(url + "/u/")
            assert {to: Links(place).read(token) for to, token in links.items()} == {YOU: (TEAM, YOU), ME: (TEAM, ME)}
            for address in (USER, OTHER):
                (content,) = await inbox(one, address)
                assert results(content, made) == PASSES and content.count(b"\nList-Unsubscribe") == 2
                (field,) = re.findall(rb"(?m)^List-Unsubscribe: <(https:[^>]*)>,\n <mailto:[^>]*>$", content)
                assert Links(place).read(field.decode().removeprefix(url + "/u/")) == (TEAM, address)
                assert content.startswith(
                    b"Return-Path: <crew-bounces@example.test>\nDelivered-To: " + address.encode()
                )
            found = Links(place).read(links[YOU])
            assert found is not None and leave(place, *found)
            one.sink.taken.clear()
            assert (await receive(one, TEAM, body=post(ident="2@far.test"))).startswith(b"250")
            await one.drained()
            assert [to for _, to, _ in sent(one)] == [[ME]]

    asyncio.run(main())


def test_a_copy_that_is_sent_again_has_the_same_link(tmp_path: Path) -> None:
    async def main() -> None:
        answers = iter(["451 4.3.0 later", *["250 ok"] * 9])
        async with world(tmp_path, answers={"RCPT": lambda sink, line: next(answers)}) as one:
            place = directory()
            place.put_list(List(TEAM, owners=(OTHER,), mode=PUBLIC))
            place.put_members(TEAM, [Member(YOU), Member(ME)])
            one.outward.one_click = OneClick("https://lists.example.test", Links(place), None)
            use(one, place)
            one.run()
            assert (await receive(one, TEAM, body=post())).startswith(b"250")
            await one.drained()
            got = [(to, re.findall(rb"<(https:[^>]*)>", content)) for _, to, content in sent(one)]
            tokens = {to: f"https://lists.example.test/u/{Links(place).token(TEAM, to)}".encode() for to in (YOU, ME)}
            assert sorted(got) == [([to], [tokens[to]]) for to in (ME, YOU)]

    asyncio.run(main())


def test_joining_posting_and_leaving_as_a_dialogue(tmp_path: Path) -> None:
    """A life of a member: what it writes and what it gets, in order."""

    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_list(TEAM, lambda old: replace(old, joins=OPEN, mode="members"))

        async def write(to: str, subject: str, ident: str) -> bytes:
            """The reply of our server, and what the member then gets."""
            one.sink.taken.clear()
            text = f"From: <{NEW}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{ident}@x>\r\n\r\n.\r\n"
            said = await receive(one, to, NEW, text.encode())
            await one.drained()
            return said + b"".join(content for _, rcpts, content in sent(one) if rcpts == [NEW])

        assert (await write(TEAM, "too early", "1")).startswith(b"550 5.7.2")
        asked = await write("crew-request@example.test", "subscribe", "2")
        (confirm,) = re.findall(rb"(?m)^Subject: (confirm [^\r]*)", asked)
        assert b"You joined" in await write("crew-request@example.test", "Re: " + confirm.decode(), "3")
        got = await write(TEAM, "hello all", "4")
        assert b"\r\nSubject: hello all\r\n" in got and b"List-Unsubscribe: <mailto:crew-unsubscribe@" in got
        assert b"List-Unsubscribe-Post" not in got, "there is no web address"
        asked = await write("crew-unsubscribe@example.test", "unsubscribe", "5")
        (confirm,) = re.findall(rb"(?m)^Subject: (confirm [^\r]*)", asked)
        assert b"You left" in await write("crew-request@example.test", "Re: " + confirm.decode(), "9")
        assert place.member(TEAM, NEW) is None
        assert b"Subject" not in await write("crew-request@example.test", "leave", "6"), "four answers in an hour"
        assert (await write(TEAM, "too late", "7")).startswith(b"550 5.7.2")
        one.sink.taken.clear()
        assert (await receive(one, TEAM, YOU, post(YOU, "8@x"))).startswith(b"250")
        await one.drained()
        assert sorted(to for _, (to,), _ in sent(one)) == [ME, YOU]

    scenario(tmp_path, work)


def test_a_member_here_that_forwards_has_its_link_elsewhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            place = directory()
            place.put_list(List(TEAM, owners=(OTHER,), mode=PUBLIC))
            place.add_alias("way@example.test", [YOU, USER])
            place.put_members(TEAM, [Member("way@example.test")])
            made = keyed(place, tmp_path)
            signer = Signer(place, str(tmp_path))
            one.outward.sign_with(signer)
            one.outward.one_click = OneClick("https://lists.example.test", Links(place), signer)
            use(one, place)
            one.run()
            assert (await receive(one, TEAM, body=post())).startswith(b"250")
            await one.drained()
            ((_, to, content),) = sent(one)
            (kept,) = await inbox(one)
            for text in (content, kept.replace(b"\n", b"\r\n")):
                (token,) = re.findall(rb"<https://lists.example.test/u/([^>]*)>", text)
                assert Links(place).read(token.decode()) == (TEAM, "way@example.test")
                assert results(text, made) == PASSES
            assert to == [YOU]

    asyncio.run(main())


@contextlib.asynccontextmanager
async def world_with_program(tmp_path: Path) -> AsyncIterator[tuple[World, MemoryDirectory, Path]]:
    """A list whose member's mail goes to a program; the last is where that keeps it."""
    box = program(tmp_path)
    (tmp_path / "server").mkdir()
    async with world(tmp_path / "server") as one:
        await one.spool.close()
        await one.history.close()
        one.lines = [f"far.test pipe:{box}/take {{sender}} {{user}}"]
        one.open()
        place = directory()
        place.put_list(List(TEAM, owners=(OTHER,), mode=PUBLIC), [Member(YOU)])
        one.outward.one_click = OneClick("https://lists.example.test", Links(place), None)
        use(one, place)
        one.run()
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        yield one, place, box / "mail"


def test_a_program_gets_the_copy_of_its_member(tmp_path: Path) -> None:
    async def main() -> None:
        async with world_with_program(tmp_path) as (_, place, mail):
            link = f"https://lists.example.test/u/{Links(place).token(TEAM, YOU)}"
            assert f"\nList-Unsubscribe: <{link}>,\n".encode() in mail.read_bytes()

    asyncio.run(main())


def test_a_program_sees_the_reverse_path_of_its_member(tmp_path: Path) -> None:
    """What comes back to it is counted for that member; mail of others keeps its sender."""

    async def main() -> None:
        async with world_with_program(tmp_path) as (one, place, mail):
            found = re.search(
                rb"(?m)^Return-Path: <(crew-bounces\+[a-z2-7]{8}=[a-z2-7]{2}=far\.test=you@example\.test)>",
                mail.read_bytes(),
            )
            assert found is not None, mail.read_bytes()
            assert (await receive(one, found[1].decode(), "", REPORT)).startswith(b"250")
            await one.drained()
            member = place.member(TEAM, YOU)
            assert member is not None and member.bounces == 1

    asyncio.run(main())


def test_a_member_here_whose_forward_comes_back(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_account(USER, lambda old: replace(old, forward=("new@far.test",), keeps=False))
        assert (await receive(one, TEAM, body=post())).startswith(b"250")
        await one.drained()
        ((back, to, _),) = sent(one)
        assert to == [NEW] and "=example.test=user@" in back, "the token is the member's"
        assert (await receive(one, back, "", REPORT)).startswith(b"250")
        await one.drained()
        member = place.member(TEAM, USER)
        assert member is not None and member.bounces == 1

    scenario(tmp_path, work, (USER,))
