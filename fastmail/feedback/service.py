"""What sessions that take mail do about reports: count the message for others' reports, read the reports of others.

No report is made about reports (RFC 9990 leaves that open, and two servers would write to each other for ever): what
comes to the address for reports is not counted, nor is a message that calls itself a report and passes DMARC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastmail.feedback import carrier
from fastmail.feedback.counting import Tally
from fastmail.feedback.taking import Octets, Taker
from fastmail.policy.receive import Received

SUBJECT = b"report domain:"  # how the subject of an aggregate report begins (RFC 9990 3.5.2, RFC 8460 5.3)


@dataclass(frozen=True, slots=True)
class Feedback:
    """``tally``: None where no reports are sent; ``taker``: None where none are read."""

    tally: Tally | None = None
    taker: Taker | None = None

    def note(self, received: Received, ip: str, sender: str, recipients: Sequence[str], content: Octets) -> None:
        """Count a message (LF) whose checks are done."""
        if self.tally is None or (self.taker is not None and all(map(self.taker.is_for, recipients))):
            return
        checked = received.checks.dmarc
        if checked is not None and checked.result == "pass" and carrier.subject(content).lower().startswith(SUBJECT):
            return
        self.tally.note(received, ip, sender)

    async def take(self, recipients: Sequence[str], content: Octets, received: Received | None) -> bool:
        """Read a message (LF), if it is for the address of reports. True: that is all that is to be done with it, and
        it is durable; otherwise it is to be delivered."""
        taker = self.taker
        if taker is None or not any(map(taker.is_for, recipients)):
            return False
        done = await taker.take(content, received)
        return done and not taker.keep and all(map(taker.is_for, recipients))
