"""``admin``: who administers, and their second factors; and where the accounts of a domain come from."""

import base64
import json
import time

import pyotp
import pytest

from fastmail.cli import batch
from fastmail.cli.admin import ident
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Passkey
from tests.unit.cli.place import USER, Place


@pytest.fixture
def boss(place: Place) -> Place:
    place.run("account", "set", USER, "role=domain", "administers=example.test")
    return place


def listed(place: Place) -> tuple[str, int]:
    (row,) = place.rows("admin", "list")
    assert (row["address"], row["role"], row["administers"]) == (USER, "domain", ["example.test"])
    return row["totp"], row["passkeys"]


def test_codes_are_made_confirmed_and_removed(boss: Place) -> None:
    assert listed(boss) == ("off", 0)
    made = json.loads(boss.run("admin", "totp", "enable", USER, "--json"))
    assert made["uri"].startswith("otpauth://totp/mx.example.test:me%40example.test?secret=" + made["secret"])
    assert len(base64.b32decode(made["secret"])) == 20 and listed(boss) == ("not confirmed", 0)
    assert "the code is not right" in boss.run("admin", "totp", "confirm", USER, "000000x", code=1)
    again = boss.run("admin", "totp", "enable", USER)
    assert made["secret"] not in again and f"admin totp confirm {USER} CODE" in again, (
        "a new one, until it is confirmed"
    )
    secret = again.split("secret: ")[1].split()[0]
    code = pyotp.TOTP(secret).at(int(time.time()))
    recovery = json.loads(boss.run("admin", "totp", "confirm", USER, code, "--json"))["recovery_codes"]
    assert len(recovery) == 10 and listed(boss) == ("on", 0)
    said = boss.run("admin", "totp", "enable", USER, code=1)
    assert f"`fastmail admin totp disable {USER}` comes first" in said
    assert not any(one in boss.run("audit") for one in (*recovery, secret))
    assert "has no one-time codes any more" in boss.run("admin", "totp", "disable", USER)
    assert listed(boss) == ("off", 0)
    boss.run("admin", "totp", "disable", USER, code=67)
    boss.run("admin", "totp", "enable", USER)
    done = json.loads(boss.run("admin", "totp", "disable", USER, "--json"))
    assert done == {"address": USER, "totp": "off"} and listed(boss) == ("off", 0)


def test_second_factors_are_for_those_who_administer(place: Place) -> None:
    assert place.rows("admin", "list") == []
    assert "administers nothing" in place.run("admin", "totp", "enable", USER, code=1)
    assert "no account" in place.run("admin", "totp", "enable", "x@example.test", code=67)


def test_passkeys_are_listed_and_removed(boss: Place) -> None:
    key = Passkey(b"credential", b"key", "ring", sign_count=4, made=1_800_000_000)
    directory = LocalDirectory(str(boss.base / "data"))
    directory.add_passkey(USER, key)
    directory.close()
    assert listed(boss) == ("off", 1)
    row = {"id": ident(key), "name": "ring", "made": "2027-01-15T08:00:00Z", "used": "-", "sign_count": 4}
    assert boss.rows("admin", "passkey", "list", USER) == [row]
    assert "has no passkey nothere" in boss.run("admin", "passkey", "remove", USER, "nothere", code=67)
    assert boss.run("admin", "passkey", "remove", USER, ident(key).upper()) == f"removed ring of {USER}\n"
    directory = LocalDirectory(str(boss.base / "data"))
    directory.add_passkey(USER, key)
    directory.close()
    done = json.loads(boss.run("admin", "passkey", "remove", USER, ident(key), "--json"))
    assert done == {"address": USER, "id": ident(key), "name": "ring"}
    assert boss.rows("admin", "passkey", "list", USER) == []


# ---------------------------------------------------------------- sources


