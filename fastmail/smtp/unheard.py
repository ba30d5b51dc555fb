"""Answers that nobody heard: the client was gone when its message was kept, and comes again (RFC 5321 6.1, RFC 1047).

A client that did not hear the reply to its message must send it again, in another transaction. Where this worker knows
that the connection had ended before the reply, it remembers what the reply was; a transaction of the same peer with the
same sender, recipients and content gets it, and the message is not kept a second time. An answer is given once.

Promise: MOST answers are remembered, for KEEP seconds, a hundred octets each. As long as there are none, a message is
not even looked at.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence

from fastmail.delivery.deliver import SCAN_ON_LOOP, Envelope, Outcome
from fastmail.message.header import Octets
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

KEEP = 86400.0
MOST = 10_000


def transaction_of(envelope: Envelope) -> bytes:
    """What a transaction is known by, without its content. It is asked for before filters change the envelope."""
    recipients = [address for address, _ in envelope.recipients]
    return "\0".join([envelope.peer, envelope.login, envelope.sender, *recipients]).encode("utf-8", "surrogateescape")


class Unheard:
    """The answers of one listener's sessions in one worker."""

    def __init__(self) -> None:
        self._answers: dict[bytes, tuple[float, Sequence[Outcome]]] = {}

    @property
    def any(self) -> bool:
        """Are there any? Otherwise nothing needs to be looked for."""
        return bool(self._answers)

    async def find(self, transaction: bytes, content: Octets) -> Sequence[Outcome] | None:
        """The answer to the same message before, if nobody heard it."""
        when, outcomes = self._answers.pop(await _digest(transaction, content), (0.0, ()))
        if time.monotonic() - when > KEEP or not outcomes:
            return None
        count("smtp.unheard")
        log.event("smtp.unheard", reply=outcomes[0].text)
        return outcomes

    async def remember(self, transaction: bytes, content: Octets, outcomes: Sequence[Outcome]) -> None:
        """The client was gone before it could hear this. What was refused it may send again anyway."""
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
