"""``fastmail dkim``: keys are made, shown, published, and let go of; private halves never leave their files."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fastmail.dns.memory import MemoryResolver
from fastmail.policy import keys
from tests.support.signing import key, rsa
from tests.unit.cli.place import USER, Place

DOMAIN = "example.test"


def files(place: Place) -> list[str]:
    return sorted(path.name for path in (place.base / "data" / "dkim").rglob("*.pem"))


def states(place: Place) -> list[tuple[str, str]]:
    return [(row["selector"], row["state"]) for row in place.rows("dkim", "list", DOMAIN)]


def test_a_key_is_made_and_shown(place: Place) -> None:
    assert "`fastmail dkim add example.test` makes one" in place.run("dkim", "list", DOMAIN)
    made = place.call("dkim", "add", DOMAIN, "--selector", "One", "--kind", "ed25519")
    assert made.stdout.startswith('one._domainkey.example.test. IN TXT "v=DKIM1; k=ed25519; p=')
    assert "Put this into the DNS of example.test; mail is signed with it once the server sees it" in made.stderr
    assert states(place) == [("one", "waiting")] and files(place) == ["one.pem"]
    assert (place.base / "data/dkim/example.test/one.pem").stat().st_mode & 0o777 == 0o600
    assert place.run("dkim", "zone", DOMAIN) == made.stdout
    (row,) = place.rows("dkim", "zone", DOMAIN)
    assert keys.parse(row["record"].encode()).kind == "ed25519" and row["strings"] == [row["record"]]
    assert "one (ed25519, waiting)" in place.run("domain", "show", DOMAIN)
    shown = json.loads(place.call("domain", "show", DOMAIN, "--json").stdout)
    assert shown["dkim"] == ["one (ed25519, waiting)"]
    text = place.run("audit") + place.run("dkim", "list") + place.run("domain", "show", DOMAIN)
    assert "PRIVATE" not in text
    place.run("dkim", "add", DOMAIN, "--selector", "one", code=1)


def test_both_kinds_at_once(place: Place) -> None:
    rows = place.rows("dkim", "add", DOMAIN, "--kind", "ed25519", "--kind", "rsa", "--now")
    assert [(row["kind"], row["state"]) for row in rows] == [("rsa", "active"), ("ed25519", "active")]
    assert keys.parse(rows[0]["record"].encode()).bits == 2048


def test_a_key_of_another_server(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "mail.private"
    file.write_bytes(rsa(2048).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    (row,) = place.rows("dkim", "add", DOMAIN, "--selector", "mail", "--key", str(file), "--now")
    assert row["record"] == key().record() and row["state"] == "active" and row["kind"] == "rsa"
    file.write_text("nothing")
    assert "no private key" in place.run("dkim", "add", DOMAIN, "--key", str(file), code=1)


def test_rotation_by_hand(place: Place) -> None:
    assert "has no key in use" in place.run("dkim", "rotate", DOMAIN, code=1)
    place.run("dkim", "add", DOMAIN, "--selector", "a", "--kind", "ed25519", "--now")
    (made,) = place.rows("dkim", "rotate", DOMAIN)
    new = made["selector"]
    assert states(place) == [("a", "active"), (new, "waiting")]
    assert f"has {new}, which is to take over" in place.run("dkim", "rotate", DOMAIN, code=1)
    place.run("dkim", "rotate", DOMAIN, "--now")
    assert states(place) == [("a", "retired"), (new, "active")]
    place.run("dkim", "rotate", DOMAIN, "--now")
    assert states(place) == [("a", "retired"), (new, "retired"), (f"{new}2", "active")]


def test_a_key_is_let_go_of(place: Place) -> None:
    place.run("dkim", "add", DOMAIN, "--selector", "a", "--kind", "ed25519", "--now")
    assert "`fastmail dkim rotate` first, or --force" in place.run("dkim", "remove", DOMAIN, "a", code=1)
    place.run("dkim", "remove", DOMAIN, "b", code=67)
    assert place.run("dkim", "remove", DOMAIN, "A", "--force") == "removed a of example.test\n"
    assert states(place) == [] and files(place) == []
    place.run("dkim", "add", DOMAIN, "--selector", "a", "--kind", "ed25519")
    done = place.call("dkim", "remove", DOMAIN, "a", "--json")
    assert json.loads(done.stdout) == {"domain": DOMAIN, "removed": "a"}


def test_a_domain_takes_its_keys_along(place: Place) -> None:
    place.run("domain", "add", "gone.test")
    place.run("dkim", "add", "gone.test", "--kind", "ed25519")
    assert len(files(place)) == 1
    place.run("domain", "remove", "gone.test")
    assert files(place) == []


def test_keys_are_in_a_backup(place: Place, tmp_path: Path) -> None:
    place.run("domain", "add", "more.test")
    place.run("dkim", "add", "more.test", "--kind", "ed25519", "--selector", "a", "--now")
    zone = place.run("dkim", "zone", "more.test")
    place.run("backup", str(tmp_path / "vault"))
    other = Place(tmp_path / "other")
    other.run("account", "remove", USER)
    other.run("restore", str(tmp_path / "vault"))
    assert other.run("dkim", "zone", "more.test") == zone
    assert [row["state"] for row in other.rows("dkim", "list")] == ["active"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "none.test"), 67),
        (("add", "no domain"), 2),
        (("add", DOMAIN, "--kind", "dsa"), 2),
        (("add", DOMAIN, "--selector", "../x", "--kind", "ed25519"), 2),
        (("add", DOMAIN, "--selector", "x", "--kind", "rsa", "--kind", "ed25519"), 2),
        (("zone", DOMAIN), 1),
        (("list", "none.test"), 67),
    ],
)
def test_what_cannot_be(place: Place, words: tuple[str, ...], code: int) -> None:
    place.run("dkim", *words, code=code)
    assert not (place.base / "data" / "dkim").exists()


def test_what_the_dns_has(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = place.rows("dkim", "add", DOMAIN, "--selector", "a", "--kind", "ed25519", "--now")
    name = ("a._domainkey.example.test", "TXT")

    class Names(MemoryResolver):
        def close(self) -> None:
            pass

    def dns(**records: str) -> list[str]:
        found = {name: list(records.values())} if records else {}
        monkeypatch.setattr("fastmail.cli.dkim.resolver_of", lambda config: Names(found))
        wrong = records.get("record") != row["record"]
        return [one["dns"] for one in place.rows("dkim", "list", DOMAIN, "--check", code=int(wrong))]

    assert dns(record=row["record"]) == ["same"]
    assert dns(record=key(kind="ed25519").record()) == ["other"] and dns() == ["missing"]
    (place.base / "data/dkim/example.test/a.pem").unlink()
    monkeypatch.setattr("fastmail.cli.dkim.resolver_of", lambda config: Names({}))
    assert "its key a: " in place.run("check", code=1)
    (found,) = place.rows("dkim", "list", "--check", code=1)
    assert found["dns"] == "unknown" and "No such file" in found["why"]


@pytest.mark.parametrize("drop", [False, True])
def test_a_domain_that_is_renamed(place: Place, drop: bool) -> None:
    """Its keys stay with the name whose zone has them; the new one has keys of the same kinds, which wait."""
    place.run("dkim", "add", DOMAIN, "--selector", "a", "--kind", "ed25519", "--now")
    place.run("dkim", "add", DOMAIN, "--selector", "b", "--kind", "rsa")
    said = place.run("domain", "rename", DOMAIN, "new.test", *(["--drop-old"] if drop else []))
    assert "goes unsigned until its DNS has what `fastmail dkim zone new.test` prints" in said
    (row,) = place.rows("dkim", "list", "new.test")
    assert (row["kind"], row["state"]) == ("ed25519", "waiting"), "of the kind that was in use"
    old = [] if drop else [("a", "active"), ("b", "waiting")]
    assert drop or states(place) == old
    assert len(files(place)) == 1 + len(old)
    place.run("domain", "rename", "new.test", "third.test")
    (row,) = place.rows("dkim", "list", "new.test")
    assert row["state"] == "waiting" and place.rows("dkim", "list", "third.test") == [], "nothing was in use"
