"""Login at a host that wants one: AUTH PLAIN, LOGIN and SCRAM, whatever it offers (RFC 4954, RFC 4616, RFC 5802,
RFC 7677).

Promise: an exchange ends with 235, or the connection is not used again: a challenge that no mechanism expects is
cancelled with ``*``, so no command of ours is ever taken for SASL data. A host can make us hash for a bounded time
only, and never on the event loop.
"""

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable

import scramp

from fastmail.smtp.client.replies import ConnectFailed, ProtocolError, Reply

CHALLENGE = 334
UNKNOWN = 504  # the host offers a mechanism and does not know it (RFC 4954 4)
ROUNDS = 1_000_000  # most iterations of SCRAM that a host may ask for
STEPS = 5  # challenges of one exchange
_ROUNDS = re.compile(r"(?:^|,)i=(\d{1,9})(?:,|$)", re.ASCII)
Ask = Callable[[str], Awaitable[Reply]]  # sends a line, gives the reply


class _Steps:
    """An exchange: what is sent at first, then for each challenge."""

    def __init__(self, login: str, password: str) -> None:
        self.login = login.encode()
        self.password = password.encode()

    initial: bytes | None = None

    async def answer(self, step: int, challenge: str) -> bytes | None:
        """What a challenge (in base64) is answered with; None when it fits nothing."""
        return None

    def finished(self) -> bool:
        """True when the host may end the exchange here."""
        return True


class _Plain(_Steps):
    """RFC 4616: all at once. A host that took no notice of the initial response asks for it with an empty challenge
    (RFC 4954 4)."""

    def __init__(self, login: str, password: str) -> None:
        super().__init__(login, password)
        self.initial = b"\0" + self.login + b"\0" + self.password

    async def answer(self, step: int, challenge: str) -> bytes | None:
        return self.initial if step == 0 and not challenge else None


class _Login(_Steps):
    """Name, then password; what the challenges say is not looked at, because hosts word them as they like."""

    async def answer(self, step: int, challenge: str) -> bytes | None:
        return (self.login, self.password)[step] if step < 2 else None


class _Scram(_Steps):
    """RFC 5802. The host has to prove that it knows the password too."""

    def __init__(self, login: str, password: str, name: str) -> None:
        super().__init__(login, password)
        self._client = scramp.ScramClient([name], login, password)
        self.initial = self._client.get_client_first().encode()
        self._proved = False
        self._left_out = 0  # an empty challenge in front: the host took no notice of the initial response

    async def answer(self, step: int, challenge: str) -> bytes | None:
        if step == 0 and not challenge:
            self._left_out = 1
            return self.initial
        text = b64decode(challenge, validate=True).decode()
        if step == self._left_out:
            rounds = _ROUNDS.search(text)
            if rounds is None or not 1 <= int(rounds.group(1)) <= ROUNDS:
                return None
            return await asyncio.get_running_loop().run_in_executor(None, self._final, text)
        if step == self._left_out + 1:
            self._client.set_server_final(text)
            self._proved = True
            return b""
        return None

    def _final(self, text: str) -> bytes:
        self._client.set_server_first(text)
        return str(self._client.get_client_final()).encode()

    def finished(self) -> bool:
        return self._proved


MECHANISMS: dict[str, Callable[[str, str], _Steps]] = {  # the first of these that the host offers
    "PLAIN": _Plain,
    "LOGIN": _Login,
    "SCRAM-SHA-256": lambda login, password: _Scram(login, password, "SCRAM-SHA-256"),
    "SCRAM-SHA-1": lambda login, password: _Scram(login, password, "SCRAM-SHA-1"),
}


def offered(extensions: Iterable[tuple[str, str]]) -> list[str]:
    """Return those of our mechanisms that EHLO names, also in the old form ``AUTH=LOGIN``, in our order. If the host
    names none, return PLAIN: some hosts accept it without naming it."""
    names: set[str] = set()
    for name, rest in extensions:
        if name == "AUTH" or name.startswith("AUTH="):
            names |= {word.upper() for word in f"{name[5:]} {rest}".split()}
    if not names:
        return ["PLAIN"]
    return [name for name in MECHANISMS if name in names]


async def login(shown: str, mechanisms: list[str], name: str, password: str, ask: Ask) -> None:
    """Log in; ConnectFailed when the host refuses, ProtocolError when it does not keep to the exchange."""
    if not mechanisms:
        raise ConnectFailed(f"{shown} offers no way to log in that is known here: {', '.join(MECHANISMS)}")
    reply = None
    for mechanism in mechanisms:
        reply = await _exchange(shown, mechanism, MECHANISMS[mechanism](name, password), ask)
        if reply.code == 235:
            return
        if reply.code != UNKNOWN:
            break
    raise ConnectFailed(f"{shown} refuses the login: {reply}", reply)


async def _exchange(shown: str, mechanism: str, steps: _Steps, ask: Ask) -> Reply:
    initial = "" if steps.initial is None else " " + (b64encode(steps.initial).decode() or "=")
    reply = await ask(f"AUTH {mechanism}{initial}")
    for step in range(STEPS):
        if reply.code != CHALLENGE:
            break
        try:
            answer = await steps.answer(step, reply.text.strip())
        except (ValueError, scramp.ScramException):
            answer = None
        if answer is None:
            await ask("*")  # RFC 4954 4: cancels the exchange
            raise ProtocolError(f"{shown} answers AUTH {mechanism} with a challenge that does not fit")
        reply = await ask(b64encode(answer).decode())
    if reply.code == CHALLENGE or (reply.code != 235 and reply.code < 400):
        raise ProtocolError(f"{shown} answers AUTH {mechanism} with {reply}")
    if reply.code == 235 and not steps.finished():
        raise ConnectFailed(f"{shown} does not prove that it knows the password")
    return reply
