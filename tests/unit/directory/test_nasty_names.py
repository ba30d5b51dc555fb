"""Names of domains and addresses as an attacker would choose them, through every request, every import and every source.

The plain rules, for whatever was taken: it is found again by what was written, in any case and by both spellings of its
domain; its own name would be taken as the same name; it is one part of a path, and its key fits a table. Whatever was
not taken is BadAddress or DirectoryError, and left nothing behind.
"""

import asyncio
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory import once
from fastmail.directory.errors import DirectoryError
from fastmail.directory.external import AccountSync, PasswdFile
from fastmail.directory.groups import group_name
from fastmail.directory.local import LocalDirectory
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import Alias, List
from fastmail.directory.requests import alias_name, perform
from fastmail.directory.rows import LONGEST, address_key, domain_key
from fastmail.directory.sql import Sql, Statements
from fastmail.model import domain as names
from fastmail.model.address import account_address, comparable, domain_name
from fastmail.model.errors import BadAddress

LOCALS = [
    *("a", "A", "a.b", "a+b", "a-b_c", "o'brien", "$team", "#1", "!x", "~root", "{x}", "a|b", "`id`", "$(id)", "%s"),
    *(".", "..", "...", ".a", "a.", "a..b", "../etc", "..%2f", "a/b", "/", "a\\b", "\\", "a b", " a", "a ", "", " "),
    *("\0", "a\0b", "a\n", "a\r\nb", "\t", "\x7f", "\x80", "a\u2028b", "a\ufeff", "\u200b", "a\u200db", "\u202ea"),
    *(
        '"a b"',
        '"a"',
        '".."',
        '"a/b"',
        '""',
        '"\\""',
        '"\\',
        '"a',
        'a"b"',
        '"@"',
        "(c)a",
        "a(c)",
        "<a>",
        "a,b",
        "a;b:c",
    ),
    *("ä", "a\u0308", "Ä", "ß", "ẞ", "ς", "Σ", "σ", "İ", "ı", "i\u0307", "ﬁ", "Ａ", "ａ", "①", "²", "ª", "ǆ", "Ǆ", "ΐ"),
    *(
        "日本",
        "ひ",
        "한국",
        "\u1112\u1161\u11ab",
        "عربي",
        "\u0660",
        "नमस्ते",
        "😀",
        "👨‍👩‍👧",
        "🏴",
        "\U000e0061",
        "\ufffd",
        "\ufffe",
    ),
    *("\ud800", "\udcff", "a\udc80", "xn--a", "xn--fa-hia", "-", "--", "-a", "_", "=", "=?utf-8?q?a?=", "prvs=1234=a"),
    *("a" * 64, "a" * 65, "ä" * 32, "ä" * 33, "日" * 21, "日" * 22, "a" * 500, "\u0390" * 21, "ß" * 32, "ﬃ" * 21),
    *("con", "nul", "cur", "new", "tmp", "INBOX", "postmaster", "abuse", "mailer-daemon", "team-request", "a-owner"),
]
DOMAINS = [
    *(
        "d.test",
        "D.TEST",
        "d.test.",
        "d.test..",
        ".d.test",
        "d..test",
        ".",
        "..",
        "",
        " ",
        "test",
        "localhost",
        "a b.test",
    ),
    *(
        "-d.test",
        "d-.test",
        "_d.test",
        "d_.test",
        "a--b.test",
        "ab--c.test",
        "xn--.test",
        "xn--a.test",
        "xn--zzzz.test",
    ),
    *("faß.test", "fass.test", "xn--fa-hia.test", "XN--FA-HIA.test", "FAẞ.test", "ςσ.test", "xn--4xa.test", "İ.test"),
    *(
        "bücher.test",
        "bu\u0308cher.test",
        "BÜCHER.TEST",
        "xn--bcher-kva.test",
        "日本.test",
        "日本。test",
        "ｄ.test",
        "d．test",
    ),
    *(
        "a\u200db.test",
        "क\u094d\u200dष.test",
        "\u200d.test",
        "a\u200b.test",
        "\u00ad.test",
        "a\u00ad.test",
        "😀.test",
        "xn--e28h.test",
    ),
    *(
        "א.test",
        "אa.test",
        "1א.test",
        "א1.test",
        "٠١.test",
        "a\u0301.test",
        "\u0301a.test",
        "\ufeffd.test",
        "①.test",
        "½.test",
    ),
    *(
        "d.test/x",
        "../etc",
        "d/../../etc",
        "d\\x.test",
        "d%2ftest",
        "d\0.test",
        "d\n.test",
        "d.test\n",
        "d\r.test",
        "d\t.test",
    ),
    *(
        "1.2.3.4",
        "[1.2.3.4]",
        "[IPv6:::1]",
        "127.1",
        "0x7f.1",
        "d.test:25",
        "u@d.test",
        "@d.test",
        "d.test@",
        "d,e.test",
    ),
    *(
        "a" * 63 + ".test",
        "a" * 64 + ".test",
        ".".join(["a" * 49] * 5),
        ".".join(["a" * 63] * 4),
        "a." * 126 + "a",
        "a." * 127 + "a",
    ),
    *(
        ("ä" * 56) + ".test",
        ("ä" * 59) + ".test",
        ".".join(["ä" * 20] * 7),
        "a" * 5000,
        "ä" * 5000,
        "." * 300,
        "a" * 252 + ".b",
    ),
    *(
        "\ud800.test",
        "\udcff.test",
        "d.\udc80",
        "$d.test",
        "d;rm.test",
        "`id`.test",
        "<d>.test",
        "d.test#",
        "d.test?",
        "*.test",
    ),
    *(
        "d.123",
        "d.te_st",
        "d.x-",
        "d.-x",
        "d.xn--p1ai",
        "рф.рф",
        "d.рф",
        "ⅷ.test",
        "ﬁ.test",
        "K.test",
        "ſ.test",
        "ᛒ.test",
    ),
]
ADDRESSES = [
    *(f"{one}@d.test" for one in LOCALS),
    *(f"a@{one}" for one in DOMAINS),
    "a",
    "@",
    "a@@d.test",
    "a@b@d.test",
    "",
]


