"""What makes no sense on any server ends with 2, and says what to write instead."""

import pytest

from fastmail.cli.common import many
from tests.unit.cli.place import USER, Place

DOMAIN = "example.test"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("account", "set", USER, "naem=x"), "accounts have no naem; did you mean name?"),
        (("account", "set", USER, "zzzz=x"), "known are enabled, logs_in"),
        (("account", "set", USER, "name"), "name: FIELD=VALUE is expected"),
        (("account", "set", USER, "enabled=perhaps"), "enabled: 'perhaps'"),
        (("account", "quota", USER, "--storage", "5 gallons"), "is not a limit"),
        (("account", "add", f"b@{DOMAIN}", "--generate", "--password-stdin"), "give one of them"),
        (("domain", "set", DOMAIN, "postmastr=x"), "domains have no postmastr; did you mean postmaster?"),
        (("alias", "set", f"postmaster@{DOMAIN}", "target=x"), "did you mean targets?"),
        (("list", "add", f"team@{DOMAIN}", "owner=x"), "did you mean owners?"),
        (("admin", "set", USER, "role=god"), "server, domain, helpdesk is expected"),
        (("app-password", "add", USER, "x", "--protocols", "imaps"), "protocols are of imap"),
        (("app-password", "add", USER, "x", "--nets", "here"), "is no network"),
        (("app-password", "add", USER, "x", "--expires", "2020-01-01"), "is over"),
        (("bans", "add", "nonsense"), "neither an address nor a network"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_it_is_told_what_to_write(place: Place, words: tuple[str, ...], says: str) -> None:
    said = place.run(*words, stdin="x\n", code=2)
    assert says in said and said.startswith("error: ") and said.count("\n") == 1
    assert place.run("audit", "--json") == place.run("audit", "--json", "--last", "3"), "nothing was changed"


def test_a_password_is_made_up(place: Place) -> None:
    added, password = place.run("account", "add", f"b@{DOMAIN}", "--generate").splitlines()
    assert added == f"added b@{DOMAIN}" and len(password.removeprefix("Password: ")) == 16
    _, other = place.run("account", "passwd", f"b@{DOMAIN}", "--generate").splitlines()
    assert other.startswith("Password: ") and other != password
    assert "--generate makes one up" in place.run("account", "passwd", f"b@{DOMAIN}", code=2)


def test_a_postmaster_who_is_not_there_is_told(place: Place) -> None:
    done = place.call("domain", "set", DOMAIN, f"postmaster=gone@{DOMAIN},{USER},x@far.test")
    assert done.exit_code == 0 and done.stderr.startswith(f"postmaster: nobody gets mail for gone@{DOMAIN} yet")
    assert done.stderr.count("nobody") == 1


def test_a_catch_all_who_is_not_there_is_no_circle(place: Place) -> None:
    said = place.run("domain", "set", DOMAIN, f"catch_all=gone@{DOMAIN}", code=67)
    assert f"nobody here gets mail for gone@{DOMAIN}" in said
    place.run("domain", "set", DOMAIN, f"catch_all={USER}")
    place.run("domain", "set", DOMAIN, f"catch_all=gone@{DOMAIN}", code=67)
    assert USER in place.run("domain", "show", DOMAIN)


@pytest.mark.parametrize(("count", "words"), [(0, "0 members"), (1, "1 member"), (2, "2 members")])
def test_numbers_of_things(count: int, words: str) -> None:
    assert many(count, "member") == words
