"""``fastmail quarantine``: list, show, release and delete."""

import time

from fastmail.delivery.quarantine import Kept, Quarantine
from fastmail.model.esmtp import Rcpt
from tests.unit.cli.place import MESSAGE, USER, Place

GONE = "gone@example.test"


def kept(place: Place, ident: str, *to: str) -> None:
    asked = tuple(map(Rcpt, to or (USER,)))
    one = Kept(
        ident, int(time.time()), "you@example.org", asked, "av=virus: quarantine 0", peer="192.0.2.1", helo="far"
    )
    Quarantine(str(place.base / "data"), 60.0, 1 << 20).keep(one, MESSAGE.format(ident).encode())


def test_a_message_is_seen_and_released(place: Place) -> None:
    kept(place, "1K3M")
    (row,) = place.rows("quarantine", "list")
    assert (row["id"], row["recipients"], row["why"]) == ("1K3M", [USER], "av=virus: quarantine 0")
    assert "192.0.2.1" in place.run("quarantine", "show", "1K3M")
    assert place.run("quarantine", "show", "1K3M", "--content") == MESSAGE.format("1K3M")
    (row,) = place.rows("quarantine", "release", "1K3M")
    assert row["recipient"] == USER and row["ok"] and row["reply"].startswith("250 2.0.0")
    (file,) = place.files()
    text = file.read_text()
    assert text.startswith("Return-Path: <you@example.org>") and text.endswith(MESSAGE.format("1K3M"))
    assert "from far ([192.0.2.1])" in text
    assert place.rows("quarantine", "list") == []
    assert "released" in place.run("trace", "1K3M")


def test_what_cannot_be_delivered_stays_for_that_recipient(place: Place) -> None:
    kept(place, "1K3M", GONE, USER)
    said = place.run("quarantine", "release", "--all", code=1)
    assert f"1K3M {GONE}: 550 5.1.1" in said and f"1K3M {USER}: 250" in said
    (row,) = place.rows("quarantine", "list")
    assert row["recipients"] == [GONE] and len(place.files()) == 1
    assert "1 removed" in place.run("quarantine", "delete", "1K3M")
    assert "deleted" in place.run("trace", "1K3M")
    assert place.rows("quarantine", "list") == []


def test_what_is_wrong_is_said(place: Place) -> None:
    assert "name messages, or say --all" in place.run("quarantine", "delete", code=2)
    assert "name messages, or say --all" in place.run("quarantine", "release", "1K3M", "--all", code=2)
    assert "an id such as" in place.run("quarantine", "show", "../x", code=1)
    assert "not in quarantine" in place.run("quarantine", "release", "1K3M", code=1)
    assert "0 removed" in place.run("quarantine", "delete", "--all")


def test_nothing_waits_in_a_queue_that_nobody_empties(place: Place) -> None:
    """With the relay off, mail for an alias that leads elsewhere is refused, not kept for ever."""
    place.run("alias", "add", "away@example.test", "me@far.test")
    place.config.write_text(place.config.read_text() + "\n[relay]\nenabled = false\n")
    done = place.call("deliver", "away@example.test", "-r", "a@b.test", stdin="Subject: x\n\ny\n")
    assert done.exit_code != 0 and "which is switched off" in done.output
    assert place.rows("queue", "list") == []


def test_nothing_leaves_the_quarantine_for_it_either(place: Place) -> None:
    place.run("alias", "add", "away@example.test", "me@far.test")
    place.config.write_text(place.config.read_text() + "\n[relay]\nenabled = false\n")
    kept = Kept("1ABC", int(time.time()), "a@b.test", (Rcpt("away@example.test"),))
    Quarantine(str(place.base / "data"), 1000.0, 1 << 20).keep(kept, b"Subject: x\n\ny\n")
    assert "which is switched off" in place.run("quarantine", "release", "1ABC", code=1)
    assert [row["id"] for row in place.rows("quarantine", "list")] == ["1ABC"] and place.rows("queue", "list") == []
