"""Logins at a smart host: whatever it offers, and whatever it answers (RFC 4954)."""

import asyncio
import base64
from collections.abc import Callable

import pytest
import scramp

from fastmail.smtp.client import ClientTrouble, ConnectFailed, SmtpClient, Target, Timeouts
from fastmail.smtp.client.login import ROUNDS, offered
from tests.support import clock
from tests.support.hosts import Teller

NAME, PASSWORD = "me@near.test", "secret"
PLAIN = base64.b64encode(f"\0{NAME}\0{PASSWORD}".encode()).decode()


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def login(auth: bytes, answer: Callable[[str], bytes | None]) -> tuple[str, list[str]]:
    """(why it failed, what the host heard after EHLO)."""

    def told(line: str) -> bytes | None:
        if line.startswith("EHLO"):
            return b"250-far\r\n250-" + auth + b"\r\n250 HELP\r\n" if auth else b"250 far\r\n"
        return b"221 bye\r\n" if line == "QUIT" else answer(line)

    async def work() -> tuple[str, list[str]]:
        host = await Teller(told).start()
        target = Target("far", "127.0.0.1", host.port, tls="none", login=NAME, password=PASSWORD)
        client = SmtpClient(target, "near.test", Timeouts(2.0, 2.0, 2.0))
        why = ""
        try:
            await client.open()
            assert client.usable
        except ClientTrouble as error:
            assert isinstance(error, ConnectFailed) and not client.usable
            why = str(error)
        await client.close()
        await asyncio.sleep(0.05)  # until the host has heard QUIT
        host.stop()
        return why, host.lines[0][1:]

    return clock.run(work())


def script(*replies: bytes) -> Callable[[str], bytes | None]:
    left = iter(replies)
    return lambda line: next(left, None)


def test_plain_at_once() -> None:
    why, heard = login(b"AUTH LOGIN PLAIN", script(b"235 2.7.0 welcome\r\n"))
    assert not why and heard == [f"AUTH PLAIN {PLAIN}", "QUIT"]


def test_plain_for_a_host_that_took_no_notice_of_the_initial_response() -> None:
    why, heard = login(b"AUTH PLAIN", script(b"334 \r\n", b"235 welcome\r\n"))
    assert not why and heard == [f"AUTH PLAIN {PLAIN}", PLAIN, "QUIT"]


@pytest.mark.parametrize("challenge", [b"334 VXNlcm5hbWU6\r\n", b"334 \r\n", b"334 \r\n334 \r\n"])
def test_no_command_goes_out_as_sasl_data(challenge: bytes) -> None:
    """A host that asks again and again, or for what PLAIN has not: the exchange is cancelled, the connection over."""
    why, heard = login(b"AUTH PLAIN", lambda line: challenge if line != "*" else b"501 5.0.0 cancelled\r\n")
    assert why and all(line in (f"AUTH PLAIN {PLAIN}", PLAIN, "*") for line in heard) and len(heard) <= 3


@pytest.mark.parametrize("auth", [b"AUTH LOGIN", b"AUTH=LOGIN", b"AUTH XOAUTH2 LOGIN", b"auth login"])
@pytest.mark.parametrize(
    "words", [(b"334 VXNlcm5hbWU6", b"334 UGFzc3dvcmQ6"), (b"334 ", b"334 "), (b"334 Who?", b"334")]
)
def test_login(auth: bytes, words: tuple[bytes, bytes]) -> None:
    why, heard = login(auth, script(words[0] + b"\r\n", words[1] + b"\r\n", b"235 2.7.0 welcome\r\n"))
    assert not why and heard == ["AUTH LOGIN", coded(NAME), coded(PASSWORD), "QUIT"]


def test_a_third_question_of_login_is_cancelled() -> None:
    why, heard = login(b"AUTH LOGIN", lambda line: b"334 x\r\n" if line != "*" else b"501 x\r\n")
    assert "does not fit" in why and heard == ["AUTH LOGIN", coded(NAME), coded(PASSWORD), "*"]


def test_a_mechanism_that_is_offered_and_not_known() -> None:
    why, heard = login(b"AUTH PLAIN LOGIN", script(b"504 what?\r\n", b"334 \r\n", b"334 \r\n", b"235 ok\r\n"))
    assert not why and heard[1] == "AUTH LOGIN"


@pytest.mark.parametrize("reply", [b"535 5.7.8 wrong", b"454 4.7.0 later", b"250 ok", b"220 x", b"354 x", b"253 x"])
def test_anything_but_235_is_no_login(reply: bytes) -> None:
    why, heard = login(b"AUTH PLAIN", script(reply + b"\r\n"))
    assert why and len(heard) == 1


def test_nothing_that_is_known() -> None:
    why, heard = login(b"AUTH XOAUTH2 GSSAPI", script())
    assert "no way to log in" in why and heard == []


class Server:
    """The other side of SCRAM."""

    def __init__(self, name: str, lie: bool = False, rounds: int = 4096) -> None:
        mechanism = scramp.ScramMechanism(name)
        made = mechanism.make_auth_info(PASSWORD, iteration_count=4096)
        self.server = mechanism.make_server(lambda _: made)
        self.lie = lie
        self.rounds = rounds
        self.heard = 0

    def answer(self, line: str) -> bytes | None:
        self.heard += 1
        if self.heard == 1:
            self.server.set_client_first(base64.b64decode(line.split(" ")[2]).decode())
            first = self.server.get_server_first().replace("i=4096", f"i={self.rounds}")
            return f"334 {coded(first)}\r\n".encode()
        if line == "*":
            return b"501 x\r\n"
        if self.heard == 2:
            self.server.set_client_final(base64.b64decode(line).decode())
            if self.lie:
                return b"235 welcome\r\n"
            return f"334 {coded(self.server.get_server_final())}\r\n".encode()
        return b"235 welcome\r\n"


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_scram_where_nothing_else_is_offered(name: str) -> None:
    why, heard = login(b"AUTH " + name.encode(), Server(name).answer)
    assert not why and heard[0].startswith(f"AUTH {name} ") and PASSWORD not in "".join(heard)


def test_a_host_that_does_not_prove_itself() -> None:
    why, _ = login(b"AUTH SCRAM-SHA-256", Server("SCRAM-SHA-256", lie=True).answer)
    assert "does not prove" in why


@pytest.mark.parametrize("rounds", [0, ROUNDS + 1, 999_999_999, 10**30])
def test_a8_a_host_does_not_choose_how_long_we_hash(rounds: int) -> None:
    why, heard = login(b"AUTH SCRAM-SHA-256", Server("SCRAM-SHA-256", rounds=rounds).answer)
    assert "does not fit" in why and heard[-1] == "*"


def test_what_a_host_offers() -> None:
    assert offered([("AUTH", "login plain")]) == ["PLAIN", "LOGIN"]
    assert offered([("AUTH=LOGIN", "PLAIN")]) == ["PLAIN", "LOGIN"]
    assert offered([("SIZE", "1")]) == ["PLAIN"]
