"""fastmail.directory.ldap: accounts are looked up when somebody asks for them, names are texts, conditions count."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastmail.auth.verifier import Verifier
from fastmail.directory import access, ldap
from fastmail.directory.database import Unreadable
from fastmail.directory.external import apply
from fastmail.directory.interface import Line
from fastmail.directory.live import Live
from fastmail.directory.local import LocalDirectory
from fastmail.model.errors import TemporaryError
from tests.unit.directory.test_external import _ldap


def entry(*mails: str, **more: str | list[str]) -> dict[str, Any]:
    values = {"mail": list(mails), "userPassword": ["{PLAIN}secret"]}
    values |= {name: [value] if isinstance(value, str) else value for name, value in more.items()}
    return {"raw_attributes": {name: [one.encode() for one in found] for name, found in values.items()}}


def made(entries: list[dict[str, Any]], asked: list[str], **more: Any) -> ldap.Ldap:
    settings = ldap.Settings("ldap://127.0.0.1:1", base="dc=test", **more)
    source = ldap.Ldap(settings, "two.test", 30.0)

    def found(filter_: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        asked.append(filter_)
        return entries

    source._entries = found  # type: ignore[method-assign]
    return source


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("anna@one.test", "anna@one.test"),
        ("*", r"\2a"),
        ("x)(uid=*", r"x\29\28uid=\2a"),
        ("a\\b\0", r"a\5cb\00"),
        ("\u00e4", r"\c3\a4"),
    ],
)
def test_names_are_texts_in_filters(text: str, wanted: str) -> None:
    assert ldap.escaped(text) == wanted


def test_one_is_looked_up() -> None:
    asked: list[str] = []
    source = made([entry("anna@one.test", "info@one.test")], asked)
    for name in ("anna@one.test", "info@one.test"):
        line = asyncio.run(source.lookup(name))
        assert line is not None and line.address == "anna@one.test"
    assert asked == ["(&(mail=*)(|(mail=anna@one.test)))", "(&(mail=*)(|(mail=info@one.test)))"]
    assert asyncio.run(source.lookup("other@one.test")) is None  # whatever the server answers
    assert asyncio.run(source.lookup("an\nna")) is None and asyncio.run(source.lookup("")) is None
    source = made([entry("bert")], asked, filter="objectClass=person")
    line = asyncio.run(source.lookup("bert@two.test"))
    assert line is not None and line.address == "bert@two.test"
    assert asked[-1] == "(&(objectClass=person)(|(mail=bert@two.test)(mail=bert)))"


@pytest.mark.parametrize(
    ("more", "nets", "nologin"),
    [
        ({}, "", ""),
        ({"hosts": "10.0.0.0/8"}, "10.0.0.0/8", ""),
        ({"hosts": ["10.0.0.0/8", "192.0.2.0/24"]}, "10.0.0.0/8,192.0.2.0/24", ""),
        ({"barred": "TRUE"}, "", access.NOT_ALLOWED),
        ({"barred": "FALSE"}, "", ""),
        ({"barred": "since May"}, "", access.NOT_ALLOWED),
        ({"backend": "10.1.1.1"}, "", access.ELSEWHERE),
        ({"backend": "FALSE"}, "", ""),
        ({"backend": "TRUE", "barred": "TRUE"}, "", access.NOT_ALLOWED),
    ],
)
def test_conditions(more: dict[str, Any], nets: str, nologin: str) -> None:
    source = made([entry("anna@one.test", **more)], [], nets="hosts", nologin="barred", proxy="backend")
    for line in (asyncio.run(source.lookup("anna@one.test")), next(iter(source._read().lines.values()))):  # type: ignore[union-attr]
        assert line is not None and (line.nets, line.nologin) == (nets, nologin)


@pytest.mark.peer
def test_an_account_counts_at_once(tmp_path: Path) -> None:
    """A real directory server: nobody is there, then somebody is, without a look at everybody between."""
    with contextlib.contextmanager(_ldap)(tmp_path) as kept:
        kept.write([("anna@one.test", "{PLAIN}secret", 0)], [])

        async def work() -> None:
            directory = LocalDirectory(str(tmp_path / "data"))
            source: Any = kept.source
            directory.live = Live(directory, source, 30.0)
            verifier = Verifier(directory, default_domain="two.test")
            record = await verifier.check("anna@one.test", b"secret")
            assert record is not None
            assert await verifier.check("new@one.test", b"secret") is None
            rows = [("anna@one.test", "{PLAIN}secret", 0), ("new@one.test", "{PLAIN}secret", 0)]
            await asyncio.get_running_loop().run_in_executor(None, kept.write, rows, [])
            await asyncio.sleep(1.1)
            assert await verifier.check("new@one.test", b"secret") is not None
            assert await verifier.check("new@one.test)(mail=*", b"secret") is None
            await directory.live.close()
            verifier.close()
            directory.close()

        asyncio.run(work())


# ---------------------------------------------------------------- passwords that the directory checks, and groups

DN = "CN=Anna,OU=People,DC=test"


def test_who_binds_has_no_hash() -> None:
    source = made([entry("anna@one.test") | {"dn": DN}, entry("bert@one.test")], [], binds=True)  # type: ignore[arg-type]
    content = source._read()
    assert content is not None and {name: one.password for name, one in content.lines.items()} == {
        "anna@one.test": ldap.BINDS + DN
    }


def test_a_password_that_another_directory_checks(tmp_path: Path) -> None:
    asked: list[tuple[str, str, str]] = []
    answers: list[bool | Exception] = [False, True, Unreadable("away"), Unreadable("away")]

    class Other:
        async def check(self, address: str, stored: str, password: str) -> bool:
            asked.append((address, stored, password))
            found = answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    async def work() -> None:
        directory = LocalDirectory(str(tmp_path))
        directory.bring([Line("anna@one.test", ldap.BINDS + DN)], [])
        verifier = Verifier(directory, 1, binder=Other())
        assert await verifier.check("anna@one.test", b"wrong") is None
        for _ in range(2):  # the second time it is remembered
            assert await verifier.check("anna@one.test", "pässword".encode()) is not None
        assert await verifier.check("anna@one.test", b"\xff") is None
        assert await verifier.check("anna@one.test", b"") is None
        for _ in range(2):
            with pytest.raises(TemporaryError):
                await verifier.check("anna@one.test", b"another")
        without = Verifier(directory, 1)
        assert await without.check("anna@one.test", b"another") is None
        for one in (verifier, without):
            one.close()
        directory.close()

    asyncio.run(work())
    row = ("anna@one.test", ldap.BINDS + DN)
    assert asked == [(*row, one) for one in ("wrong", "pässword", "another", "another")]


def test_groups_have_the_accounts_among_their_members(tmp_path: Path) -> None:
    people = [entry("anna@one.test") | {"dn": DN}, entry("bert@one.test") | {"dn": "CN=Bert,DC=test"}]
    team = entry(cn="Team", member=[DN.upper(), "CN=Printer,DC=test"])
    odd = entry(cn="Domain Users\n", member=[DN])
    source = ldap.Ldap(ldap.Settings("ldap://127.0.0.1:1", base="dc=test", groups="(g=*)"), "two.test", 30.0)
    groups = [team, odd]
    source._entries = lambda filter_, names=(): groups if filter_ == "(g=*)" else people  # type: ignore[method-assign]
    content = source._read()
    assert content is not None and content.groups == {"team@two.test": ["anna@one.test"]}
    directory = LocalDirectory(str(tmp_path))
    apply(directory, content)
    anna = directory.account("anna@one.test")
    assert anna is not None and directory.groups_of(anna.id) == {"team@two.test"}
    assert apply(directory, content) == 0
    directory.put_group("own@two.test", ["bert@one.test"])
    groups[:] = [entry(cn="own", member=[DN])]
    content = source._read()
    assert content is not None and apply(directory, content) == 1
    assert directory.groups_of(anna.id) == frozenset(), "one that was made here goes before the source's"
    assert [one.name for one in directory.each_group()] == ["own@two.test"]
    directory.close()


class Answer:
    """A connection whose bind is answered with this code."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.result = {"result": code, "description": "an answer"}

    def bind(self) -> bool:
        return self.code == 0


