"""Tokens of links by which members leave lists: what they say, who can make them, how long they count."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.directory.list_links import DAY, KEPT, KEY_DAYS, Links
from fastmail.directory.local import LocalDirectory
from fastmail.directory.mailing import Mailing
from fastmail.directory.memory import MemoryDirectory

CREW = "crew@d.test"


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made: Mailing = MemoryDirectory() if request.param == "memory" else LocalDirectory(str(tmp_path))
    yield made
    made.close()


def links(place: Mailing) -> Links:
    made = Links(place)
    made.prepare()
    return made


@pytest.mark.parametrize(
    "member", ["you@far.test", "Y.ou+b=x@FAR.test", "élan@fär.test", f"{'a' * 64}@{'b.' * 90}test"]
)
def test_a_token_names_list_and_member_and_shows_neither(place: Mailing, member: str) -> None:
    made = links(place)
    token = made.token(CREW, member)
    found = made.read(token)
    assert found is not None and found[0] == CREW and made.token(*found) == token, "the same for all spellings"
    assert token.isascii() and token.replace("-", "").replace("_", "").isalnum()
    octets = base64.urlsafe_b64decode(token + "==")
    assert b"far" not in octets and b"crew" not in octets
    assert made.token("other@d.test", member) != token and made.token(CREW, "z" + member) != token


def test_nobody_else_makes_one(place: Mailing) -> None:
    made, token = links(place), links(place).token(CREW, "you@far.test")
    for at in range(len(token) - 1):  # the last character has bits that no octet has
        other = "A" if token[at] != "A" else "B"
        assert made.read(token[:at] + other + token[at + 1 :]) is None
    assert links(MemoryDirectory()).read(token) is None, "of another server"
    for text in ("", "a", token[:-5], token + "A" * 8, token + "=", "a" * 5000, "ä" * 40, token + "\n", "A" * 41):
        assert made.read(text) is None, text


def test_keys_follow_each_other_and_old_links_count(place: Mailing, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.time()
    tokens = []
    for year in range(KEPT + 1):
        monkeypatch.setattr(time, "time", lambda year=year: begun + year * (KEY_DAYS + 1) * DAY)
        tokens.append(links(place).token(CREW, "you@far.test"))
        assert links(place).token(CREW, "you@far.test") == tokens[-1], "one key for a year"
    assert len(place.link_keys()) == KEPT and len(set(tokens)) == KEPT + 1
    made = Links(place)
    assert [made.read(one) for one in tokens] == [None] + [(CREW, "you@far.test")] * KEPT
    assert any(change.what == "list links" for change in place.audit())


def test_keys_of_another_server_count_beside_its_own(place: Mailing) -> None:
    old = MemoryDirectory()
    token = links(old).token(CREW, "you@far.test")
    place.put_link_keys([(made - 5, key) for made, key in old.link_keys()])
    assert links(place).read(token) == (CREW, "you@far.test")
    before = place.link_keys()
    place.put_link_keys([(made, b"x" * 32) for made, _ in before])
    assert place.link_keys() == before, "what is there stays"
