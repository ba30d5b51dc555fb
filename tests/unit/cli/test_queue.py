"""``fastmail queue``: which messages a command chooses, and what it does to them."""

import asyncio
import sys
import time

import pytest

from fastmail.app.assembly import beside
from fastmail.cli import queue
from fastmail.config.load import load
from fastmail.model.esmtp import Rcpt
from fastmail.net import networks
from fastmail.queue import stopped
from fastmail.queue.model import Item, Job, Outgoing
from tests.unit.cli.place import USER, Place

LONG = "451 4.7.1 " + "words of the other side " * 10
CONTENT = b"From: me@example.test\nSubject: out\n\nbody\n"


@pytest.fixture
def filled(place: Place) -> Place:
    """Three messages for two destinations; one was tried and has the long reply."""

    async def work() -> None:
        async with beside(load(str(place.config))) as assembly:
            for n, where in enumerate(("one.test", "one.test", "two.test")):
                sender = USER if n else ""
                item = Item(assembly.spool.new_id(), sender, int(time.time()) - n * 7200, len(CONTENT))
                await assembly.spool.enqueue(Outgoing(item, {where: [Rcpt(f"u{n}@{where}")]}, [CONTENT]))

            def tried(job: Job) -> Job:
                job.last, job.attempts, job.due = LONG, 1, int(time.time()) + 4000
                return job

            (key,) = [job.key for _, job in assembly.spool.jobs() if job.destination == "two.test"]
            await assembly.spool.change(key, tried)

    asyncio.run(work())
    return place


def test_what_waits_is_listed(filled: Place) -> None:
    rows = filled.rows("queue", "list")
    assert sorted(row["recipients"] for row in rows) == [["u0@one.test"], ["u1@one.test"], ["u2@two.test"]]
    assert len(filled.rows("queue", "list", "--limit", "2")) == 2
    text = filled.run("queue", "list").splitlines()
    assert len(text) == 4 and text[0].split() == ["id", "age", "size", "sender", "recipients", "tries", "next", "last"]
    (held,) = [line for line in text if "u2@two.test" in line]
    assert "4h00m" in held and "in 1h06m" in held and "<>" in "".join(text)