@pytest.mark.parametrize(
    ("code", "wanted"),
    [(0, True), (49, False), (19, False), (53, False), (50, TemporaryError), (51, Unreadable), (52, Unreadable)],
)
def test_what_an_answer_to_a_bind_says(code: int, wanted: bool | type[TemporaryError]) -> None:
    """An answer about one account closes nobody else out, as the answers of a server that is away do."""
    source: Any = ldap.Ldap(ldap.Settings("ldap://127.0.0.1", base="dc=test", binds=True), "one.test", 1.0)
    source._connection = lambda *_: contextlib.nullcontext(Answer(code))
    if isinstance(wanted, bool):
        assert asyncio.run(source.bind(ldap.BINDS + DN, "x")) is wanted
    else:
        with pytest.raises(TemporaryError) as found:
            asyncio.run(source.bind(ldap.BINDS + DN, "x"))
        assert type(found.value) is wanted
    assert bool(source._away) is (wanted is Unreadable)
    source.end()


@pytest.mark.peer
def test_binding_as_a_user_of_a_real_directory(tmp_path: Path) -> None:
    with contextlib.contextmanager(_ldap)(tmp_path) as kept:
        kept.write([("anna@one.test", "right", 0)], [])
        source: Any = kept.source
        source._settings = replace(source._settings, binds=True)
        line = asyncio.run(source.lookup("anna@one.test"))
        assert line is not None and line.password == ldap.BINDS + "uid=u0,ou=people,dc=test"
        assert source.check(line.password, "right") and not source.check(line.password, "wrong")
        assert not source.check(line.password, "") and not source.check(ldap.BINDS, "right")
        assert not source.check(ldap.BINDS + "uid=nobody,dc=test", "right")
        assert not asyncio.run(source.bind(line.password, "con\x01trol")) and not source._away
        assert [asyncio.run(source.bind(line.password, one)) for one in ("right", "wrong")] == [True, False]
    with pytest.raises(Unreadable):
        source.check(line.password, "right")
    with pytest.raises(Unreadable):
        asyncio.run(source.bind(line.password, "right"))
    with pytest.raises(TemporaryError, match="cannot be checked now"):  # it is not asked again so soon
        asyncio.run(source.bind(line.password, "right"))
    source.end()
