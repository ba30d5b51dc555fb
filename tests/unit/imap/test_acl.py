"""Rights on mailboxes (RFC 4314): every verb on somebody else's mailbox, with and without the right it needs."""

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.model import rights
from fastmail.model.errors import StorageFailed
from fastmail.store import transfer
from fastmail.store.interface import Account, NewMessage
from tests.support.homes import local_store
from tests.support.sessions import Bench, Client

ALICE, BOB = "user@example.test", "other@example.test"
PLACE = f'"Other Users/{ALICE}/Work"'
CONTENT = b"From: a@x.test\nSubject: hello\n\nbody\n"


class Two:
    """Alice, whose mailbox Work has three messages, and Bob."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.alice: Client = bench.open("imap")
        self.bob: Client = bench.open("imap")

    async def begin(self) -> None:
        await self.alice.send(f"a LOGIN {ALICE} secret\r\n".encode())
        await self.bob.send(f"b LOGIN {BOB} secret\r\n".encode())
        await self.alice.send(b"a1 CREATE Work\r\n")
        account = self.bench.deliverer.account(self.bench.directory.accounts[ALICE])
        key = self.bench.store.find(account, "Work")
        assert key is not None
        summary = mime.scan(CONTENT)
        for _ in range(3):
            message = NewMessage((CONTENT,), summary, int.from_bytes(summary[20:24], "little"), 1700000000)
            await self.bench.store.append(account, key, [message])

    async def grant(self, letters: str, who: str = BOB, box: str = "Work") -> None:
        assert b"OK" in await self.alice.send(f"g SETACL {box} {who} {letters}\r\n".encode())

    async def ask(self, line: str) -> str:
        return (await self.bob.send(f"b {line}\r\n".encode())).decode()

    async def owner(self, line: str) -> str:
        return (await self.alice.send(f"a {line}\r\n".encode())).decode()


def run(
    work: Callable[[Two], Awaitable[Any]], prepare: Callable[[Bench], None] | None = None, kept: bool = False
) -> None:
    """``kept``: on disk."""

    async def main(directory: str) -> None:
        bench = Bench(directory, local_store(directory + "/data") if kept else None)
        if kept:
            await bench.store.start()
        if prepare is not None:
            prepare(bench)
        two = Two(bench)
        await two.begin()
        await work(two)
        await bench.store.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(directory))


def test_nothing_of_others_is_there_without_rights() -> None:
    async def work(two: Two) -> None:
        for line in (
            f"SELECT {PLACE}",
            f"EXAMINE {PLACE}",
            f"STATUS {PLACE} (MESSAGES)",
            f"MYRIGHTS {PLACE}",
            f"GETACL {PLACE}",
            f"SETACL {PLACE} {BOB} lr",
            f"DELETEACL {PLACE} {ALICE}",
            f"LISTRIGHTS {PLACE} {BOB}",
            f"DELETE {PLACE}",
            f"RENAME {PLACE} Mine",
            f"GETQUOTAROOT {PLACE}",
            f"GETMETADATA {PLACE} /shared/comment",
            f'SETMETADATA {PLACE} (/private/comment "x")',
            f'CREATE "Other Users/{ALICE}/Work/Below"',
            f'CREATE "Other Users/{ALICE}/Fresh"',
        ):
            assert "b NO [NONEXISTENT] " in await two.ask(line), line
        assert "b NO [TRYCREATE]" in await two.ask(f"APPEND {PLACE} {{{4}+}}\r\nabcd")
        assert "Work" not in await two.ask('LIST "" *')
        # it is the same for a mailbox that is not there at all
        assert "b NO [NONEXISTENT] " in await two.ask(f'SELECT "Other Users/{ALICE}/Nowhere"')

    run(work)


VERBS = [
    ("r", f"SELECT {PLACE}"),
    ("r", f"EXAMINE {PLACE}"),
    ("r", f"STATUS {PLACE} (MESSAGES)"),
    ("x", f"DELETE {PLACE}"),
    ("x", f'RENAME {PLACE} "Other Users/{ALICE}/Work2"'),
    ("k", f'CREATE "Other Users/{ALICE}/Work/Below"'),
    ("i", f"APPEND {PLACE} {{11+}}\r\nSubject: a\r"),
    ("a", f"GETACL {PLACE}"),
    ("a", f"SETACL {PLACE} anyone l"),
    ("a", f"DELETEACL {PLACE} anyone"),
    ("a", f"LISTRIGHTS {PLACE} anyone"),
    ("w", f'SETMETADATA {PLACE} (/shared/comment "x")'),
]


@pytest.mark.parametrize("needs,line", VERBS, ids=[line.split(" ")[0] for _, line in VERBS])
def test_each_verb_needs_its_right(needs: str, line: str) -> None:
    async def work(two: Two) -> None:
        await two.grant("lk", box="INBOX")  # where a mailbox at the top is made
        await two.grant(rights.minus(rights.ALL, needs))
        assert "b NO [NOPERM]" in await two.ask(line)
        await two.grant("l" + needs)
        assert "b OK" in await two.ask(line)

    run(work)


SELECTED = [
    ("e", "EXPUNGE"),
    ("s", r"STORE 1 +FLAGS (\Seen)"),
    ("t", r"STORE 1 +FLAGS (\Deleted)"),
    ("w", r"STORE 1 +FLAGS (\Flagged)"),
    ("w", "STORE 1 +FLAGS (word)"),
    ("te", "MOVE 1 INBOX"),
]


@pytest.mark.parametrize("needs,line", SELECTED, ids=[line for _, line in SELECTED])
def test_in_the_mailbox_too(needs: str, line: str) -> None:
    async def work(two: Two) -> None:
        await two.grant(rights.minus(rights.ALL, needs))
        assert "[READ-WRITE]" in await two.ask(f"SELECT {PLACE}")
        assert "b NO [NOPERM]" in await two.ask(line)
        await two.grant("lr" + needs)
        assert "b OK" in await two.ask(line)  # rights count from the next command on

    run(work)


def test_flags_that_may_not_be_changed_stay() -> None:
    async def work(two: Two) -> None:
        await two.owner("SELECT Work")
        await two.owner(r"STORE 1 FLAGS (\Seen \Flagged \Deleted old)")
        await two.grant("lrs")
        told = await two.ask(f"SELECT {PLACE}")
        assert r"[PERMANENTFLAGS (\Seen)]" in told
        assert r"1 FETCH (FLAGS (\Flagged \Deleted old))" in await two.ask(r"STORE 1 FLAGS (\Draft new)")
        assert r"2 FETCH (FLAGS (\Seen))" in await two.ask(r"STORE 2 +FLAGS (\Seen \Deleted)")
        await two.grant("lrsw")
        assert r"1 FETCH (FLAGS (\Deleted \Draft new))" in await two.ask(r"STORE 1 FLAGS (\Draft new)")

    run(work)


def test_reading_sets_seen_only_with_the_right() -> None:
    async def work(two: Two) -> None:
        await two.grant("lrw")
        await two.ask(f"SELECT {PLACE}")
        assert r"\Seen" not in await two.ask("FETCH 1 (FLAGS BODY[TEXT])")
        await two.grant("lrs")
        assert r"\Seen" in await two.ask("FETCH 1 (FLAGS BODY[TEXT])")

    run(work)


@pytest.mark.parametrize(
    ("letters", "command", "permanent"),
    [
        ("lrs", "SELECT", r"(\Seen)"),
        ("lrw", "SELECT", r"(\Answered \Flagged \Draft old new \*)"),
        ("lrw", "EXAMINE", "()"),
    ],
)
def test_a_new_keyword_comes_with_the_flags_that_may_be_changed(letters: str, command: str, permanent: str) -> None:
    """RFC 3501 7.1: what is in FLAGS and not in PERMANENTFLAGS cannot be set permanently."""

    async def work(two: Two) -> None:
        await two.owner("SELECT Work")
        await two.owner("STORE 1 FLAGS (old)")
        await two.grant(letters)
        await two.ask(f"{command} {PLACE}")
        await two.owner("STORE 1 +FLAGS (new)")
        lines = (await two.ask("NOOP")).splitlines()
        assert lines[0].endswith(" old new)") and lines[0].startswith("* FLAGS ")
        assert lines[1].startswith(f"* OK [PERMANENTFLAGS {permanent}]")
        assert lines[2].startswith("* 1 FETCH ")

    run(work)


def test_without_any_right_to_change_it_is_read_only_and_close_removes_nothing() -> None:
    async def work(two: Two) -> None:
        await two.owner("SELECT Work")
        await two.owner(r"STORE 1 +FLAGS (\Deleted)")
        await two.grant("lr")
        told = await two.ask(f"SELECT {PLACE}")
        assert "[READ-ONLY]" in told and "[PERMANENTFLAGS ()]" in told
        await two.grant("lrs")
        assert "[READ-WRITE]" in await two.ask(f"SELECT {PLACE}")
        assert "b OK" in await two.ask("CLOSE")
        assert "MESSAGES 3" in await two.ask(f"STATUS {PLACE} (MESSAGES)")

    run(work)


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "local"])
def test_copy_and_move_between_accounts(kept: bool) -> None:
    async def work(two: Two) -> None:
        await two.owner("SELECT Work")
        await two.owner(r"STORE 1 +FLAGS (\Seen \Flagged word)")
        await two.grant("lrte")
        await two.ask(f"SELECT {PLACE}")
        emailid = (await two.ask("FETCH 1 EMAILID")).partition("EMAILID ")[2].partition(")")[0]
        assert "COPYUID" in await two.ask("COPY 1:2 INBOX")
        told = await two.ask("MOVE 3 INBOX")
        assert "[COPYUID" in told and "* 3 EXPUNGE" in told
        told = await two.ask("SELECT INBOX")
        assert "* 3 EXISTS" in told
        told = await two.ask("FETCH 1 (FLAGS EMAILID BODY.PEEK[TEXT])")
        assert r"\Seen \Flagged" in told or r"\Flagged \Seen" in told
        assert "word" in told and emailid in told and "body" in told
        # and back: flags that may not be set there are left behind
        await two.grant("lri")
        assert "b OK [COPYUID" in await two.ask(f"COPY 1 {PLACE}")
        await two.owner("NOOP")
        told = await two.owner("UID FETCH 4 (FLAGS)")
        assert "* 3 FETCH" in told and r"\Flagged" not in told and r"\Seen" not in told
        # without the right to insert
        await two.grant("lr")
        assert "b NO [NOPERM]" in await two.ask(f"COPY 1 {PLACE}")

    run(work, kept=kept)


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "local"])
def test_move_between_accounts_that_fails_says_what_it_moved(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 1)

    async def work(two: Two) -> None:
        await two.grant("lrte")
        await two.ask(f"SELECT {PLACE}")
        store, calls = two.bench.store, 0
        real = store.content

        async def content(account: Account, key: bytes, uid: int) -> bytes | None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise StorageFailed("it cannot be read")
            return await real(account, key, uid)

        with monkeypatch.context() as patch:
            patch.setattr(store, "content", content)
            told = await two.ask("MOVE 1:3 INBOX")
        assert re.search(r"\* OK \[COPYUID \d+ 1:2 1:2\]", told) and "b NO" in told
        assert told.count("EXPUNGE") == 2 and "* 1 EXISTS" in await two.ask(f"SELECT {PLACE}")
        assert "* 2 EXISTS" in await two.ask("SELECT INBOX")

    run(work, kept=kept)


def test_rights_that_are_taken_back_close_the_mailbox() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr")
        await two.ask(f"SELECT {PLACE}")
        await two.owner(f"DELETEACL Work {BOB}")
        assert "b NO " in await two.ask("FETCH 1 FLAGS")
        assert "b BAD " in await two.ask("FETCH 1 FLAGS")  # nothing is selected any more
        assert "b OK" in await two.ask("NOOP")

    run(work)


def test_an_idling_session_hears_nothing_more_without_the_right() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr")
        await two.ask(f"SELECT {PLACE}")
        await two.bob.send(b"i IDLE\r\n")
        await two.owner("SELECT Work")
        before = len(two.bob.transport.data)
        await two.owner(f"DELETEACL Work {BOB}")
        await two.owner(r"STORE 1 +FLAGS (\Flagged)")
        for _ in range(100):
            await asyncio.sleep(0.005)
            if two.bob.transport.closed:
                break
        told = two.bob.transport.data[before:]
        assert two.bob.transport.closed and b"* BYE the right to read" in told and b"Flagged" not in told

    run(work)


def test_lists_and_answers() -> None:
    async def work(two: Two) -> None:
        assert f"* ACL Work {ALICE} lrswipkxteacd" in await two.owner("GETACL Work")
        await two.grant("lrs")
        await two.grant("+wx")
        await two.grant("-s")
        assert f"{BOB} lrwxc" in await two.owner("GETACL Work")
        assert f"* MYRIGHTS {PLACE} lrwxc" in await two.ask(f"MYRIGHTS {PLACE}")
        assert f"* LISTRIGHTS Work {ALICE} la r s w i p k x t e" in await two.owner(f"LISTRIGHTS Work {ALICE}")
        assert '* LISTRIGHTS Work bob "" l r s w i p k x t e a' in await two.owner("LISTRIGHTS Work bob")
        assert "a BAD" in await two.owner("SETACL Work anyone lq")
        assert "a BAD" in await two.owner("SETACL Work anyone L")
        assert "a OK" in await two.owner("SETACL Work fred l")  # who may come later
        await two.owner("DELETEACL Work fred")
        assert "a NO [CANNOT]" in await two.owner('SETACL Work "x y" l')
        await two.grant("lrswipcd", "anyone")
        assert "anyone lrswipkxtecd" in await two.owner("GETACL Work")
        # negative rights take away what anyone has
        await two.grant("w", "-" + BOB)
        await two.owner(f"DELETEACL Work {BOB}")
        assert f"* MYRIGHTS {PLACE} lrsipkxtecd" in await two.ask(f"MYRIGHTS {PLACE}")
        await two.owner("DELETEACL Work anyone")
        # the owner keeps what is needed to mend the list
        await two.owner(f"SETACL Work {ALICE} r")
        assert "* MYRIGHTS Work lra" in await two.owner("MYRIGHTS Work")
        assert "a NO [NOPERM]" in await two.owner("DELETE Work")
        await two.owner(f"DELETEACL Work {ALICE}")
        assert "a OK" in await two.owner("DELETE Work")

    run(work)


def test_shared_mailboxes_are_listed() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr")
        told = await two.ask('LIST "" *')
        assert f'* LIST (\\Noselect \\HasChildren) "/" "Other Users/{ALICE}"' in told
        assert f'* LIST (\\HasNoChildren) "/" {PLACE}' in told
        assert f"* MYRIGHTS {PLACE} lr" in await two.ask('LIST "" "Other Users/*" RETURN (MYRIGHTS)')
        assert f"* STATUS {PLACE} (MESSAGES 3)" in await two.ask('LIST "" * RETURN (STATUS (MESSAGES))')
        assert "b OK" in await two.ask(f"SUBSCRIBE {PLACE}")
        assert PLACE in await two.ask('LSUB "" *')
        assert "Other" not in await two.owner('LIST "" *')
        # a mailbox below takes over the list
        await two.owner("CREATE Work/Below")
        assert "* MYRIGHTS" in await two.ask(f'MYRIGHTS "Other Users/{ALICE}/Work/Below"')
        await two.grant('""')
        assert "Work " not in await two.ask('LIST "" *')

    run(work)


def test_a_shared_account() -> None:
    def prepare(bench: Bench) -> None:
        bench.imap.shared = (ALICE,)

    async def work(two: Two) -> None:
        assert '(("Shared/" "/"))' in await two.ask("NAMESPACE")
        assert "Shared" not in await two.ask('LIST "" *')
        await two.grant("lr", "anyone")
        assert '"/" Shared/user/Work' in await two.ask('LIST "" *')
        assert "b OK" in await two.ask("SELECT Shared/user/Work")

    run(work, prepare)


def test_search_and_notify_reach_them() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr")
        told = await two.ask(f"ESEARCH IN (MAILBOXES {PLACE}) SUBJECT hello")
        assert f"MAILBOX {PLACE}" in told and "ALL 1:3" in told
        assert "ESEARCH (" not in await two.ask("ESEARCH IN (PERSONAL) SUBJECT hello")
        await two.ask(f"NOTIFY SET (MAILBOXES {PLACE} (MessageNew MessageExpunge))")
        before = len(two.bob.transport.data)
        await two.owner("SELECT Work")
        await two.owner(r"STORE 1 +FLAGS (\Deleted)")
        await two.owner("EXPUNGE")
        for _ in range(200):
            await asyncio.sleep(0.005)
            if b"* STATUS" in two.bob.transport.data[before:]:
                break
        assert f"* STATUS {PLACE} (MESSAGES 2" in two.bob.transport.data[before:].decode()

    run(work)


def test_private_annotations_are_each_ones_own() -> None:
    async def work(two: Two) -> None:
        await two.grant("lrw")
        await two.owner('SETMETADATA Work (/private/comment "mine" /shared/comment "ours")')
        assert "NIL" in await two.ask(f"GETMETADATA {PLACE} /private/comment")
        assert '"ours"' in await two.ask(f"GETMETADATA {PLACE} /shared/comment")
        await two.ask(f'SETMETADATA {PLACE} (/private/comment "his")')
        assert '"his"' in await two.ask(f"GETMETADATA {PLACE} /private/comment")
        assert '"mine"' in await two.owner("GETMETADATA Work /private/comment")

    run(work)


def test_an_administrator_may_set_rights_and_read_nothing() -> None:
    def prepare(bench: Bench) -> None:
        bench.imap.admins = frozenset([BOB])

    async def work(two: Two) -> None:
        assert "b NO [NOPERM]" in await two.ask(f"SELECT {PLACE}")
        assert "b OK" in await two.ask(f"SETACL {PLACE} {BOB} lr")
        assert "b OK" in await two.ask(f"SELECT {PLACE}")

    run(work, prepare)


@pytest.mark.parametrize("kept", [False, True])
def test_lists_that_are_changed_at_the_same_time_keep_every_change(kept: bool) -> None:
    async def work(two: Two) -> None:
        others = [two.bench.open("imap") for _ in range(8)]
        for number, client in enumerate(others):
            await client.send(f"l{number} LOGIN {ALICE} secret\r\n".encode())
        names = [f"friend{number}@example.test" for number in range(len(others))]
        told = await asyncio.gather(
            *(client.send(f"s SETACL Work {name} lr\r\n".encode()) for client, name in zip(others, names, strict=True))
        )
        assert all(b"s OK" in one for one in told)
        await asyncio.gather(
            *(
                client.send(f"s SETACL Work {name} +s\r\nd DELETEACL Work {names[0]}\r\n".encode())
                for client, name in zip(others[1:], names[1:], strict=True)
            )
        )
        shown = await two.owner("GETACL Work")
        for name in names[1:]:
            assert f" {name} lrs" in shown
        assert names[0] not in shown

    run(work, kept=kept)
