"""Domains and mailing lists of LDAP: entries in the test's hands, and those of a real directory server."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory import ldap, ldap_lists
from fastmail.directory.external import AccountSync, Content
from fastmail.directory.ldap_groups import NO
from fastmail.directory.local import LocalDirectory
from fastmail.directory.told import Told
from tests.unit.directory.test_external import _ldap

SETTINGS = ldap.Settings(
    "ldap://127.0.0.1",
    base="dc=test",
    domains="(d=*)",
    domain_name="dname",
    domain_fields=(("description", "about"), ("enabled", "on"), ("catch_all", "caught")),
    lists="(l=*)",
    list_members=("member", "address"),
    list_fields=(("name", "cn"), ("owners", "owner")),
)
ANNA, CONTACT = "cn=anna,dc=test", "cn=contact,dc=test"


def entry(dn: str, **values: str | list[str]) -> dict[str, Any]:
    every = {name: [one] if isinstance(one, str) else one for name, one in values.items()}
    return {"dn": dn, "raw_attributes": {name: [one.encode() for one in found] for name, found in every.items()}}


def read(*lists: dict[str, Any], nested: str = "follow") -> tuple[dict[str, Told], dict[str, list[str]]]:
    contacts = [entry(CONTACT.upper(), mail=["contact@far.test", "second@far.test"]), *lists]

    def ask(filter_: str, names: Sequence[str]) -> Iterable[Mapping[str, Any]]:
        return lists if filter_ == "(l=*)" else [one for one in contacts if "mail" in one["raw_attributes"]]

    said, incoming = ldap_lists.lists(replace(SETTINGS, nested=nested), "one.test", {ANNA: "anna@one.test"}, ask)
    members = {name: [one.address for _, one in incoming.of(name)] for name in said}
    incoming.close()
    return said, members


def test_members_are_accounts_contacts_and_addresses() -> None:
    values = ["CN=Anna, DC=test", CONTACT, "cn=printer,dc=test"]
    team = entry(
        "cn=team,dc=test", mail="Team@one.test", cn="The team", member=values, address=["x@far.test", "nobody"]
    )
    said, members = read(team, entry("cn=other,dc=test", mail="other", owner=["a@b.test", "c@d.test"]))
    assert said == {
        "team@one.test": (("name", "The team"),),
        "other@one.test": (("owners", ("a@b.test", "c@d.test")),),
    }
    assert members == {
        "team@one.test": ["anna@one.test", "contact@far.test", "x@far.test"],
        "other@one.test": [],
    }


def test_lists_in_lists_stand_for_their_members() -> None:
    there = [
        entry("cn=all,dc=test", mail="all@one.test", member=["cn=team,dc=test", CONTACT]),
        entry("cn=team,dc=test", mail="team@one.test", member=[ANNA, "cn=all,dc=test"], address="x@far.test"),
    ]
    every = ["anna@one.test", "contact@far.test", "x@far.test"]
    assert read(*there)[1] == {"all@one.test": every, "team@one.test": every}
    direct = read(*there, nested=NO)[1]
    assert direct["all@one.test"] == ["contact@far.test", "team@one.test"], "the directory leaves a list out"


def test_domains() -> None:
    out = Content(aliases={})
    entries = [
        entry("dc=one", dname="One.test", about="One", on="TRUE", caught=["a@one.test", "b@one.test"]),
        entry("dc=two", dname="two.test", on="FALSE"),
        entry("dc=three", about="nameless"),
    ]
    ldap_lists.domains(SETTINGS, lambda filter_, names: entries, out)
    assert out.domains == {
        "one.test": (("description", "One"), ("enabled", True)),
        "two.test": (("enabled", False),),
    }
    assert out.aliases == {"@one.test": ["a@one.test", "b@one.test"]}


@pytest.mark.peer
def test_a_real_directory_is_followed(tmp_path: Path) -> None:
    with contextlib.contextmanager(_ldap)(tmp_path) as kept:
        import ldap3

        kept.write([("anna@two.test", "{PLAIN}a", 0), ("bert@two.test", "{PLAIN}b", 0)], [])
        people = "ou=people,dc=test"
        base = ldap3.Connection(kept.source.name.removeprefix("ldap://"), "cn=root,dc=test", "secret", auto_bind=True)

        def put(name: str, classes: list[str], **values: Any) -> None:
            assert base.add(f"cn={name},{people}", classes, values), base.result

        put("far", ["inetOrgPerson"], sn="x", mail="far@far.test")
        put("team", ["groupOfNames", "extensibleObject"], mail="team@two.test", description="The team",
            member=[f"uid=u0,{people}", f"cn=far,{people}", f"cn=inner,{people}"])  # fmt: skip
        put("inner", ["groupOfNames", "extensibleObject"], mail="inner@two.test", member=[f"uid=u1,{people}"])
        assert base.add(f"dc=two,{people}", ["domain", "extensibleObject"], {"dc": "two", "associatedDomain": "two.test",
                                                                            "description": "Two"}), base.result  # fmt: skip
        settings = replace(
            kept.source._settings,  # type: ignore[attr-defined]
            filter="(&(mail=*)(userPassword=*))",
            domains="(associatedDomain=*)",
            domain_name="associatedDomain",
            domain_fields=(("description", "description"),),
            lists="(&(objectClass=groupOfNames)(mail=*))",
            list_fields=(("description", "description"),),
        )
        source = ldap.Ldap(settings, "two.test", 30.0)
        directory = LocalDirectory(str(tmp_path / "data"))
        directory.sources = frozenset([""])
        sync = AccountSync(directory, source)
        assert asyncio.run(sync.take_in()) > 0 and asyncio.run(sync.take_in()) == 0
        domain, team = directory.domain("two.test"), directory.mailing_list("team@two.test")
        assert domain is not None and (domain.description, directory.said_of(domain)) == (
            "Two",
            ["description", "enabled"],
        )
        assert team is not None and team.description == "The team"
        every = [one.address for one in directory.each_member("team@two.test")]
        assert every == ["anna@two.test", "bert@two.test", "far@far.test"]
        assert base.modify(f"cn=inner,{people}", {"member": [(ldap3.MODIFY_REPLACE, [f"cn=far,{people}"])]})
        assert asyncio.run(sync.take_in()) > 0
        assert [one.address for one in directory.each_member("team@two.test")] == ["anna@two.test", "far@far.test"]
        assert base.delete(f"cn=team,{people}")
        assert asyncio.run(sync.take_in()) > 0
        team = directory.mailing_list("team@two.test")
        assert team is not None and not team.enabled
        base.unbind()
        source.end()
        directory.close()
