"""What is done about reports where mail is taken in: count the message for others' reports, report its failure, read
the reports of others. This is the only place that reads them: sessions of all services, and the commands that bring
mail in, come by here.

No report is made about reports (RFC 9990 leaves that open, and two servers would write to each other for ever): what
comes to the address for reports is not counted, nor is a message that calls itself a report and passes DMARC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastmail.feedback import carrier
from fastmail.feedback.counting import Tally
from fastmail.feedback.failures import Failures
from fastmail.feedback.taking import Octets, Taker
from fastmail.policy.received import Received

SUBJECT = b"report domain:"  # how the subject of an aggregate report begins (RFC 9990 3.5.2, RFC 8460 5.3)


@dataclass(frozen=True, slots=True)
class Feedback:
    """``tally``: None where no aggregate reports are sent; ``taker``: None where none are read; ``failures``: None
    where failures are not reported."""

    tally: Tally | None = None
    taker: Taker | None = None
    failures: Failures | None = None

    def note(self, received: Received, ip: str, sender: str, recipients: Sequence[str], content: Octets) -> None:
        """Count a message (LF) whose checks are done, and report its failure."""
        if self.tally is None and self.failures is None:
            return
        if self.taker is not None and all(map(self.taker.is_for, recipients)):
            return
        checked = received.checks.dmarc
        if checked is not None and checked.result == "pass":
            subject = carrier.subject(content) if received.subject is None else received.subject.strip()
            if subject[: len(SUBJECT)].lower() == SUBJECT:
                return
        if self.tally is not None:
            self.tally.note(received, ip, sender)
        if self.failures is not None:
            self.failures.note(received, ip, sender, content)

    async def take(
        self, recipients: Sequence[str], content: Octets, received: Received | None, login: str = ""
    ) -> bool:
        """Read a message (LF), if it comes to the address of reports. True: that is all that is to be done with it, and
        it is durable; otherwise it is to be delivered. ``login``: who sends it, where somebody logged in."""
        taker = self.taker
        if taker is None or not any(map(taker.reads, recipients)):
            return False
        done = await taker.take(content, received, login)
        return done and not taker.keep and all(map(taker.is_for, recipients))
