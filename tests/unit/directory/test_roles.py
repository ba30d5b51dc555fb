"""What administrators may ask for, by their role: the requests of a batch, and who is refused."""

from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import HELPDESK, OF_DOMAINS, SERVER, Domain, List
from fastmail.directory.requests import ACTIONS, perform
from fastmail.directory.roles import NotAllowed

BOSS, ADMIN, HELP, USER = "boss@e.test", "admin@e.test", "help@e.test", "a@d.test"
ROLES = {BOSS: (SERVER, ()), ADMIN: (OF_DOMAINS, ("d.test",)), HELP: (HELPDESK, ("d.test",)), USER: ("", ())}
Request = tuple[str, str, dict[str, Any]]


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    for name in ("d.test", "e.test"):
        made.add_domain(name)
    made.add_domain(Domain("other.test", alias_of="d.test"))
    made.add_accounts([(one, "{PLAIN}x") for one in (*ROLES, "chief@d.test", "b@e.test")])
    for address, (role, domains) in ROLES.items():
        made.change_account(address, lambda old, r=role, d=domains: replace(old, role=r, administers=d))  # type: ignore[misc]
    made.change_account("chief@d.test", lambda old: replace(old, role=OF_DOMAINS, administers=("e.test",)))
    made.put_list(List("crew@d.test", owners=(USER,)))
    return made


def ask(place: MemoryDirectory, by: str, request: Request) -> dict[str, Any]:
    what, name, given = request
    account = place.account(by)
    return perform(place, {"do": what, "name": name, "fields": given}, lambda text: (text, ""), account)


ADMINS: list[Request] = [  # what an administrator of d.test may do, and the helpdesk may not
    ("domain.set", "d.test", {"description": "ours", "footer": "bye"}),
    ("account.add", "new@d.test", {"password": "secret", "senders": ["info@d.test", "x@other.test"]}),
    ("account.set", USER, {"forward": ["x@far.test"], "quota_storage": "1G"}),
    ("account.rename", USER, {"to": "z@d.test"}),
    ("alias.add", "info@d.test", {"targets": [USER]}),
    ("group.add", "team@d.test", {"members": [USER]}),
    ("list.set", "crew@d.test", {"tag": "[c]"}),
    ("member.add", "crew@d.test", {"address": "x@far.test"}),
]
HELPS: list[Request] = [  # what both may do
    ("account.show", USER, {}),
    ("account.set", USER, {"password": "new", "suspended": "unpaid", "logs_in": False}),
    ("account.set", "a@other.test", {"stopped": ""}),
    ("list.show", "crew@d.test", {}),
    ("app-password.add", USER, {"name": "phone"}),
]
NOBODYS: list[Request] = [  # what neither may do
    ("domain.add", "new.test", {}),
    ("domain.remove", "d.test", {}),
    ("domain.rename", "d.test", {"to": "new.test"}),
    ("domain.set", "d.test", {"most_accounts": 0}),
    ("domain.set", "d.test", {"enabled": False}),
    ("domain.set", "e.test", {"description": "mine"}),
    ("domain.show", "e.test", {}),
    ("account.add", "new@e.test", {"password": "secret"}),
    ("account.add", "new@far.test", {"password": "secret"}),
    ("account.show", "b@e.test", {}),
    ("account.set", USER, {"role": SERVER}),
    ("account.set", USER, {"administers": ["e.test"]}),
    ("account.set", USER, {"senders": ["@e.test"]}),
    ("account.set", USER, {"senders": "boss@e.test"}),
    ("account.set", "chief@d.test", {"password": "mine"}),
    ("account.set", ADMIN, {"administers": ["e.test"]}),
    ("account.rename", USER, {"to": "a@e.test"}),
    ("account.rename", "b@e.test", {"to": "b@d.test"}),
    ("account.rename", "chief@d.test", {"to": "c@d.test"}),
    ("app-password.add", "chief@d.test", {"name": "mine"}),
    ("app-password.add", '"chief"@d.test', {"name": "mine"}),
    ("account.set", '"c\\hief"@d.test', {"password": "mine"}),
    ("account.set", " Chief@D.test ", {"password": "mine"}),
    ("account.set", '"chief"@other.test', {"password": "mine"}),
    ("account.rename", ' "chief"@d.test', {"to": "c@d.test"}),
    ("app-password.show", "b@e.test", {}),
    ("alias.add", "x@e.test", {"targets": [USER]}),
    ("alias.add", "@e.test", {"targets": [USER]}),
    ("list.remove", "crew@e.test", {}),
]


