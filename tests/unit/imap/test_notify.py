"""NOTIFY (RFC 5465): told without being asked, between commands and during IDLE."""

import asyncio
from pathlib import Path

import pytest

from fastmail.imap import places
from fastmail.imap.state import Session
from tests.support import clock
from tests.support.sessions import Bench, Client

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


async def pair(path: Path) -> tuple[Client, Client]:
    bench = Bench(str(path))
    both = []
    for _ in range(2):
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\n")
        both.append(client)
    return both[0], both[1]


async def heard(client: Client, start: int) -> bytes:
    """What came since, after a moment."""
    for _ in range(40):
        await asyncio.sleep(0.005)
    await client.settle()
    return client.transport.data[start:]


async def append(client: Client, box: bytes) -> None:
    assert b"x OK" in await client.send(b"x APPEND " + box + b" {%d+}\r\n" % len(MESSAGE) + MESSAGE + b"\r\n")


def test_other_mailboxes_come_as_status(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        got = await one.send(b"b NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange))\r\n")
        assert got.count(b"* STATUS ") == 6 and got.endswith(b"b OK NOTIFY completed\r\n")
        start = len(one.transport.data)
        await append(two, b"Trash")
        got = await heard(one, start)
        assert got.startswith(b"* STATUS Trash (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ") and got.count(b"\r\n") == 1
        await two.send(b"c SELECT Trash\r\n")
        start = len(one.transport.data)
        await two.send(b"d STORE 1 +FLAGS (\\Seen \\Deleted)\r\n")
        assert b"UNSEEN 0" in await heard(one, start)
        start = len(one.transport.data)
        await two.send(b"e EXPUNGE\r\n")
        assert b"* STATUS Trash (MESSAGES 0 " in await heard(one, start)
        await one.send(b"f NOTIFY NONE\r\n")
        start = len(one.transport.data)
        await append(two, b"Trash")
        assert await heard(one, start) == b""

    clock.run(main())


@pytest.mark.parametrize("idle", [False, True])
def test_the_selected_mailbox_is_told_with_what_was_asked(tmp_path: Path, idle: bool) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        await one.send(b"b SELECT INBOX\r\n")
        await one.send(
            b"c NOTIFY SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge))\r\n"
        )
        if idle:
            assert await one.send(b"d IDLE\r\n") == b"+ idling\r\n"
        start = len(one.transport.data)
        await append(two, b"INBOX")
        got = await heard(one, start)
        assert (
            got.startswith(b"* 1 EXISTS\r\n")
            and b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: x\r\n\r\n)" in got
        )
        await two.send(b"e SELECT INBOX\r\nf STORE 1 +FLAGS (\\Deleted)\r\n")
        start = len(one.transport.data)
        await two.send(b"g EXPUNGE\r\n")
        assert b"* 1 EXPUNGE\r\n" in await heard(one, start)
        if idle:
            assert b"d OK" in await one.send(b"DONE\r\n")

    clock.run(main())


def test_names_and_subscriptions_come_as_list(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        await one.send(b"b NOTIFY SET (subtree (Work) (MailboxName SubscriptionChange MessageNew MessageExpunge))\r\n")
        for command, wanted in (
            (b"CREATE Work", b'* LIST () "/" Work\r\n'),
            (b"CREATE Play", b""),
            (b"CREATE Work/Deep", b'* LIST () "/" Work/Deep\r\n'),
            (b"SUBSCRIBE Work/Deep", b'* LIST (\\Subscribed) "/" Work/Deep\r\n'),
            (b"RENAME Work/Deep Work/Low", b'* LIST () "/" Work/Low ("OLDNAME" (Work/Deep))\r\n'),
            (b"DELETE Work/Low", b'* LIST (\\NonExistent) "/" Work/Low\r\n'),
        ):
            start = len(one.transport.data)
            await two.send(b"c " + command + b"\r\n")
            assert await heard(one, start) == wanted, command
        start = len(one.transport.data)
        await append(two, b"Work")
        assert b"* STATUS Work (MESSAGES 1 " in await heard(one, start)

    clock.run(main())


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"SET (personal (MessageNew))", b"b BAD "),
        (b"SET (personal (MessageNew MessageExpunge AnnotationChange))", b"b NO [BADEVENT ("),
        (b"SET (selected (MailboxName))", b"b BAD "),
        (b"SET (personal (MessageNew (UID) MessageExpunge))", b"b BAD "),
        (b"SET (personal (FlagChange))", b"b BAD "),
        (b"SET (nowhere NONE)", b"b BAD "),
        (b"SET", b"b BAD "),
        (b"SOMETIMES", b"b BAD "),
        (b"SET (personal NONE) (selected-delayed (MessageNew MessageExpunge))", b"b OK "),
    ],
)
def test_what_may_be_asked(tmp_path: Path, command: bytes, reply: bytes) -> None:
    async def main() -> None:
        one, _ = await pair(tmp_path)
        assert (await one.send(b"b NOTIFY " + command + b"\r\n")).startswith(reply)
        assert (await one.send(b"c NOOP\r\n")).startswith(b"c OK")

    clock.run(main())


