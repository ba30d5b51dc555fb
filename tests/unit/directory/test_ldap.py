"""fastmail.directory.ldap: accounts are looked up when somebody asks for them, names are texts, conditions count."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from fastmail.auth.verifier import Verifier
from fastmail.directory import access, ldap
from fastmail.directory.live import Live
from fastmail.directory.local import LocalDirectory
from tests.unit.directory.test_external import _ldap


def entry(*mails: str, **more: str | list[str]) -> dict[str, Any]:
    values = {"mail": list(mails), "userPassword": ["{PLAIN}secret"]}
    values |= {name: [value] if isinstance(value, str) else value for name, value in more.items()}
    return {"raw_attributes": {name: [one.encode() for one in found] for name, found in values.items()}}


def made(entries: list[dict[str, Any]], asked: list[str], **more: str) -> ldap.Ldap:
    settings = ldap.Settings("ldap://127.0.0.1:1", base="dc=test", **more)
    source = ldap.Ldap(settings, "two.test", 30.0)

    def found(filter_: str) -> list[dict[str, Any]]:
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
