"""Who may write to a list: the author, the login, and what vouches for either."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.lists import moderation, posting
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import Domain, List, Member
from fastmail.queue.spool import Spool
from fastmail.store.memory.store import MemoryStore

CREW, YOU = "crew@d.test", "you@far.test"


class Place:
    def __init__(self, path: Path) -> None:
        self.directory = MemoryDirectory()
        self.directory.add_domain("d.test")
        self.directory.add_domain(Domain("other.test", alias_of="d.test"))
        self.directory.add_domain("e.test")
        self.directory.add_accounts([(name, "{PLAIN}x") for name in ("a@d.test", "b@d.test", "c@e.test")])
        self.directory.put_list(List(CREW, owners=("a@d.test",)))
        self.directory.put_members(CREW, [Member(YOU), Member("b@d.test")])
        self.deliverer = Deliverer(self.directory, MemoryStore(), "mx.d.test")
        self.spool = Spool(str(path), 1 << 24)

    def set(self, **values: Any) -> None:
        self.directory.change_list(CREW, lambda old: replace(old, **values))

    def says(self, author: str, login: str = "", doubted: bool = False, head: str = "") -> str:
        envelope = Envelope("x@far.test", login=login, doubted=doubted, forwards={CREW})
        content = f"From: {author}\n{head}\nbody\n".encode()
        refused = posting.refusal(self.deliverer, self.spool, envelope, content)
        return f"{refused.code} {refused.text}" if refused is not None else ""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("author", "login", "doubted", "good"),
    [
        (YOU, "", False, True),
        ("YOU@FAR.test", "", True, True),
        ("nobody@far.test", "", False, False),
        ("b@d.test", "", False, True),
        ("b@other.test", "", False, True),
        ("b@d.test", "", True, False),
        ("a@d.test", "a@d.test", False, True),
        ("c@e.test", "c@e.test", False, False),
        (YOU, "c@e.test", False, False),
        ("nobody@far.test", "b@d.test", False, True),
    ],
)
def test_members(place: Place, author: str, login: str, doubted: bool, good: bool) -> None:
    assert (place.says(author, login, doubted) == "") == good


def test_announcers(place: Place) -> None:
    place.set(mode="announcers", announcers=(YOU,))
    assert place.says(YOU) == "" and place.says("a@d.test", "a@d.test") == ""
    assert "only its announcers" in place.says("b@d.test", "b@d.test")
    assert "verified" in place.says(YOU, doubted=True), "anybody can write that down"


@pytest.mark.parametrize("mode", ["public", "moderated", "members", "announcers"])
@pytest.mark.parametrize("author", ["b@d.test", "c@e.test", "x@sub.d.test", "x@SUB.D.test", "x@test", "b@other.test"])
def test_nobody_forges_an_author_for_whom_the_list_would_sign(place: Place, mode: str, author: str) -> None:
    """Its signature is aligned with authors of its domain (RFC 9989 4.4), whoever else may write."""
    place.set(mode=mode)
    assert "verified" in place.says(author, doubted=True)
    assert "verified" not in place.says(author)
    if mode in ("public", "moderated"):
        assert place.says(author) == place.says("x@notd.test", doubted=True) == ""


def test_logins_of_the_domain(place: Place) -> None:
    place.set(mode="domain")
    assert place.says("b@d.test", "b@d.test") == ""
    for author, login in (("b@d.test", ""), ("c@e.test", "c@e.test"), (YOU, "")):
        assert "of its domain" in place.says(author, login)
    place.set(mode="public", logins_only=True)
    assert place.says("c@e.test", "c@e.test") == "" and "log in" in place.says(YOU)


@pytest.mark.parametrize("author", ["", "x@far.test, y@far.test", "nobody", "x@far.test\nFrom: y@far.test"])
def test_one_author(place: Place, author: str) -> None:
    assert "one author" in place.says(author)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("List-Id: Crew <CREW.d.test>\n", "554"),
        ("List-Id: " + "x" * 20000 + "\n", "554"),
        ("List-Id: <a.b.test>\n", ""),
        ("Auto-Submitted: auto-generated\n", "550"),
        ("Auto-Submitted: no\n", ""),
        ("X-Autoreply: yes\n", "550"),
    ],
)
def test_what_is_never_taken(place: Place, head: str, why: str) -> None:
    assert place.says(YOU, head=head)[:3] == why


def test_what_waits_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.set(mode="moderated")
    monkeypatch.setattr(place.spool, "waiting", lambda name, most: moderation.MOST)
    assert place.says("nobody@far.test").startswith("452")
    assert place.says("a@d.test", "a@d.test") == "", "an owner need not wait"
    monkeypatch.undo()
    assert place.says("nobody@far.test") == ""


def test_what_the_envelope_says_already(place: Place) -> None:
    def says(address: str, sender: str) -> str:
        return posting.at_rcpt(place.directory, place.deliverer.destinations(address), sender)[:9]

    assert says(CREW, "x@far.test") == "" and says("b@d.test", "") == ""
    for part in ("", "-request", "-subscribe", "-unsubscribe"):
        assert says(f"crew{part}@d.test", "") == "550 5.7.1"
    assert says("crew-bounces@d.test", "") == "550 5.1.1" and says("crew-bounces+x@d.test", "y@far.test") == "550 5.7.1"
    assert says("crew-owner@d.test", "") == ""
