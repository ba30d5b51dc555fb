"""Remembers replies that the client did not get, because its connection had ended when its message was accepted (RFC
5321 6.1, RFC 1047).

Such a client must send the message again, in another transaction. If this worker knows that the connection ended before
the reply, it remembers the reply. A transaction of the same peer with the same sender, recipients and content gets that
reply, and the message is not delivered a second time. A reply is given once. Promise: at most MOST replies are
remembered, for KEEP seconds, a hundred octets each. While there are none, messages are not compared at all.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence

from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.delivery.planning import SCAN_ON_LOOP
from fastmail.message.header import Octets
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

KEEP = 86400.0  # s; a client that got no reply tries again within hours
MOST = 10_000


def transaction_of(envelope: Envelope) -> bytes:
    """Return the key of a transaction, which does not depend on its content. Take it before filters change the
    envelope."""
    recipients = [address for address, _ in envelope.recipients]
    return "\0".join([envelope.peer, envelope.login, envelope.sender, *recipients]).encode("utf-8", "surrogateescape")


class Unheard:
    """The answers of one listener's sessions in one worker."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[float, Sequence[Outcome]]] = {}

    @property
    def any(self) -> bool:
        """True if any reply is remembered; otherwise there is nothing to look for."""
        return bool(self._answers)

    async def find(self, transaction: bytes, content: Octets) -> Sequence[Outcome] | None:
        """Return the reply to the same message before, if the client did not get it."""
        when, outcomes = self._answers.pop(await _digest(transaction, content), (0.0, ()))
        if time.monotonic() - when > KEEP or not outcomes:
            return None
        count("smtp.unheard")
        log.event("smtp.unheard", reply=outcomes[0].text)
        return outcomes

    async def remember(self, transaction: bytes, content: Octets, outcomes: Sequence[Outcome]) -> None:
        """Remember the reply, because the client was gone before it could be sent. Only replies to messages that were
        accepted for all recipients are remembered; what was refused may be sent again anyway."""
        if not all(outcome.ok for outcome in outcomes):
            return
        digest = await _digest(transaction, content)
        self._answers.pop(digest, None)
        self._answers[digest] = time.monotonic(), outcomes
        while len(self._answers) > MOST:
            del self._answers[next(iter(self._answers))]


async def _digest(transaction: bytes, content: Octets) -> bytes:
    if len(content) > SCAN_ON_LOOP:
        return await asyncio.get_running_loop().run_in_executor(None, _hash, transaction, content)
    return _hash(transaction, content)


def _hash(transaction: bytes, content: Octets) -> bytes:
    whole = hashlib.blake2b(len(transaction).to_bytes(8, "big") + transaction, digest_size=20)
    whole.update(content)
    return whole.digest()