def test_a_reply_is_cut_on_a_terminal_only(filled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("list", "summary"):
        assert LONG.strip() in filled.run("queue", command)
    assert [row["last"] for row in filled.rows("queue", "summary")] == ["", LONG]
    assert queue._begun(LONG) == LONG
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert queue._begun(LONG) == LONG[:80]


@pytest.mark.parametrize(
    ("words", "recipients"),
    [
        (("--sender", "me@*"), ["u1@one.test", "u2@two.test"]),
        (("--recipient", "u0@one.test"), ["u0@one.test"]),
        (("--domain", "ONE.test"), ["u0@one.test", "u1@one.test"]),
        (("--older", "1"), ["u1@one.test", "u2@two.test"]),
        (("--older", "1", "--domain", "one.test"), ["u1@one.test"]),
        (("--error", "OTHER SIDE"), ["u2@two.test"]),
        (("--match", "two"), ["u2@two.test"]),
        (("--match", "nothing like it"), []),
    ],
)
def test_options_choose(filled: Place, words: tuple[str, ...], recipients: list[str]) -> None:
    assert sorted(row["recipients"][0] for row in filled.rows("queue", "list", *words)) == recipients


def test_messages_are_held_released_and_tried(filled: Place) -> None:
    assert filled.run("queue", "hold", "--domain", "one.test") == "held 2\n"
    assert sorted(row["held"] for row in filled.rows("queue", "list")) == [False, True, True]
    assert filled.run("queue", "release", "--all") == "released 3\n"
    rows = filled.rows("queue", "list")
    assert not any(row["held"] for row in rows) and all(row["due"] <= time.time() for row in rows)
    (changed,) = filled.rows("queue", "retry", "--error", "other side")
    assert changed["action"] == "will try" and changed["recipients"] == ["u2@two.test"]


def test_a_message_is_shown_moved_and_dropped(filled: Place) -> None:
    (row,) = filled.rows("queue", "list", "--domain", "two.test")
    assert filled.rows("queue", "show", row["id"]) == [row]
    assert "destination  two.test\n" in filled.run("queue", "show", row["id"])
    assert filled.run("queue", "show", row["id"], "--content").endswith("Subject: out\n\nbody\n")
    filled.run("queue", "move", "smtp:192.0.2.9:2525", row["id"])
    assert filled.rows("queue", "show", row["id"])[0]["destination"] == "smtp:192.0.2.9:2525"
    filled.run("queue", "move", "smtp:nowhere at all", row["id"], code=2)
    assert filled.run("queue", "drop", row["id"]) == "dropped 1\n"
    filled.run("queue", "show", row["id"], code=1)
    filled.run("queue", "drop", row["id"], code=1)


def test_a_sender_hears_of_what_is_given_up(filled: Place) -> None:
    assert filled.run("queue", "bounce", "--domain", "two.test") == "bounced 1\n"
    (report,) = filled.rows("queue", "list", "--recipient", USER)
    assert report["sender"] == ""
    text = filled.run("queue", "show", report["id"], "--content")
    assert "given up by the administrator" in text and "u2@two.test" in text
    assert filled.run("queue", "bounce", "--recipient", "u0@one.test") == "bounced 1\n"  # of a report: nobody hears
    assert len(filled.rows("queue", "list")) == 2


@pytest.mark.parametrize("name", ["hold", "release", "retry", "drop", "bounce"])
def test_nothing_is_no_choice_and_everything_has_to_be_said(filled: Place, name: str) -> None:
    assert "say which messages" in filled.run("queue", name, code=2)
    assert "--all is everything" in filled.run("queue", name, "--all", "--domain", "one.test", code=2)
    assert "an id such as" in filled.run("queue", name, "no id", code=2)
    assert len(filled.rows("queue", "list")) == 3


def test_messages_are_chosen_by_where_they_came_from(place: Place) -> None:
    async def work() -> None:
        async with beside(load(str(place.config))) as assembly:
            for peer in ("192.0.2.5", "192.0.2.77", "2001:db8::1", "local"):
                item = Item(assembly.spool.new_id(), USER, int(time.time()), len(CONTENT), peer=peer)
                await assembly.spool.enqueue(Outgoing(item, {"one.test": [Rcpt("u@one.test")]}, [CONTENT]))

    asyncio.run(work())
    for text, peers in (
        ("192.0.2.5", ["192.0.2.5"]),
        ("192.0.2.0/24", ["192.0.2.5", "192.0.2.77"]),
        ("::/0", ["2001:db8::1"]),
    ):
        assert sorted(row["peer"] for row in place.rows("queue", "list", "--peer", text)) == peers
    assert "held 2" in place.run("queue", "hold", "--peer", "192.0.2.0/24")
    assert place.call("queue", "list", "--peer", "nowhere").exit_code == 2


def test_networks_and_which_of_them_are_stopped(place: Place) -> None:
    text = 'networks = ["192.0.2.0/24", "10.0.0.1"]\nnetwork_recipients_per_hour = 9\n'
    place.config.write_text(place.config.read_text() + f"\n[relay]\n{text}")

    async def work() -> None:
        async with beside(load(str(place.config))) as assembly:
            network = networks.parse("192.0.2.0/24")
            await stopped.stop(assembly.spool, network, "5 of 5 recipients", 1_800_000_000.0)
            await assembly.spool.charge(assembly.submission.charges_of(network, 4))

    asyncio.run(work())
    near, other = place.rows("queue", "networks")
    assert near == {
        "network": "192.0.2.0/24", "messages": 0, "recipients": 4, "stopped": "2027-01-15T08:00:00Z", "why": "5 of 5 recipients"
    }  # fmt: skip
    assert (other["network"], other["recipients"], other["stopped"]) == ("10.0.0.1/32", 0, "-")
    assert "10.0.0.1/32 is not stopped" in place.run("queue", "networks", "--resume", "10.0.0.1", code=1)
    (near, _) = place.rows("queue", "networks", "--resume", "192.0.2.0/24")
    assert near["stopped"] == "-" and near["why"] == ""


def test_a_network_whose_row_cannot_be_read_is_shown_as_stopped(place: Place) -> None:
    place.config.write_text(place.config.read_text() + '\n[relay]\nnetworks = ["192.0.2.0/24"]\n')

    async def work() -> None:
        async with beside(load(str(place.config))) as assembly:
            await assembly.spool.facts.set_state(b"stopped 192.0.2.0/24", b"\xc1")

    asyncio.run(work())
    (near,) = place.rows("queue", "networks")
    assert (near["stopped"], near["why"]) == ("unknown", stopped.UNREADABLE)
    (near,) = place.rows("queue", "networks", "--resume", "192.0.2.0/24")
    assert near["stopped"] == "-"
