"""All scanners of a worker: each is shown a message at the same time as the others, and stands for itself.

Promise: a message waits for no scanner longer than that scanner's seconds. A scanner is shown ``at_once`` messages at
the same time; who does not get a turn within its seconds is answered for as one that is away. One that failed FAULTS
times in a row is left alone for REST seconds, so that a scanner that hangs does not slow all mail: until then it is
answered for at once, and then the next message tries it again. Nothing raises for what a scanner does or says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from fastmail.policy.reasons import ACCEPT, LATER, QUARANTINE, REFUSE, TAKEN, WORDS, Finding, Reason, Reply
from fastmail.policy.scanners import clamd, rspamd, spamd
from fastmail.policy.scanners.nouns import CLAMAV, DEFER, RSPAMD, SPAMASSASSIN, USERS, Scanner, Shown, TooLarge, Trouble
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

FAULTS = 3
REST = 30.0  # s
ASK: dict[str, Callable[[Scanner, Shown], Awaitable[Finding]]] = {
    CLAMAV: clamd.ask,
    SPAMASSASSIN: spamd.ask,
    RSPAMD: rspamd.ask,
}
AWAY: dict[str, tuple[str, Reply]] = {
    DEFER: (LATER, (451, "4.7.1", "the message cannot be checked now, try again later")),
    REFUSE: (REFUSE, (554, "5.7.1", "the message cannot be checked")),
}


class Client:
    """One scanner of a worker, and how it does."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self._turns = asyncio.Semaphore(scanner.at_once)
        self._faults = 0  # in a row
        self._until = 0.0  # of the loop's clock: left alone until then

    async def ask(self, shown: Shown) -> Finding:
        """What it says, or what is said for it."""
        scanner, clock = self.scanner, asyncio.get_running_loop().time
        if len(shown.content) > scanner.largest:
            return self._unseen("large", f"more than {scanner.largest} octets")
        if clock() < self._until:
            return self._away("left alone after failures")
        begun = clock() + scanner.seconds
        try:
            async with asyncio.timeout(scanner.seconds), self._turns:
                begun = clock()
                found = await ASK[scanner.kind](scanner, shown)
        except TooLarge:
            found = self._unseen("large", "more than it takes")
        except (Trouble, OSError, ValueError) as error:  # TimeoutError is an OSError, UnicodeError a ValueError
            why = str(error) or f"no answer within {scanner.seconds:g} s"
            if isinstance(error, TimeoutError) and clock() - begun < scanner.seconds / 2:  # it had no time to answer
                count("scanner.busy")
                return self._away(f"{scanner.at_once} messages are before this one")
            self._failed(why, clock())
            return self._away(why)
        if self._faults >= FAULTS:
            log.event("scanner.back", scanner=scanner.name)
        self._faults = 0
        return found

    def _failed(self, why: str, now: float) -> None:
        self._faults += 1
        count("scanner.failed")
        then = f"messages are answered with {self.scanner.when_away}"
        log.event("scanner.failed", "warning", scanner=self.scanner.name, error=why, then=then)
        if self._faults >= FAULTS:
            self._until = now + REST
            log.event("scanner.away", "error", scanner=self.scanner.name, faults=self._faults, seconds=REST)

    def _unseen(self, how: str, why: str) -> Finding:
        """It was not shown the message."""
        reason = Reason(f"{self.scanner.name}.{how}", 0.0, why[:WORDS])
        return Finding(self.scanner.name, how, (reason,), virus="unknown" if self.scanner.kind == CLAMAV else "")

    def _away(self, why: str) -> Finding:
        action, reply = AWAY.get(self.scanner.when_away, (ACCEPT, TAKEN))
        return replace(self._unseen("away", why), action=action, reply=reply, always=action != ACCEPT)


class Panel:
    """The scanners in the order of the configuration."""

    def __init__(self, scanners: Sequence[Scanner]) -> None:
        self._clients = [Client(one) for one in scanners]

    def wanted(self, where: str) -> bool:
        """Does any scanner look at mail of this place (nouns.PLACES)?"""
        return any(where in client.scanner.on for client in self._clients)

    async def ask(self, where: str, shown: Shown) -> list[Finding]:
        """What each says, in their order. A user's message that is infected, or to be kept back, is refused: nothing of
        it goes to a Junk mailbox, and nothing of users' mail is kept back."""
        asked = [client for client in self._clients if where in client.scanner.on]
        found = await asyncio.gather(*(client.ask(shown) for client in asked))
        if where == USERS:
            bad = [one.virus == "infected" or one.action == QUARANTINE for one in found]
            found = [replace(one, action=REFUSE) if no else one for one, no in zip(found, bad, strict=True)]
        return list(found)