def is_plain(part: str) -> bool:
    """May it be the name of a directory?"""
    whole = part not in ("", ".", "..") and not part.startswith(".") and "/" not in part and len(part.encode()) < 256
    return whole and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Zs") for c in part)


def upper(text: str) -> str:
    """Capitals of ASCII: others are not always the same name (sharp s, final sigma)."""
    return "".join(c.upper() if c.isascii() else c for c in text)


def check_domain(text: str, name: str) -> None:
    assert domain_name(name) == name and is_plain(name) and domain_key(name) == domain_key(text.strip())
    assert len(names.ascii_name(name)) <= 255 and 0 < len(domain_key(name)) <= LONGEST
    for other in (names.ascii_name(name), names.unicode_name(name), upper(name)):
        assert domain_key(other) == domain_key(name), (text, other)


def check_address(text: str, address: str) -> None:
    local, _, domain = address.rpartition("@")
    if local:
        assert str(account_address(address)) == address, text
        assert is_plain(local) and len(local.encode()) <= 64 and unicodedata.is_normalized("NFC", comparable(address))
    check_domain(domain, domain)
    assert 0 < len(address_key(address)) <= LONGEST and b"\0" in address_key(address)
    for other in (upper(address), f"{local}@{names.ascii_name(domain)}", f"{local}@{names.unicode_name(domain)}"):
        if comparable(other) == comparable(address):
            assert address_key(other) == address_key(address)


def hashed(password: str) -> tuple[str, str]:
    return "{PLAIN}" + password, ""


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = MemoryDirectory() if request.param == "memory" else LocalDirectory(str(tmp_path))
    made.add_domain("d.test")
    made.add_accounts([("owner@d.test", "{PLAIN}x")])
    yield made
    made.close()


def tried(place: Any, request: dict[str, Any]) -> bool:
    """False where it was refused; nothing was changed then."""
    before = place.changes
    try:
        perform(place, request, hashed)
    except (BadAddress, DirectoryError):
        assert place.changes == before
        return False
    return True


@pytest.mark.parametrize("text", DOMAINS, ids=ascii)
def test_domains(place: Any, text: str) -> None:
    known = place.domain("d.test")
    taken = tried(place, {"do": "domain.add", "name": text})
    for one in place.each_domain():
        check_domain(one.name, one.name)
    if taken:
        (made,) = [one for one in place.each_domain() if one != known]
        check_domain(text, made.name)
        assert place.domain(text.strip()) == made and place.is_local(text.strip())
        assert not tried(place, {"do": "domain.add", "name": upper(made.name)})
        assert tried(place, {"do": "domain.set", "name": text, "fields": {"description": "x"}})
        assert tried(place, {"do": "domain.remove", "name": text})
    for do, fields in (("domain.set", {"alias_of": text}), ("domain.rename", {"to": text}), ("domain.show", {})):
        tried(place, {"do": do, "name": "d.test", "fields": fields})
        for one in place.each_domain():
            check_domain(one.name, one.name)


