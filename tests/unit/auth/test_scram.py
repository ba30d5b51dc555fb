"""SCRAM (RFC 5802, 7677) on IMAP, POP3 and submission, with a client of another maker; and its channel binding."""

import asyncio
import hashlib
import hmac
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import scramp
from msgspec.structs import replace

from fastmail.app.assembly import Assembly
from fastmail.auth import schemes
from fastmail.auth.verifier import Verifier
from fastmail.config.settings import Config
from fastmail.durable import once
from tests.support.sessions import USER, Bench, Client

END = b"e" * 32
NAMES = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1")


@cache
def keys() -> str:
    """Keys of the password, which take some work, once for all tests."""
    return schemes.scram("secret")


def prepared(path: Path) -> Bench:
    bench = Bench(str(path))
    bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], scram=keys())
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
                asks = False
                context = None

                @staticmethod
                def end_point_of(channel: object, end: bytes = end) -> bytes:
                    return end

            client.connection.tls = True
            client.listener.tls = Tls()  # type: ignore[assignment]
            assert b"AUTH=SCRAM-SHA-256-PLUS" in await client.send(b"c CAPABILITY\r\n")
            got = await exchange(client, "imap", "SCRAM-SHA-256-PLUS", USER, "secret")
            assert got.startswith(DONE["imap"] if good else FAILED["imap"])
        plain = await begin(bench, "imap")
        assert b"PLUS" not in await plain.send(b"c CAPABILITY\r\n")
        assert b"a NO [CANNOT]" in await plain.send(b"a AUTHENTICATE SCRAM-SHA-256-PLUS\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["imap", "pop3", "submission"])
@pytest.mark.parametrize("flag", ["y", "n", "p=tls-server-end-point"])
@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("names", [NAMES, ("SCRAM-SHA-256", "SCRAM-SHA-1-PLUS"), ("SCRAM-SHA-256",)])
def test_s25_a_client_that_was_told_of_no_channel_binding_is_refused_where_there_is_one(
    tmp_path: Path, protocol: str, flag: str, tls: bool, names: tuple[str, ...]
) -> None:
    """RFC 5802 6: "y" to a server that offers a -PLUS form says that somebody changed what it offers."""

    class Tls:
        asks = False
        context = None

        @staticmethod
        def end_point_of(channel: object) -> bytes:
            return END

    async def main() -> None:
        bench = prepared(tmp_path)
        bench.verifier._mechanisms = names
        client = await begin(bench, protocol)
        client.connection.tls = tls
        client.listener.tls = Tls() if tls else None
        first = f"n={USER},r=abcdefgh"
        line = COMMANDS[protocol] + b"SCRAM-SHA-256 " + b64encode(f"{flag},,{first}".encode()) + b"\r\n"
        got = await client.send(line)
        offered = tls and any(name.endswith("-PLUS") for name in names)
        if flag[0] == "p":
            assert got.startswith(NO_FORM[protocol])  # of a -PLUS form, not of this one
        elif flag == "y" and offered:
            assert got.startswith(FAILED[protocol])
        else:
            server = b64decode(got.split(b" ")[1]).decode()
            nonce, salt, count = (part[2:] for part in server.split(","))
            final = f"c={b64encode(f'{flag},,'.encode()).decode()},r={nonce}"
            salted = hashlib.pbkdf2_hmac("sha256", b"secret", b64decode(salt), int(count))
            key = hmac.digest(salted, b"Client Key", "sha256")
            signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{server},{final}".encode(), "sha256")
            proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
            got = await client.send(b64encode(f"{final},p={b64encode(proof).decode()}".encode()) + b"\r\n")
            assert (await client.send(b"\r\n")).startswith(DONE[protocol]), got

    asyncio.run(main())


NO_FORM = {"imap": b"a BAD ", "pop3": b"-ERR ", "submission": b"501 5.5.2"}


def test_s21_a_user_that_is_not_there_has_one_salt_in_every_worker(tmp_path: Path) -> None:
    """And after every restart, and another one for each mechanism, as users have."""
    config = Config()
    config.server.data_dir = str(tmp_path)
    config.server.run_dir = str(tmp_path / "run")
    config.auth.mechanisms = list(NAMES)
    salts: dict[str, set[bytes]] = {}

    async def main() -> None:
        for worker in (0, 1, 0):
            assembly = Assembly(config, worker)
            for name in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
                for login in ("nobody@example.test", "NOBODY@example.test"):
                    salts.setdefault(name, set()).add(assembly.verifier._scram_keys(login, name)[0])
            other = assembly.verifier._scram_keys("somebody@example.test", "SCRAM-SHA-1")[0]
            assert other not in salts["SCRAM-SHA-1"]
            await assembly.close()

    asyncio.run(main())
    assert [len(found) for found in salts.values()] == [1, 1] and len(set.union(*salts.values())) == 2
    assert (tmp_path / "scram.key").stat().st_mode & 0o777 == 0o600


def test_s21_the_key_of_salts_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "key")
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: once.secret(path, 32), range(64)))
    assert len(made) == 1
    for cut in (b"", b"short"):
        Path(path).write_bytes(cut)
        Path(path).chmod(0o644)
        fresh = once.secret(path, 32)
        assert fresh == Path(path).read_bytes() == once.secret(path, 32) and len(fresh) == 32
        assert Path(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "stored",
    ["{SCRAM-SHA-256}4096,!,!,!", "{SCRAM-SHA-256}4096,YWJj,YWJj,YWJj", "{SCRAM-SHA-256}\u00b2,YWJj,YWJj,YWJj",
     "{SCRAM-SHA-256}1000,MTIzNDU2Nzg5MDEyMzQ1Ng==,YWJj,YWJj"],
)  # fmt: skip
def test_s21_an_account_whose_keys_cannot_be_used_looks_like_one_without(tmp_path: Path, stored: str) -> None:
    async def main() -> None:
        bench = prepared(tmp_path)
        bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], scram=stored)
        client = await begin(bench, "imap")
        assert (await exchange(client, "imap", "SCRAM-SHA-256", USER, "secret")).startswith(FAILED["imap"])

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
