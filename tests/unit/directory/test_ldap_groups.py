"""Groups of LDAP: members that are groups themselves, as deep as is allowed, and as another directory finds them."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory import ldap, ldap_groups
from fastmail.directory.ldap_groups import CHAIN, DEPTH, FOLLOW, NO, accounts_in, plain
from tests.unit.directory.test_external import _ldap

ANNA, BERT = "cn=anna,dc=test", "cn=bert,dc=test"
NAMED = {ANNA: "anna@one.test", BERT: "bert@one.test"}
SETTINGS = ldap.Settings("ldap://127.0.0.1", base="dc=test", groups="(g=*)", filter="mail=*")


def group(name: str, *members: str) -> dict[str, Any]:
    values = {"cn": [name.encode()], "member": [one.encode() for one in members]}
    return {"dn": f"CN={name},DC=test", "raw_attributes": values}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("CN=Anna,DC=Test", ANNA.replace("anna", "anna")),
        (" cn = Anna , dc=test ", ANNA),
        ("cn=a\\, b,dc=test", "cn=a\\,b,dc=test"),
        ("", ""),
    ],
)
def test_names_are_compared_without_case_and_blanks(text: str, wanted: str) -> None:
    assert plain(text) == wanted


def read(
    nested: str, *entries: dict[str, Any], chain: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """What is read of groups; ``chain``: names that a directory gives by the group that is asked for."""

    def ask(filter_: str, names: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        if filter_ == "(g=*)":
            return entries
        assert tuple(names) == ("1.1",) and chain is not None
        return [{"dn": one, "raw_attributes": {}} for one in chain[filter_]]

    return ldap_groups.read(replace(SETTINGS, nested=nested), "one.test", NAMED, ask)


def test_groups_in_groups() -> None:
    there = [
        group("all", "cn=sales, dc=test", "CN=Printers,DC=test"),
        group("sales", BERT.upper(), "cn=north,dc=test"),
        group("north", ANNA),
    ]
    both = ["anna@one.test", "bert@one.test"]
    assert read(FOLLOW, *there) == {"all@one.test": both, "sales@one.test": both, "north@one.test": both[:1]}
    assert read(NO, *there) == {"all@one.test": [], "sales@one.test": both[1:], "north@one.test": both[:1]}


def test_a_group_that_is_in_itself_ends() -> None:
    there = [
        group("a", "cn=b,dc=test", ANNA),
        group("b", "cn=c,dc=test"),
        group("c", "cn=a,dc=test", "cn=c,dc=test", BERT),
    ]
    both = ["anna@one.test", "bert@one.test"]
    assert read(FOLLOW, *there) == {f"{name}@one.test": both for name in "abc"}


def test_groups_are_followed_so_deep_and_no_deeper() -> None:
    groups = {f"g{n}": [f"g{n + 1}"] for n in range(DEPTH + 1)}
    at_last = {**groups, f"g{DEPTH}": ["me"]}
    assert accounts_in(["g1"], at_last, {"me": "me@one.test"}, True) == {"me@one.test"}
    too_deep = {**groups, f"g{DEPTH + 1}": ["me"]}
    assert accounts_in(["g1"], too_deep, {"me": "me@one.test"}, True) == set()


def test_many_groups_that_name_each_other_are_looked_at_once() -> None:
    class Counted(dict[str, list[str]]):
        looks = 0

        def __getitem__(self, name: str) -> list[str]:
            self.looks += 1
            return super().__getitem__(name)

    names = [f"g{n}" for n in range(200)]
    groups = Counted(dict.fromkeys(names, names))
    assert accounts_in(names, groups, {}, True) == set() and groups.looks == len(names)


def test_another_directory_finds_members_of_members() -> None:
    """The question is the one that Active Directory answers; no OpenLDAP knows the rule."""
    question = r"(&(mail=*)(memberOf:1.2.840.113556.1.4.1941:=CN=a\28x\29,DC=test))"
    found = read(CHAIN, group("a(x)"), chain={question: ["CN=Anna, DC=Test", "CN=Printer,DC=test"]})
    assert found == {}, "its name is none that an address can have"
    question = "(&(mail=*)(memberOf:1.2.840.113556.1.4.1941:=CN=team,DC=test))"
    found = read(CHAIN, group("team"), chain={question: ["CN=Anna, DC=Test", "CN=Printer,DC=test"]})
    assert found == {"team@one.test": ["anna@one.test"]}


@pytest.mark.peer
def test_groups_in_groups_of_a_real_directory(tmp_path: Path) -> None:
    with contextlib.contextmanager(_ldap)(tmp_path) as kept:
        import ldap3

        kept.write([("anna@one.test", "{PLAIN}a", 0), ("bert@one.test", "{PLAIN}b", 0)], [])
        source: Any = kept.source
        people = "ou=people,dc=test"
        base = ldap3.Connection(source.name.removeprefix("ldap://"), "cn=root,dc=test", "secret", auto_bind=True)
        members = {
            "all": [f"cn=sales,{people}", f"uid=u0,{people}"],
            "sales": [f"CN = North, {people}", f"cn=all,{people}"],
            "north": [f"uid=u1,{people}"],
        }
        for name, found in members.items():
            assert base.add(f"cn={name},{people}", "groupOfNames", {"member": found}), base.result
        base.unbind()
        wanted = {"all": ["anna", "bert"], "sales": ["anna", "bert"], "north": ["bert"]}
        for nested in (FOLLOW, NO):
            source._settings = replace(source._settings, groups="(objectClass=groupOfNames)", nested=nested)
            source.forget()
            content = source._read()
            assert content is not None and content.groups == {
                f"{name}@two.test": [f"{one}@one.test" for one in found] for name, found in wanted.items()
            }
            wanted = {"all": ["anna"], "sales": [], "north": ["bert"]}
