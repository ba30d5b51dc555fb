"""What users call spam and ham, passed on to scanners that learn, so that they judge the next message better.

    rspamd         POST /learnspam or /learnham to its controller (not the worker that scans), with the password in a
                   field; 200 says that it learned, 204 and 208 that it did not, because it knows the message or its
                   own rules forbid it
    spamassassin   TELL of SPAMC/1.5 to spamd, which must run with --allow-tell; the answer's ``DidSet`` says that it
                   learned

Both take back what they had learned of a message as the other kind. What they learn counts for everybody, or with
``per_user`` for the account whose message it was: both tell users apart then, if they are configured to.

Promise: nothing raises for what a scanner does or says, and no call takes longer than its seconds. One that failed
panel.FAULTS times in a row is left alone for panel.REST seconds; what it should have learned until then is left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastmail.policy.reasons import WORDS
from fastmail.policy.scanners import rspamd, spamd
from fastmail.policy.scanners.nouns import RSPAMD, SPAMASSASSIN, Scanner, Trouble
from fastmail.policy.scanners.panel import FAULTS, REST
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LEARNED, KNOWN, FAILED, LEFT_OUT = "learned", "known", "failed", "left_out"
TEACH: dict[str, Callable[[Scanner, bytes, bool, str], Awaitable[bool]]] = {
    RSPAMD: rspamd.learn,
    SPAMASSASSIN: spamd.learn,
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A message (LF), what it is called, and the address of the account that says so; empty for nobody's."""

    content: bytes
    spam: bool
    owner: str = ""


class Pupil:
    """One scanner that learns, as one worker sees it."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self._faults = 0  # in a row
        self._until = 0.0  # of the loop's clock: left alone until then

    async def teach(self, lesson: Lesson) -> str:
        """Have a message learned; one of LEARNED, KNOWN, FAILED and LEFT_OUT, which is counted too."""
        scanner, clock = self.scanner, asyncio.get_running_loop().time
        if len(lesson.content) > scanner.largest or clock() < self._until:
            return _counted(LEFT_OUT)
        try:
            async with asyncio.timeout(scanner.seconds):
                learned = await TEACH[scanner.kind](scanner, lesson.content, lesson.spam, lesson.owner)
        except (Trouble, OSError, ValueError) as error:  # TimeoutError is an OSError
            self._failed((str(error) or f"no answer within {scanner.seconds:g} s")[:WORDS], clock())
            return _counted(FAILED)
        self._faults = 0
        return _counted(LEARNED if learned else KNOWN)

    def _failed(self, why: str, now: float) -> None:
        self._faults += 1
        if self._faults >= FAULTS:
            self._until = now + REST
        then = f"it is left alone for {REST:g} s" if self._faults >= FAULTS else "it does not learn this message"
        log.event("scanner.taught", "warning", scanner=self.scanner.name, error=why, then=then)


def _counted(said: str) -> str:
    count(f"scanner.taught.{said}")
    return said


async def teach_all(pupils: Sequence[Pupil], lessons: Sequence[Lesson]) -> None:
    """Have all of them learn messages, in their order; the scanners side by side."""

    async def one(pupil: Pupil) -> None:
        for lesson in lessons:
            await pupil.teach(lesson)

    await asyncio.gather(*map(one, pupils))