KINDS: dict[str, tuple[dict[str, Any], Callable[[Any], Iterator[str]]]] = {
    "account": ({"password": "x"}, lambda place: (one.address for one in place.each_account())),
    "alias": ({"targets": ["owner@d.test"]}, lambda place: (one.address for one in place.each_alias())),
    "list": ({"owners": ["owner@d.test"]}, lambda place: (one.address for one in place.each_list())),
    "group": ({}, lambda place: (one.name for one in place.each_group())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_addresses(place: Any, kind: str) -> None:
    fields, each = KINDS[kind]
    after = set(each(place))
    for text in ADDRESSES:
        before = after
        taken = tried(place, {"do": f"{kind}.add", "name": text, "fields": dict(fields)})
        after = set(each(place))
        if not taken:
            assert after == before
            continue
        (made,) = after - before
        if kind in ("account", "list"):
            check_address(text, made)
        assert 0 < len(address_key(made)) <= LONGEST
        assert not tried(place, {"do": f"{kind}.add", "name": made, "fields": dict(fields)}), "it is there already"
        if kind != "group":
            assert tried(place, {"do": f"{kind}.show", "name": made})
        if kind == "account":
            assert place.account(made) == place.account(text.strip()) and place.resolve(made)
    for text in ADDRESSES:
        tried(place, {"do": f"{kind}.rename", "name": next(iter(each(place))), "fields": {"to": text}})
    for made in list(each(place)):
        if kind in ("account", "list"):
            check_address(made, made)


@pytest.mark.parametrize("kind", ["alias", "list", "account"])
def test_targets_owners_and_forwards(place: Any, kind: str) -> None:
    place.put_alias(Alias("x@d.test", ("owner@d.test",)))
    place.put_list(List("l@d.test", owners=("owner@d.test",)))
    name, field = {
        "alias": ("x@d.test", "targets"),
        "list": ("l@d.test", "owners"),
        "account": ("owner@d.test", "forward"),
    }[kind]
    for text in ADDRESSES:
        tried(place, {"do": f"{kind}.set", "name": name, "fields": {field: [text]}})
        tried(place, {"do": "member.add", "name": "l@d.test", "fields": {"address": text}})
    for one in place.each_member("l@d.test"):
        assert "\n" not in one.address and "\0" not in one.address and one.address.count("@") >= 1
        assert place.member("l@d.test", one.address) == one


def test_one_form_decides_who_somebody_is(place: Any) -> None:
    """No two accounts are there whose names a person could not tell apart by case or composition."""
    for text in ADDRESSES:
        tried(place, {"do": "account.add", "name": text, "fields": {"password": "x"}})
    folded = [comparable(one.address) for one in place.each_account()]
    assert len(folded) == len(set(folded))
    paths = [
        os.path.normpath(f"/mail/{d}/{u}") for u, _, d in (one.address.rpartition("@") for one in place.each_account())
    ]
    assert len(paths) == len(set(paths)) and all(path.count("/") == 3 for path in paths)


@pytest.mark.parametrize(
    "text", ["@d.test", "@D.TEST", "@", "@.", "@..", "@a b", "@d.test\n", "@\ud800", "@" + "a" * 300]
)
def test_catch_alls_and_groups(text: str) -> None:
    for read in (alias_name, group_name):
        try:
            name = read(text)
        except BadAddress:
            continue
        assert name == "@d.test"


def test_sources_bring_the_same_names_and_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once.forget()
    good = set()
    for text in ADDRESSES:
        try:
            good.add(comparable(str(account_address(text.strip().lower()))))
        except BadAddress:
            continue
    base = sqlite3.connect(tmp_path / "base", isolation_level=None)
    base.executescript("CREATE TABLE t (name); CREATE TABLE d (name); CREATE TABLE m (list, address);")
    texts = [one for one in ADDRESSES if "\0" not in one and one == one.encode("utf-8", "ignore").decode()]
    base.executemany("INSERT INTO t VALUES (?)", [(one,) for one in texts])
    base.executemany(
        "INSERT INTO d VALUES (?)", [(one,) for one in DOMAINS if one == one.encode("utf-8", "ignore").decode()]
    )
    base.executemany("INSERT INTO m VALUES ('team@d.test', ?)", [(one,) for one in texts])
    queries = Statements(
        "SELECT name, '{PLAIN}x' FROM t WHERE name LIKE '%@%'",
        "SELECT 'x' || name, 'a@d.test' FROM t",
        "SELECT name FROM d",
        "SELECT 'l' || name FROM t UNION SELECT 'team@d.test'",
        "SELECT list, address FROM m",
    )
    place = LocalDirectory(str(tmp_path / "data"))
    sync = AccountSync(place, Sql(f"sqlite:{tmp_path / 'base'}", queries, "d.test", 1.0))
    assert asyncio.run(sync.take_in()) > 0
    assert asyncio.run(sync.take_in()) == 0
    found = {comparable(one.address) for one in place.each_account()}
    assert found <= good and len(found) > 80
    for one in place.each_account():
        check_address(one.address, one.address)
    for domain in place.each_domain():
        check_domain(domain.name, domain.name)
    for row in place.each_list():
        check_address(row.address, row.address)
    place.close()
    (tmp_path / "users").write_text(
        "".join(f"{one}:{{PLAIN}}x\n" for one in texts if ":" not in one and "\n" not in one)
    )
    place = LocalDirectory(str(tmp_path / "more"))
    assert asyncio.run(AccountSync(place, PasswdFile(str(tmp_path / "users"), "d.test")).take_in()) > 0
    assert {comparable(one.address) for one in place.each_account()} <= good | {
        comparable(f"{one}@d.test") for one in LOCALS if one == one.encode("utf-8", "ignore").decode()
    }
    for one in place.each_account():
        check_address(one.address, one.address)
    place.close()