def test_a_session_that_ends_leaves_no_watch(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        one = bench.open("imap")
        await one.send(b"a LOGIN user@example.test secret\r\nb NOTIFY SET (personal (MessageNew MessageExpunge))\r\n")
        assert bench.store.hub._watchers  # type: ignore[attr-defined]
        one.connection.connection_lost(None)
        assert not bench.store.hub._watchers  # type: ignore[attr-defined]

    clock.run(main())


# -------------------------------------------------------------------- annotations (RFC 5465 5.6, 5.7)

SET = b"s NOTIFY SET (%b (MailboxMetadataChange ServerMetadataChange))\r\n"


async def told(one: Client, two: Client, command: bytes) -> bytes:
    """What the first session hears of a command of the second."""
    start = len(one.transport.data)
    assert b"x OK" in await two.send(b"x " + command + b"\r\n")
    return await heard(one, start)


def test_annotations_of_mailboxes_and_of_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        await two.send(b'a SETMETADATA Trash (/private/vendor/old "x" /private/comment "before")\r\n')
        assert b"s OK" in await one.send(SET % b"personal")
        assert await told(one, two, b'SETMETADATA INBOX (/shared/comment "a" /private/comment "b")') == (
            b"* METADATA INBOX /private/comment /shared/comment\r\n"
        )
        assert await told(one, two, b'SETMETADATA INBOX (/shared/comment "a" /private/comment "c")') == (
            b"* METADATA INBOX /private/comment\r\n"
        ), "only what is not as it was"
        assert await told(one, two, b"SETMETADATA Trash (/private/vendor/old NIL)") == (
            b"* METADATA Trash /private/vendor/old\r\n"
        ), "what is removed is told too"
        assert (
            await told(one, two, b'SETMETADATA "" (/private/comment "mine")') == b'* METADATA "" /private/comment\r\n'
        )
        assert await told(one, two, b'SETMETADATA "" (/private/comment NIL)') == b'* METADATA "" /private/comment\r\n'
        start = len(one.transport.data)
        assert b"y OK" in await one.send(b'y SETMETADATA INBOX (/private/comment "own")\r\n')
        assert b"* METADATA" not in await heard(one, start), "a session knows what it did itself"
        await append(two, b"INBOX")
        assert await told(one, two, b"SUBSCRIBE INBOX") == b"", "nothing else was asked for"
        await one.send(b"n NOTIFY NONE\r\n")
        assert await told(one, two, b'SETMETADATA INBOX (/shared/comment "z")') == b""

    clock.run(main())


def test_annotations_of_the_selected_mailbox_go_by_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        await one.send(b"b SELECT INBOX\r\n")
        assert b"s OK" in await one.send(SET % b"mailboxes INBOX")
        assert await told(one, two, b'SETMETADATA INBOX (/private/a "1")') == b"* METADATA INBOX /private/a\r\n"
        assert await told(one, two, b'SETMETADATA Trash (/private/a "1")') == b""
        got = await one.send(b"c NOTIFY SET (selected (MailboxMetadataChange))\r\n")
        assert got.startswith(b"c BAD")

    clock.run(main())


def test_only_what_was_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        await one.send(b"s NOTIFY SET (personal (ServerMetadataChange))\r\n")
        assert await told(one, two, b'SETMETADATA INBOX (/private/a "1")') == b""
        await one.send(b"s NOTIFY SET (personal (MailboxMetadataChange))\r\n")
        assert await told(one, two, b'SETMETADATA "" (/private/a "1")') == b""
        assert await told(one, two, b"CREATE New") == b""
        assert await told(one, two, b'SETMETADATA New (/private/a "1")') == b"* METADATA New /private/a\r\n"

    clock.run(main())


def test_what_others_may_see_and_what_not(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        owner, guest = bench.open("imap"), bench.open("imap")
        await owner.send(b"a LOGIN user@example.test secret\r\nb SETACL INBOX other@example.test lrsw\r\n")
        await guest.send(b"a LOGIN other@example.test secret\r\n")
        name = b'"Other Users/user@example.test/INBOX"'
        assert b"s OK" in await guest.send(SET % (b"mailboxes " + name))
        assert await told(guest, owner, b'SETMETADATA INBOX (/private/a "1")') == b""
        assert (
            await told(guest, owner, b'SETMETADATA INBOX (/shared/a "1")') == b"* METADATA " + name + b" /shared/a\r\n"
        )
        assert b"s OK" in await owner.send(SET % b"personal")
        assert await told(owner, guest, b"SETMETADATA " + name + b' (/private/b "1")') == b""
        assert (
            await told(owner, guest, b"SETMETADATA " + name + b' (/shared/b "1")') == b"* METADATA INBOX /shared/b\r\n"
        )

    clock.run(main())


def test_too_much_is_refused_or_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        one, two = await pair(tmp_path)
        many = b" ".join(b"(mailboxes m%d (MailboxName))" % n for n in range(200))
        assert (await one.send(b"a NOTIFY SET " + many + b"\r\n")).startswith(b"a NO [NOTIFICATIONOVERFLOW]")
        monkeypatch.setattr("fastmail.imap.watcher.MOST_ENTRIES", 2)
        assert b"s OK" in await one.send(SET % b"personal")
        got = await told(one, two, b'SETMETADATA INBOX (/private/a "1" /private/b "2" /private/c "3")')
        assert got.endswith(b"* OK [NOTIFICATIONOVERFLOW] too many annotations, no more notifications are sent\r\n")
        assert await told(one, two, b"SETMETADATA INBOX (/private/a NIL)") == b""
        await two.send(b'x SETMETADATA INBOX (/private/a "1")\r\n')
        assert (await one.send(SET % b"personal")).startswith(b"s NO [NOTIFICATIONOVERFLOW]")

    clock.run(main())


def test_the_first_status_has_what_flags_are_asked_for_with(tmp_path: Path) -> None:
    """RFC 5465 3.1: HIGHESTMODSEQ with FlagChange; 5.1 to 5.3: later for a client that knows CONDSTORE."""

    async def main() -> None:
        one, two = await pair(tmp_path)
        events = b"(MessageNew MessageExpunge%b)"
        got = await one.send(b"b NOTIFY SET STATUS (inboxes " + events % b"" + b")\r\n")
        assert b"* STATUS INBOX (" in got and b"HIGHESTMODSEQ" not in got
        got = await one.send(b"c NOTIFY SET STATUS (inboxes " + events % b" FlagChange" + b")\r\n")
        assert b"HIGHESTMODSEQ 1)" in got
        assert b"HIGHESTMODSEQ" not in await told(one, two, b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE)
        await one.send(b"d ENABLE CONDSTORE\r\n")
        assert b"HIGHESTMODSEQ 3)" in await told(one, two, b"APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE)

    clock.run(main())


def test_a_change_of_one_mailbox_looks_at_that_one_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    everything = places.everything

    async def counted(session: Session) -> object:
        looked.append("everything")
        return await everything(session)

    monkeypatch.setattr(places, "everything", counted)

    async def main() -> None:
        one, two = await pair(tmp_path)
        await one.send(b"b NOTIFY SET (personal (MessageNew MessageExpunge MailboxName MailboxMetadataChange))\r\n")
        looked.clear()
        start = len(one.transport.data)
        await append(two, b"Trash")
        assert (await heard(one, start)).startswith(b"* STATUS Trash (MESSAGES 1 ") and not looked
        start = len(one.transport.data)
        await two.send(b'c SETMETADATA Trash (/private/comment "x")\r\n')
        assert b"* METADATA Trash /private/comment" in await heard(one, start) and not looked
        start = len(one.transport.data)
        await two.send(b"d RENAME Trash Other\r\n")
        assert b"OLDNAME" in await heard(one, start) and looked
        looked.clear()
        start = len(one.transport.data)
        await append(two, b"Other")
        assert b"* STATUS Other (MESSAGES 2 " in await heard(one, start) and not looked

    clock.run(main())