@pytest.mark.parametrize("request_", ADMINS + HELPS, ids=lambda one: f"{one[0]} {one[1]}")
def test_what_an_administrator_of_a_domain_may_do(place: MemoryDirectory, request_: Request) -> None:
    ask(place, ADMIN, request_)


@pytest.mark.parametrize("request_", HELPS, ids=lambda one: f"{one[0]} {one[1]}")
def test_what_the_helpdesk_may_do(place: MemoryDirectory, request_: Request) -> None:
    ask(place, HELP, request_)


@pytest.mark.parametrize("request_", [*ADMINS, *NOBODYS], ids=lambda one: f"{one[0]} {one[1]} {one[2]}")
def test_what_the_helpdesk_may_not_do(place: MemoryDirectory, request_: Request) -> None:
    with pytest.raises(NotAllowed):
        ask(place, HELP, request_)


@pytest.mark.parametrize("request_", NOBODYS, ids=lambda one: f"{one[0]} {one[1]} {one[2]}")
def test_what_is_for_the_servers_administrator(place: MemoryDirectory, request_: Request) -> None:
    with pytest.raises(NotAllowed):
        ask(place, ADMIN, request_)


@pytest.mark.parametrize("request_", [*ADMINS, *HELPS], ids=lambda one: f"{one[0]} {one[1]}")
def test_who_has_no_role_may_do_nothing(place: MemoryDirectory, request_: Request) -> None:
    with pytest.raises(NotAllowed, match="administers nothing"):
        ask(place, USER, request_)


def test_every_request_was_thought_of(place: MemoryDirectory) -> None:
    """What is added later is nobody's but the server's administrator's, until somebody says otherwise."""
    listed = {what for what, _, _ in (*ADMINS, *HELPS, *NOBODYS)}
    kinds = {what.partition(".")[0] for what in listed}
    assert {what.partition(".")[0] for what in ACTIONS} == kinds
    assert ask(place, BOSS, ("domain.add", "new.test", {})) == {}


def test_app_passwords(place: MemoryDirectory) -> None:
    made = ask(place, HELP, ("app-password.add", USER, {"name": "phone", "protocols": "imap", "expires": "2030-01-01"}))
    assert len(made["password"]) == 23
    ask(place, HELP, ("app-password.set", USER, {"id": made["app"], "name": "tablet", "nets": ["192.0.2.0/24"]}))
    (shown,) = ask(place, HELP, ("app-password.show", USER, {}))["app_passwords"]
    assert (shown["id"], shown["name"], shown["protocols"], shown["nets"]) == (
        made["app"], "tablet", ["imap"], ["192.0.2.0/24"])  # fmt: skip
    assert shown["expires"] == 1893456000
    ask(place, ADMIN, ("app-password.remove", USER, {"id": made["app"]}))
    with pytest.raises(NoSuchUser, match="has no app password"):
        ask(place, ADMIN, ("app-password.remove", USER, {"id": made["app"]}))


@pytest.mark.parametrize(
    "request_",
    [
        ("list.set", "crew@d.test", {"members": [5]}),
        ("list.set", "crew@d.test", {"members": [["x"]]}),
        ("list.set", "crew@d.test", {"members": [{"address": 5}]}),
        ("member.set", "crew@d.test", {"address": 5}),
        ("account.rename", USER, {"to": "z@d.test", "keep": "perhaps"}),
    ],
)
def test_values_of_another_kind_are_refused_in_words(place: MemoryDirectory, request_: Request) -> None:
    """Anything else that is raised would end a batch, with all that others asked for in it."""
    with pytest.raises(DirectoryError, match=r"is expected|is an address"):
        ask(place, ADMIN, request_)
