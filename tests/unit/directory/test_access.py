"""fastmail.directory.access: conditions on logins as Dovecot 2.3 has them, and in every protocol."""

import asyncio
import tempfile
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fastmail.directory import access, local
from fastmail.directory.external import PasswdFile, bring_lines, parse
from fastmail.directory.local import LocalDirectory
from fastmail.model.errors import DamagedAccount
from tests.support.sessions import USER, Bench


@pytest.mark.parametrize(
    ("nets", "host", "good"),
    [
        ("", "192.0.2.1", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.0/8,192.0.2.0/24", "192.0.2.9", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("2001:db8::/32,10.0.0.0/8", "2001:db8::5", True),
        ("2001:db8::/32", "2001:db9::5", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("10.0.0.0/8,nonsense", "10.1.2.3", True),
        ("nonsense", "10.1.2.3", False),
        ("none", "10.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("local", "local", True),
        ("local", "127.0.0.1", False),
        ("10.0.0.0/8", "local", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "no address", False),
        ("0.0.0.0/0", "::1", False),
    ],
)
def test_nets(nets: str, host: str, good: bool) -> None:
    assert access.allows(nets, host) is good


@pytest.mark.parametrize(
    ("extra", "nets", "nologin", "password"),
    [
        ("", "", "", "{PLAIN}x"),
        ("nologin", "", access.NOT_ALLOWED, "{PLAIN}x"),
        ("nologin=no", "", access.NOT_ALLOWED, "{PLAIN}x"),  # as in Dovecot: it is there
        ("nologin=0 reason=Gone", "", "Gone", "{PLAIN}x"),
        ("reason=Unused", "", "", "{PLAIN}x"),
        ("allow_nets=10.0.0.0/8,2001:db8::/32", "10.0.0.0/8,2001:db8::/32", "", "{PLAIN}x"),
        ("allow_nets=", "none", "", "{PLAIN}x"),
        ("allow_real_nets=10.0.0.0/8", "10.0.0.0/8", "", "{PLAIN}x"),
        ("proxy host=10.1.1.1", "", access.ELSEWHERE, "{PLAIN}x"),
        ("proxy_maybe=y", "", access.ELSEWHERE, "{PLAIN}x"),
        ("nopassword", "", "", "{NONE}!"),
        ("userdb_mail=maildir:~/x nodelay nologin reason=a\u00e4\x07b", "", "a??b", "{PLAIN}x"),
    ],
)
def test_passwd_file(extra: str, nets: str, nologin: str, password: str) -> None:
    (line,) = parse(f"user@example.test:{{PLAIN}}x::::::{extra}\n", "example.test")
    assert (line.nets, line.nologin, line.password) == (nets, nologin, password)


def test_conditions_are_followed(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    for extra, wanted in (
        ("allow_nets=10.0.0.1", ("10.0.0.1", "")),
        ("nologin", ("", access.NOT_ALLOWED)),
        ("", ("", "")),
    ):
        (tmp_path / "users").write_text(f"user:{{PLAIN}}x::::::{extra}\n")
        content = asyncio.run(PasswdFile(str(tmp_path / "users"), "example.test").read())
        assert content is not None
        assert bring_lines(directory, list(content.lines.values()), []) == 1
        record = directory.account("user@example.test")
        assert record is not None and (record.nets, record.nologin) == wanted
        assert bring_lines(directory, list(content.lines.values()), []) == 0
    directory.close()


def test_rows_of_before_are_read_and_restrictions_stop_an_older_reader(tmp_path: Path) -> None:
    row = local.AccountRow(1, 7, "{PLAIN}x", home="/h")
    old = msgspec.msgpack.encode(
        msgspec.structs.astuple(msgspec.structs.replace(row, check=local._sum("a@b", row)))[:9]
    )
    assert local._record("a@b", old).home == "/h"
    assert msgspec.msgpack.decode(local._packed("a@b", row))[:9] == msgspec.msgpack.decode(old)
    barred = msgspec.structs.replace(row, nologin="no")
    assert local._record("a@b", local._packed("a@b", barred)).nologin == "no"
    cut = msgspec.msgpack.encode(msgspec.msgpack.decode(local._packed("a@b", barred))[:9])
    with pytest.raises(DamagedAccount):
        local._record("a@b", cut)


PLAIN = b64encode(f"\0{USER}\0secret".encode())
WRONG = b64encode(f"\0{USER}\0wrong".encode())


@pytest.mark.parametrize(
    ("protocol", "login", "good", "bad", "refused"),
    [
        ("imap", b"a AUTHENTICATE PLAIN %b\r\n", b"a OK", b"a NO [AUTHENTICATIONFAILED]", b"a NO [AUTHORIZATIONFAILED] Gone"),
        ("imap", b"a LOGIN user@example.test %s\r\n", b"a OK", b"a NO [AUTHENTICATIONFAILED]", b"a NO [AUTHORIZATIONFAILED] Gone"),
        ("pop3", b"AUTH PLAIN %b\r\n", b"+OK", b"-ERR [AUTH] login failed", b"-ERR [AUTH] Gone"),
        ("submission", b"AUTH PLAIN %b\r\n", b"235 ", b"535 5.7.8", b"525 5.7.13 Gone"),
    ],
)  # fmt: skip
def test_every_protocol(protocol: str, login: bytes, good: bytes, bad: bytes, refused: bytes) -> None:
    async def one(host: str, nets: str, nologin: str, right: bool = True) -> bytes:
        bench = Bench(tempfile.mkdtemp())
        bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], nets=nets, nologin=nologin)
        client = bench.open(protocol, host)
        if protocol == "submission":
            await client.send(b"EHLO there.test\r\n")
        word = (b"secret" if right else b"wrong") if b"LOGIN" in login else PLAIN if right else WRONG
        answer: bytes = await client.send(login % word)
        return answer

    async def work() -> None:
        assert good in await one("10.1.2.3", "10.0.0.0/8", "")
        assert bad in await one("192.0.2.1", "10.0.0.0/8", "")
        assert bad in await one("local", "10.0.0.0/8", "")
        assert refused in await one("10.1.2.3", "", "Gone")
        assert bad in await one("192.0.2.1", "10.0.0.0/8", "Gone")
        assert bad in await one("10.1.2.3", "", "Gone", right=False)  # nothing is told to who does not know it

    asyncio.run(work())
