"""fastmail.directory.access: conditions on logins as Dovecot 2.3 has them, and in every protocol."""

import asyncio
import json
import tempfile
import time
from base64 import b64decode, b64encode
from functools import cache
from pathlib import Path

import jwt
import pytest
import scramp
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from fastmail.auth import mechanisms, schemes
from fastmail.auth.oauth import Tokens
from fastmail.auth.provider import Settings
from fastmail.directory import access
from fastmail.directory.database import Table
from fastmail.directory.external import PasswdFile, bring_lines, parse
from fastmail.directory.local import LocalDirectory
from fastmail.directory.queries import DovecotSql, Queries
from fastmail.directory.sql import Sql, Statements
from fastmail.net import networks
from fastmail.net.connection import Connection
from tests.support.examples import FEW
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
        ("proxy=y", "", access.ELSEWHERE, "{PLAIN}x"),
        ("host=10.1.1.1", "", access.ELSEWHERE, "{PLAIN}x"),  # a referral
        ("host=10.1.1.1 allow_nets=10.0.0.0/8", "10.0.0.0/8", access.ELSEWHERE, "{PLAIN}x"),
        ("host=", "", "", "{PLAIN}x"),
        ("host=10.1.1.1 nologin reason=Gone", "", "Gone", "{PLAIN}x"),
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


# ---------------------------------------------------------------- every mechanism

END = b"e" * 32
ISSUER = "https://id.test"
MECHANISMS = ("LOGIN", "PLAIN", "LOGIN (SASL)", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "OAUTHBEARER",
              "XOAUTH2", "EXTERNAL")  # fmt: skip
COMMANDS = {"imap": b"a AUTHENTICATE ", "pop3": b"AUTH ", "submission": b"AUTH "}
DONE = {"imap": b"a OK ", "pop3": b"+OK ", "submission": b"235 "}
FAILED = {"imap": b"a NO [AUTHENTICATIONFAILED]", "pop3": b"-ERR [AUTH] login failed", "submission": b"535 5.7.8"}
NOT_HERE = {"imap": b"a NO [AUTHORIZATIONFAILED] ", "pop3": b"-ERR [AUTH] ", "submission": b"525 5.7.13 "}
CONDITIONS: dict[
    str, tuple[str, str]
] = {  # what a passwd-file says, and whether that is told to who knows the password
    "nothing": ("", ""),
    "from here": ("allow_nets=10.0.0.0/8", ""),
    "nologin": ("nologin", access.NOT_ALLOWED),
    "from elsewhere": ("allow_nets=192.0.2.0/24", "failed"),
    "from nowhere": ("allow_nets=", "failed"),
    "proxy": ("proxy host=10.1.1.1", access.ELSEWHERE),
    "proxy_maybe": ("proxy_maybe=y", access.ELSEWHERE),
    "host": ("host=10.1.1.1", access.ELSEWHERE),
    "disabled": ("", "failed"),
    "removed": ("", "failed"),
}


class Tls:
    asks = True
    context = None

    @staticmethod
    def end_point_of(channel: object) -> bytes:
        return END