def test_a_domain_names_the_source_of_its_accounts(place: Place) -> None:
    def shown(name: str = "example.test") -> tuple[str, str]:
        row = json.loads(place.run("domain", "show", name, "--json"))
        return row["source"], row["accounts_from"]

    assert shown() == ("default", "kept here")
    said = place.run("domain", "set", "example.test", "--source", "office", code=1)
    assert 'write [[source]] with name = "office" there, or say local' in " ".join(said.split())
    text = place.config.read_text()
    place.config.write_text(text + "\n[[source]]\nname = 'office'\npasswd_file = 'users'\n")
    place.run("domain", "set", "example.test", "--source", "office")
    assert shown() == ("office", "source office, which cannot be read now, or was not yet")
    assert "it has office" in place.run("domain", "set", "example.test", "source=offices", code=1)
    said = place.run("account", "add", "new@example.test", "--password-stdin", stdin="x\n", code=1)
    assert "come from the source office: add it there" in " ".join(said.split())
    said = place.run("account", "passwd", USER, "--password-stdin", stdin="x\n", code=1)
    assert "change the password there" in " ".join(said.split())
    place.run("domain", "add", "second.test", "--source", "office")
    assert shown("second.test")[0] == "office"
    place.config.write_text(text)
    assert "which the configuration does not have" in shown()[1]
    place.run("domain", "set", "example.test", "--source", "local", "description=Ours")
    assert shown() == ("local", "kept here")
    place.run("account", "passwd", USER, "--password-stdin", stdin="x\n")
    assert "nothing is said that shall change" in place.run("domain", "set", "example.test", code=2)


def test_an_answer_is_kept_with_all_its_fields(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "answer_enabled": "yes",
        "answer_subject": "Away",
        "answer_text": "until June",
        "answer_html": "<p>until June</p>",
        "answer_begins": "2027-05-01",
        "answer_ends": "2027-06-01",
        "answer_days": "3",
        "answer_addresses": "info@example.test,sales@example.test",
    }
    place.run("account", "set", USER, *(f"{name}={value}" for name, value in given.items()))
    shown = json.loads(place.run("account", "show", USER, "--json"))
    assert shown["answer_enabled"] is True and shown["answer_days"] == 3
    assert shown["answer_addresses"] == ["info@example.test", "sales@example.test"]
    assert (shown["answer_begins"], shown["answer_html"]) == ("2027-05-01T00:00:00+00:00", "<p>until June</p>")
    answers = {name: value for name, value in shown.items() if name.startswith("answer_")}
    assert answers.keys() == given.keys()
    line = json.dumps({"do": "account.set", "name": USER, "fields": answers | {"answer_enabled": False}})
    monkeypatch.setattr(batch, "_arrived", lambda: iter([[line.encode()]]))
    assert json.loads(place.run("batch"))["ok"]
    again = json.loads(place.run("account", "show", USER, "--json"))
    assert again == shown | {"answer_enabled": False}
    assert "at most 365 days" in place.run("account", "set", USER, "answer_days=366", code=2)
    assert "no automatic answer is sent yet" in " ".join(place.run("account", "set", "--help").split())


def test_who_administers(place: Place) -> None:
    place.run("admin", "set", USER, "role=domain", "administers=example.test")
    row = {"address": USER, "role": "domain", "administers": ["example.test"], "totp": "off", "passkeys": 0}
    assert json.loads(place.run("admin", "show", USER, "--json")) == row and place.rows("admin", "list") == [row]
    assert "`fastmail account set`" in place.run("admin", "set", USER, "role=server", "name=x", code=2)
    assert place.rows("admin", "list") == [row]
    assert "is expected" in place.run("admin", "set", USER, "role=king", code=2)
    place.run("admin", "set", USER, "role=", "administers=")
    assert place.rows("admin", "list") == []
    assert "no account" in place.run("admin", "show", "x@example.test", code=67)
    assert "no account" in place.run("admin", "set", "x@example.test", "role=server", code=67)
