"""SCRAM (RFC 5802, 7677) on IMAP, POP3 and submission, with a client of another maker; and its channel binding."""

import asyncio
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import pytest
import scramp

from fastmail.auth import schemes
from fastmail.auth.verifier import Verifier
from tests.support.sessions import USER, Bench, Client

END = b"e" * 32
NAMES = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1")


def prepared(path: Path) -> Bench:
    bench = Bench(str(path))
    bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], scram=schemes.scram("secret"))
    bench.verifier._mechanisms = NAMES
    return bench


async def begin(bench: Bench, protocol: str) -> Client:
    client = bench.open(protocol)
    if protocol == "submission":
        await client.send(b"EHLO me.test\r\n")
    return client


COMMANDS = {"imap": b"a AUTHENTICATE ", "pop3": b"AUTH ", "submission": b"AUTH "}
DONE = {"imap": b"a OK ", "pop3": b"+OK ", "submission": b"235 "}
FAILED = {"imap": b"a NO [AUTHENTICATIONFAILED]", "pop3": b"-ERR [AUTH]", "submission": b"535 5.7.8"}


async def exchange(client: Client, protocol: str, name: str, user: str, password: str, initial: bool = True) -> bytes:
    binding = ("tls-server-end-point", END) if name.endswith("-PLUS") else None
    other = scramp.ScramClient([name], user, password, channel_binding=binding)
    first = b64encode(other.get_client_first().encode())
    if initial:
        got = await client.send(COMMANDS[protocol] + name.encode() + b" " + first + b"\r\n")
    else:
        got = await client.send(COMMANDS[protocol] + name.encode() + b"\r\n")
        assert got in (b"+ \r\n", b"334 \r\n")
        got = await client.send(first + b"\r\n")
    other.set_server_first(b64decode(got.split(b" ")[1]).decode())
    got = await client.send(b64encode(other.get_client_final().encode()) + b"\r\n")
    if not got.startswith((b"+ ", b"334 ")):
        return got
    other.set_server_final(b64decode(got.split(b" ")[1]).decode())  # raises when the server does not know the key
    return await client.send(b"\r\n")


@pytest.mark.parametrize("protocol", ["imap", "pop3", "submission"])
@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
@pytest.mark.parametrize("initial", [True, False])
def test_a_login(tmp_path: Path, protocol: str, name: str, initial: bool) -> None:
    async def main() -> None:
        client = await begin(prepared(tmp_path), protocol)
        assert (await exchange(client, protocol, name, USER, "secret", initial)).startswith(DONE[protocol])

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["imap", "pop3", "submission"])
@pytest.mark.parametrize(
    ("user", "password"), [(USER, "wrong"), ("nobody@example.test", "secret"), ("other@example.test", "secret")]
)
def test_every_failure_looks_the_same(tmp_path: Path, protocol: str, user: str, password: str) -> None:
    async def main() -> None:
        client = await begin(prepared(tmp_path), protocol)
        assert (await exchange(client, protocol, "SCRAM-SHA-256", user, password)).startswith(FAILED[protocol])

    asyncio.run(main())


def test_the_salt_of_a_user_that_is_not_there_stays_the_same(tmp_path: Path) -> None:
    verifier: Verifier = prepared(tmp_path).verifier
    one, two = (verifier._scram_keys("nobody@example.test", "SCRAM-SHA-256") for _ in range(2))
    assert one[0] == two[0] and one[1] != two[1]


def test_binding_to_the_channel(tmp_path: Path) -> None:
    async def main() -> None:
        bench = prepared(tmp_path)
        for end, good in ((END, True), (b"x" * 32, False)):
            client = await begin(bench, "imap")

            class Tls:
                end_point = end
                asks = False
                context = None

            client.connection.tls = True
            client.listener.tls = Tls()  # type: ignore[assignment]
            assert b"AUTH=SCRAM-SHA-256-PLUS" in await client.send(b"c CAPABILITY\r\n")
            got = await exchange(client, "imap", "SCRAM-SHA-256-PLUS", USER, "secret")
            assert got.startswith(DONE["imap"] if good else FAILED["imap"])
        plain = await begin(bench, "imap")
        assert b"PLUS" not in await plain.send(b"c CAPABILITY\r\n")
        assert b"a NO [CANNOT]" in await plain.send(b"a AUTHENTICATE SCRAM-SHA-256-PLUS\r\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    "junk",
    [b"", b"n,,", b"n,,n=a", b"\xff\xff", b"p=tls-unique,,n=a,r=b", b"n,a=root,n=user@example.test,r=x", b"x" * 8000],
)
def test_what_is_no_scram(tmp_path: Path, junk: bytes) -> None:
    async def main() -> None:
        client = await begin(prepared(tmp_path), "imap")
        got = await client.send(b"a AUTHENTICATE SCRAM-SHA-256 " + (b64encode(junk) or b"=") + b"\r\n")
        assert got.startswith(b"a BAD "), got
        assert (await client.send(b"b NOOP\r\n")).startswith(b"b OK")

    asyncio.run(main())


def test_keys_serve_plain_logins_too() -> None:
    stored = schemes.scram("p\u00e4ss").split(" ")[0]
    assert schemes.known(stored)
    assert schemes.verify(stored, "p\u00e4ss".encode()) and not schemes.verify(stored, b"pass")
    assert schemes.scram_keys(stored, "SCRAM-SHA-1") is None
    assert schemes.scram_keys("{SCRAM-SHA-256}1,x", "SCRAM-SHA-256") is None
