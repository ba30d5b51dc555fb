"""What a stranger learns of accounts and mailboxes that share nothing with it: the same of all, in the same way (S33);
and how far somebody may fill the lists of others."""

import re
import statistics
import time
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.imap import service
from tests.support.sessions import Bench
from tests.unit.imap.test_acl import ALICE, BOB, Two, run

GHOST, SLEEPER = "ghost@example.test", "sleeper@example.test"
LITERAL = "{14+}\r\nSubject: x\r\n\r\n"
VERBS = [
    "SELECT {0}",
    "EXAMINE {0}",
    "STATUS {0} (MESSAGES UIDNEXT)",
    "STATUS {0} (HIGHESTMODSEQ)",
    'LIST "" {0}',
    'LIST "" {0} RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/comment))',
    'LIST (SUBSCRIBED) "" {0}',
    'LSUB "" {0}',
    "GETACL {0}",
    "SETACL {0} anyone lr",
    "DELETEACL {0} anyone",
    "MYRIGHTS {0}",
    "LISTRIGHTS {0} anyone",
    "GETQUOTAROOT {0}",
    "GETMETADATA {0} /shared/comment",
    'SETMETADATA {0} (/private/comment "x")',
    "APPEND {0} " + LITERAL,
    "APPEND {0} {70000+}",
    "COPY 1 {0}",
    "UID COPY 1 {0}",
    "MOVE 1 {0}",
    "REPLACE 1 {0} " + LITERAL,
    "CREATE {0}",
    "DELETE {0}",
    "RENAME {0} Mine",
    "RENAME INBOX {0}",
    "SUBSCRIBE {0}",
    "UNSUBSCRIBE {0}",
    "ESEARCH IN (mailboxes {0}) ALL",
    "ESEARCH IN (subtree {0}) RETURN (COUNT) ALL",
    "NOTIFY SET STATUS (mailboxes {0} (MessageNew MessageExpunge))",
    "RESETKEY {0}",
    'URLFETCH "imap://{1}@mx.example.test/Work;UID=1;URLAUTH=anonymous:internal:01' + "ab" * 32 + '"',
    'GENURLAUTH "imap://{1}@mx.example.test/Work;UID=1;URLAUTH=anonymous" INTERNAL',
    "GETQUOTA {2}",
]


def prepare(bench: Bench) -> None:
    """A third account that is there and never logged in, and one that is switched off."""
    first = bench.directory.accounts[ALICE]
    bench.directory.accounts[SLEEPER] = replace(first, id=7, address=SLEEPER)
    bench.directory.accounts["off@example.test"] = replace(first, id=8, address="off@example.test", enabled=False)


def line_of(verb: str, address: str, box: str) -> str:
    name = f'"Other Users/{address}/{box}"'
    return verb.replace("{0}", name).replace("{1}", address.replace("@", "%40")).replace("{2}", address)


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("verb", VERBS, ids=[f"{n}-{verb.split(' ')[0]}" for n, verb in enumerate(VERBS)])
def test_s33_a_ghost_and_somebody_who_shares_nothing_look_alike(verb: str, kept: bool) -> None:
    answers: dict[tuple[str, str], str] = {}
    cases = [
        (ALICE, "Work"),
        (ALICE, "INBOX"),
        (ALICE, "Nowhere"),
        (GHOST, "Work"),
        (GHOST, "INBOX"),
        (SLEEPER, "Work"),
        (SLEEPER, "INBOX"),
        ("off@example.test", "INBOX"),
        ("ghost@far.test", "Work"),
    ]

    async def work(two: Two) -> None:
        await two.ask(f"APPEND INBOX {LITERAL}")
        await two.ask("ENABLE CONDSTORE")
        for address, box in cases:
            await two.ask("SELECT INBOX")
            got = await two.ask(line_of(verb, address, box) + ("\r\n" + "x" * 70000 if "70000" in verb else ""))
            got = got.replace(address, "WHO").replace(address.replace("@", "%40"), "WHO").replace(f"WHO/{box}", "BOX")
            answers[address, box] = re.sub(r"UIDVALIDITY \d+|at octet \d+", "", got)
            await two.ask("NOTIFY NONE")
        assert not any(one in answers[ALICE, "Work"] for one in ("* STATUS", "* ACL", "EXISTS", "* QUOTA "))
        listed = await two.ask('LIST "" *')
        assert "ghost" not in listed and "WHO" not in listed and ALICE not in listed

    run(work, prepare, kept)
    assert len(set(answers.values())) == 1, answers


def test_s33_nothing_is_opened_for_a_stranger(tmp_path: Any) -> None:
    """Asking for a mailbox of somebody who never logged in makes no Maildir there."""

    async def work(two: Two) -> None:
        for verb in VERBS:
            if "70000" not in verb:
                await two.ask(line_of(verb, SLEEPER, "Work"))
        account = two.bench.deliverer.account(two.bench.directory.accounts[SLEEPER])
        assert two.bench.store.find(account, "INBOX") is None

    run(work, prepare, True)


def test_s33_they_take_the_same_time() -> None:
    """In turns, so that what else the machine does is in both."""
    taken: dict[str, list[float]] = {}

    async def work(two: Two) -> None:
        names = {
            name: f'b STATUS "Other Users/{name}/Work" (MESSAGES)\r\n'.encode() for name in (ALICE, GHOST, SLEEPER)
        }
        for _ in range(400):
            for name, line in names.items():
                begun = time.perf_counter()
                await two.bob.send(line)
                taken.setdefault(name, []).append(time.perf_counter() - begun)

    run(work, prepare, True)
    middles = {name: statistics.median(times) for name, times in taken.items()}
    assert max(middles.values()) < 1.5 * min(middles.values()), middles