class Login:
    """One login at a server that has all mechanisms, from 10.1.2.3."""

    def __init__(self, path: str, protocol: str) -> None:
        self.bench = Bench(path)
        self.protocol = protocol
        self.key = ec.generate_private_key(ec.SECP256R1())
        jwks = Path(path) / "jwks.json"
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key())) | {"alg": "ES256"}
        jwks.write_text(json.dumps({"keys": [public]}))
        self.bench.verifier._mechanisms = mechanisms.NAMES
        self.bench.verifier._tokens = Tokens(Settings(issuer=ISSUER, jwks=str(jwks)))

    async def by(self, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
        client = self.bench.open(self.protocol, "10.1.2.3")
        monkeypatch.setattr(Connection, "certified", property(lambda _: (USER,)))
        client.connection.tls = True
        client.listener.tls = Tls()
        if self.protocol == "submission":
            await client.send(b"EHLO there.test\r\n")
        if mechanism == "LOGIN":
            if self.protocol == "imap":
                return await client.send(b"a LOGIN user@example.test secret\r\n")
            if self.protocol == "pop3":
                await client.send(b"USER user@example.test\r\n")
                return await client.send(b"PASS secret\r\n")
        name = mechanism.partition(" ")[0]
        steps: list[bytes] = {
            "PLAIN": [b"\0user@example.test\0secret"],
            "LOGIN": [b"user@example.test", b"secret"],
            "EXTERNAL": [b""],
        }.get(name, [])
        if name.startswith("SCRAM"):
            binding = ("tls-server-end-point", END) if name.endswith("-PLUS") else None
            other = scramp.ScramClient([name], USER, "secret", channel_binding=binding)
            steps = [other.get_client_first().encode()]
        elif "OAUTH" in name:
            token = jwt.encode({"iss": ISSUER, "email": USER, "exp": time.time() + 60}, self.key, algorithm="ES256")
            head = f"user={USER}" if name == "XOAUTH2" else f"n,a={USER},"
            steps = [f"{head}\x01auth=Bearer {token}\x01\x01".encode()]
        got = await client.send(COMMANDS[self.protocol] + name.encode() + b"\r\n")
        for step in steps:
            assert got.startswith((b"+ ", b"334 ")), got
            got = await client.send(b64encode(step) + b"\r\n")
        if name.startswith("SCRAM"):
            other.set_server_first(b64decode(got.split(b" ")[1]).decode())
            got = await client.send(b64encode(other.get_client_final().encode()) + b"\r\n")
        if got.startswith((b"+ ", b"334 ")):  # the last word of SCRAM, or what is wrong with a token
            got = await client.send((b"AQ==" if name == "OAUTHBEARER" else b"") + b"\r\n")
        return got


@cache
def keys() -> str:
    """Keys for SCRAM, which take some work, once for all cases."""
    return schemes.scram("secret")


# In `make check` a third of them: each two of protocol, mechanism and state meet all the same.
MEETINGS = [
    (protocol, mechanism, state)
    for a, protocol in enumerate(COMMANDS)
    for b, mechanism in enumerate(MECHANISMS)
    for c, state in enumerate(CONDITIONS)
    if not FEW or (a + b + c) % 3 == 0
]


@pytest.mark.parametrize(("protocol", "mechanism", "state"), MEETINGS)
def test_every_mechanism_keeps_out_whom_the_source_keeps_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, mechanism: str, state: str
) -> None:
    extra, why = CONDITIONS[state]
    (line,) = parse(f"{USER}:{{PLAIN}}secret::::::{extra}\n", "example.test")

    async def main() -> None:
        login = Login(str(tmp_path), protocol)
        accounts = login.bench.directory.accounts
        accounts[USER] = replace(
            accounts[USER],
            nets=line.nets,
            nologin=line.nologin,
            scram=keys(),
            enabled=state != "disabled",
        )
        if state == "removed":
            del accounts[USER]
        got = await login.by(mechanism, monkeypatch)
        wanted = FAILED[protocol] if why == "failed" else NOT_HERE[protocol] + why.encode() if why else DONE[protocol]
        assert got.startswith(wanted), got

    asyncio.run(main())


@pytest.mark.parametrize("state", list(CONDITIONS))
def test_s35_xclient_speaks_for_no_account_that_may_not_log_in(tmp_path: Path, state: str) -> None:
    extra, why = CONDITIONS[state]
    (line,) = parse(f"{USER}:{{PLAIN}}secret::::::{extra}\n", "example.test")

    async def main() -> None:
        near = {"xclient": [networks.parse("127.0.0.0/8")]}
        bench = Bench(str(tmp_path), outbound=near)
        accounts = bench.directory.accounts
        accounts[USER] = replace(accounts[USER], nets=line.nets, nologin=line.nologin, enabled=state != "disabled")
        if state == "removed":
            del accounts[USER]
        client = bench.open("submission")
        await client.send(b"EHLO proxy.test\r\n")
        got = await client.send(b"XCLIENT ADDR=10.1.2.3 LOGIN=User@example.test\r\n")
        if why == "failed":
            assert got == b"501 5.5.4 LOGIN names no account that may log in\r\n"
        else:
            assert got.startswith(b"525 5.7.13 " + why.encode() if why else b"220 ")
        await client.send(b"EHLO far.test\r\n")
        got = await client.send(b"MAIL FROM:<user@example.test>\r\n")
        assert got.startswith(b"530 5.7.0" if why else b"250 ")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("columns", "row", "wanted"),
    [
        (["proxy"], ["Y"], access.ELSEWHERE),
        (["proxy"], [None], ""),
        (["proxy_maybe"], ["Y"], access.ELSEWHERE),
        (["host"], ["10.1.1.1"], access.ELSEWHERE),
        (["quota", "host"], [1000, "10.1.1.1"], access.ELSEWHERE),
        (["host"], [None], ""),
        (["host"], [""], ""),
        (["nologin"], ["Y"], access.NOT_ALLOWED),
    ],
)
def test_columns_of_a_database(columns: list[str], row: list[object], wanted: str) -> None:
    source = Sql("sqlite:x", Statements("SELECT"), "example.test", 30.0)
    content = source._content({"accounts": Table(["username", "password", *columns], [(USER, "{PLAIN}x", *row)])})
    assert content.lines[USER].nologin == wanted
    queries = DovecotSql("sqlite:x", Queries("SELECT"), "example.test", 30.0)
    made = queries._line(USER, {"password": "{PLAIN}x"} | dict(zip(columns, row, strict=True)))
    assert made is not None and made.nologin == wanted
