"""Who looks at the content of a message: the scanners, side by side, and the classifier. One Judge in each worker.

Promise: nothing raises for what a message or a scanner says, and nobody waits longer than the slowest scanner may take.
The classifier (policy.learning) works on a helper thread. It is asked about strangers' mail only, and its answer is a
reason with a score like any other: ``learned.spam``, ``learned.ham`` or ``learned.unsure``; nothing where too little
was taught. Most accounts teach nothing, so it is remembered for whom that was so, until somebody teaches something:
their mail costs neither a thread's turn nor a look at its words.
"""

import asyncio
import time
from dataclasses import dataclass

from fastmail.message.header import Octets
from fastmail.model.errors import MailError
from fastmail.policy.learning import chance
from fastmail.policy.learning.counts import EVERYBODY, Learned, Said
from fastmail.policy.learning.words import read
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.scanners.nouns import STRANGERS, Shown
from fastmail.policy.scanners.panel import Panel
from fastmail.policy.verdict import Thresholds
from fastmail.telemetry import log

LARGEST = 4 << 20  # octets of a message that the classifier looks at
NAME = "learned"
REMEMBERED = 10_000  # owners for whom the classifier has nothing to say
UNTAUGHT = 1.0  # s after which it is looked again whether anybody taught anything at all
HAM_SHARE = -0.25  # of the score of spam, for a message that looks like none: spam may be made to look so


@dataclass(frozen=True, slots=True)
class Taught:
    """What was taught, and the score of a message that looks altogether like spam."""

    learned: Learned
    score: float


class Judge:
    """``thresholds`` and ``enforce``: what becomes of users' mail, which has no other checks; for that of strangers the
    receiver decides (policy.receive)."""

    def __init__(self, panel: Panel, thresholds: Thresholds, enforce: bool, taught: Taught | None = None) -> None:
        self._panel = panel
        self._taught = taught
        self.thresholds = thresholds
        self.enforce = enforce
        self._silent: dict[int, int] = {}  # owners for whom nothing is known, and when: states of what was taught
        self._untaught = 0.0  # until then nobody taught anything, by the monotonic clock

    def wanted(self, where: str) -> bool:
        """Does anybody look at mail of this place (scanners.nouns.PLACES)?"""
        return self._panel.wanted(where) or (self._taught is not None and where == STRANGERS)

    async def look(self, where: str, shown: Shown, owner: int = EVERYBODY) -> list[Finding]:
        """What they say. ``owner``: the one account that the message is for, where there is only one."""
        taught = self._taught
        if taught is None or where != STRANGERS or len(shown.content) > LARGEST or self._is_silent(taught, owner):
            return await self._panel.ask(where, shown)
        scanned, learned = await asyncio.gather(
            self._panel.ask(where, shown), self._learned(taught, owner, shown.content)
        )
        return scanned + learned

    def _is_silent(self, taught: Taught, owner: int) -> bool:
        """True if it is remembered that the classifier has nothing to say of this owner's mail."""
        try:
            state = taught.learned.state()
        except (MailError, OSError):  # who asks it hears of that
            return False
        return self._silent.get(owner) == state if state else time.monotonic() < self._untaught

    async def _learned(self, taught: Taught, owner: int, content: Octets) -> list[Finding]:
        try:
            state = taught.learned.state()
            said = await asyncio.get_running_loop().run_in_executor(None, _ask, taught.learned, owner, content)
        except (MailError, OSError) as error:
            log.event("learned.failed", "warning", error=error, then="messages are judged without it")
            return []
        if said is not None:
            return [finding(said, taught.score)]
        if not state:
            self._untaught = time.monotonic() + UNTAUGHT
            return []
        if len(self._silent) >= REMEMBERED:
            self._silent.clear()
        self._silent[owner] = state  # what was taught since is another state
        return []


def _ask(learned: Learned, owner: int, content: Octets) -> Said | None:
    return learned.ask(owner, read(content)) if learned.there and learned.knows(owner) else None


def finding(said: Said, score: float) -> Finding:
    """What the classifier's answer is worth."""
    points = round(chance.points(said.chance, score, score * HAM_SHARE), 3)
    name = "spam" if said.chance >= chance.SPAM else "ham" if said.chance <= chance.HAM else "unsure"
    whose = "the account" if said.own else "everybody"
    why = f"chance {said.chance:.3f} by {said.clues} words, as {whose} taught"
    return Finding(NAME, f"{said.chance:.2f}", (Reason(f"{NAME}.{name}", points, why),))
