"""Rights of groups (RFC 4314 2): ``$team`` in lists of rights, and who is in it at the moment of each command."""

import pytest

from fastmail.model import rights
from tests.unit.imap.test_acl import ALICE, BOB, CONTENT, PLACE, Two, run

TEAM, OTHERS = "team@example.test", "other@example.test"
BOBS = 2  # number of his account


def join(two: Two, *groups: str) -> None:
    two.bench.directory.groups[BOBS] = frozenset(groups)


@pytest.mark.parametrize("identifier", ["$team", "$team@example.test", "$TEAM@Example.Test"])
def test_members_have_the_rights_of_their_group(identifier: str) -> None:
    async def work(two: Two) -> None:
        await two.grant("lr", identifier)
        assert "b NO [NONEXISTENT]" in await two.ask(f"SELECT {PLACE}")
        assert "Work" not in await two.ask('LIST "" "*"')
        join(two, TEAM)
        assert "b OK [READ-ONLY]" in await two.ask(f"SELECT {PLACE}")
        assert f"Other Users/{ALICE}/Work" in await two.ask('LIST "" "*"')
        assert "lr" in await two.ask(f"MYRIGHTS {PLACE}")
        assert " $team@example.test lr" in (await two.owner("GETACL Work")).replace('"', "")
        join(two)
        assert "b NO" in await two.ask("FETCH 1 FLAGS")

    run(work)


def test_rights_of_a_group_are_added_and_taken_away() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr")
        await two.grant("lrst", "$team")
        await two.grant("s", "-$other")
        for groups, letters in (((TEAM,), "lrst"), ((TEAM, OTHERS), "lrt"), ((OTHERS,), "lr"), ((), "lr")):
            join(two, *groups)
            said = (await two.ask(f"MYRIGHTS {PLACE}")).splitlines()[0].replace('"', "")
            assert said.rpartition(" ")[2] == rights.shown(letters), groups

    run(work)


def test_who_idles_hears_that_it_may_read_no_more() -> None:
    async def work(two: Two) -> None:
        await two.grant("lr", "$team")
        join(two, TEAM)
        assert "b OK" in await two.ask(f"SELECT {PLACE}")
        await two.bob.send(b"b IDLE\r\n")
        start = len(two.bob.transport.data)
        join(two)
        session = two.bob.connection.session
        assert session is not None and session.ended() == "", "the login is as good as before"
        await two.bob.settle()
        assert two.bob.transport.data[start:].startswith(b"* BYE the right to read") and two.bob.transport.closed
        assert CONTENT not in two.bob.transport.data

    run(work)


def test_nobody_is_named_by_an_address_that_looks_like_a_group() -> None:
    acl = {"$team@d.test": "lr", "-$team@d.test": "r"}
    assert rights.evaluate(acl, "a@d.test", "$team@d.test") == ""
    assert rights.evaluate({"$team@d.test": "lr"}, "a@d.test", BOB, True, ["team@d.test"]) == "lr"
    assert rights.evaluate(acl, "a@d.test", BOB, True, ["team@d.test"]) == "l"
    assert rights.evaluate({"anyone": "lrs", "-$t@d.test": "s"}, "a@d.test", "b@d.test", True, ["t@d.test"]) == "lr"
    assert rights.evaluate({"$t@xn--fhre-loa.test": "l"}, "a@d.test", "b@d.test", True, ["t@fähre.test"]) == "l"
    own = rights.evaluate({"-$team@d.test": "lrs"}, "a@d.test", "a@d.test", True, ["team@d.test"])
    assert set("la") <= set(own) and "r" not in own, "what the owner has always"