@pytest.mark.parametrize("who", ["user", "other", "OTHER", "user@far.test", "other@far.test", "other%40far.test"])
@pytest.mark.parametrize("kind", ["user", "submit"])
def test_s33_a_url_is_for_a_whole_address(kind: str, who: str) -> None:
    """``user+me`` is not for everybody whose address begins with ``me``."""

    async def work(two: Two) -> None:
        url = f"imap://user%40example.test@mx.example.test/Work;UID=1;URLAUTH={kind}+{who}"
        got = await two.owner(f'GENURLAUTH "{url}" INTERNAL')
        made = re.search(r'GENURLAUTH "([^"]+)"', got)
        assert made is not None
        for say in (two.ask, two.owner):
            assert '" NIL\r\n' in await say(f'URLFETCH "{made[1]}"')

    run(work)


@pytest.mark.parametrize(
    "who", ["other@example.test", "OTHER@Example.Test", "other%40example.test", "other%40EXAMPLE.test"]
)
def test_a_url_for_somebody_is_fetched_by_him(who: str) -> None:
    async def work(two: Two) -> None:
        url = f"imap://user%40example.test@mx.example.test/Work;UID=1;URLAUTH=user+{who}"
        got = await two.owner(f'GENURLAUTH "{url}" INTERNAL')
        made = re.search(r'GENURLAUTH "([^"]+)"', got)
        assert made is not None
        assert "Subject: hello" in await two.ask(f'URLFETCH "{made[1]}"')
        assert '" NIL\r\n' in await two.owner(f'URLFETCH "{made[1]}"')

    run(work)


async def shared_boxes(two: Two, many: int, who: str = "anyone") -> None:
    for number in range(many):
        assert "OK" in await two.owner(f"CREATE Box{number:03}")
        await two.grant("lr", who, f"Box{number:03}")


@pytest.mark.parametrize("who", ["anyone", BOB])
def test_s33_one_account_fills_nobodys_list(who: str) -> None:
    """However many mailboxes it shares: others see a bounded number of them, and may open the rest by name."""

    def few(bench: Bench) -> None:
        bench.imap.limits.shared_mailboxes = 5

    async def work(two: Two) -> None:
        await shared_boxes(two, 12, who)
        for line in (
            'LIST "" *',
            'LIST "" "Other Users/*" RETURN (STATUS (MESSAGES))',
            'ESEARCH IN (subtree "Other Users") ALL',
        ):
            got = await two.ask(line)
            assert got.count("/Box") == (5 if "LIST" in line and "STATUS" not in line else got.count("/Box")) <= 10, got
        assert "b OK" in await two.ask(f'SELECT "Other Users/{ALICE}/Box011"')
        two.bench.imap.limits.shared_mailboxes = 0
        assert (await two.ask('LIST "" *')).count("/Box") == 12

    run(work, few)


@pytest.mark.parametrize("how", [service.LIST, service.SUBSCRIBED, service.OFF])
def test_s33_what_becomes_of_rights_for_anyone(how: str) -> None:
    async def work(two: Two) -> None:
        await shared_boxes(two, 3)
        await two.grant("lr", BOB, "Box001")
        two.bench.imap.anyone = how
        got = await two.ask('LIST "" *')
        assert got.count("/Box") == (3 if how == service.LIST else 1) and "/Box001" in got
        by_name = await two.ask(f'SELECT "Other Users/{ALICE}/Box000"')
        assert ("b OK" in by_name) == (how != service.OFF) and ("[NONEXISTENT]" in by_name) == (how == service.OFF)
        assert "b OK" in await two.ask(f'SUBSCRIBE "Other Users/{ALICE}/Box002"')
        got = await two.ask('LIST "" *')
        assert ("/Box002" in got) == (how != service.OFF) and ("/Box000" in got) == (how == service.LIST)
        given = await two.owner("SETACL Box000 anyone +w")
        assert ("a NO [NOPERM]" in given) == (how == service.OFF)
        assert "a OK" in await two.owner("SETACL Box000 -anyone r")
        assert "a OK" in await two.owner("SETACL Box000 anyone -l") and "a OK" in await two.owner(
            "DELETEACL Box000 anyone"
        )

    run(work)


def test_s33_a_shared_account_has_no_such_bounds() -> None:
    def shared(bench: Bench) -> None:
        bench.imap.shared = (ALICE,)
        bench.imap.anyone = service.OFF
        bench.imap.limits.shared_mailboxes = 2

    async def work(two: Two) -> None:
        await shared_boxes(two, 4)
        assert (await two.ask('LIST "" *')).count("Shared/user/Box") == 4

    run(work, shared)


def test_s33_a_list_tells_annotations_to_those_who_may_ask_for_them() -> None:
    """RFC 5464 3.3: the right to see the mailbox is not enough, in LIST as in GETMETADATA."""

    async def work(two: Two) -> None:
        assert "a OK" in await two.owner('SETMETADATA Work (/shared/comment "secret")')
        for letters, told in (("l", False), ("lr", True), ("lk", False), ("lx", False), ("li", True), ("ls", True)):
            await two.grant(letters)
            for line in (
                f'LIST "" "Other Users/{ALICE}/*" RETURN (METADATA (/shared/comment))',
                'LIST "" "*" RETURN (SUBSCRIBED METADATA (/shared/comment /private/x))',
            ):
                got = await two.ask(line)
                assert "/Work" in got and ("secret" in got) == told, (letters, got)
            got = await two.ask(f'GETMETADATA "Other Users/{ALICE}/Work" /shared/comment')
            assert ("secret" in got) == told

    run(work)
