"""What the sessions of one listener share: the kind of service (RFC 5321, RFC 6409, RFC 2033), its limits and its
collaborators.

``smtp`` takes mail for this server's domains (port 25), ``submission`` takes mail from users, ``lmtp`` takes mail from
a host in front of this one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail.auth.send_as import Rules
from fastmail.auth.verifier import Verifier
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.quarantine import Quarantine
from fastmail.delivery.submission import Submission
from fastmail.directory.interface import AccountRecord
from fastmail.durable.staging import Budget
from fastmail.feedback.service import Feedback
from fastmail.model.limits import Limits
from fastmail.net.networks import Network
from fastmail.policy.judge import Judge
from fastmail.policy.receive import Receiver
from fastmail.policy.strangers.gate import Gate
from fastmail.policy.wishes import Wishes
from fastmail.smtp.milter import Milter
from fastmail.smtp.unheard import Unheard

MX, SUBMISSION, LMTP = "smtp", "submission", "lmtp"


@dataclass(slots=True)
class Service:
    """``kind``: smtp, submission or lmtp; ``staging``: the directory of content that is too big for memory;
    ``outbound``: the way into the queue, None where nothing is sent to other servers; ``networks``: from which port 25
    takes mail for everywhere; ``xclient``: whose XCLIENT is taken; ``tells_strangers``: those who have not logged in
    hear of deliveries (RFC 3461 5.2.3); ``policy``: what is thought of mail from others, on port 25, but for clients in
    ``exempt`` networks; ``gate``: what is known of such clients before their mail comes; ``judge``: who looks at the
    content of mail; ``feedback``: what is done about reports of DMARC, on ports for mail of others; ``quarantine``:
    where mail of others is kept back; ``wishes``: how mail by LMTP is judged, None where it is not; ``feedback_id``:
    ends the Feedback-ID of what users send, empty for none."""

    kind: str
    hostname: str
    limits: Limits
    deliverer: Deliverer
    verifier: Verifier
    staging: str
    plaintext: bool | str = False
    outbound: Submission | None = None
    networks: Sequence[Network] = ()
    milters: Sequence[Milter] = ()
    xclient: Sequence[Network] = ()
    senders: Rules = field(default_factory=Rules)
    tells_strangers: bool = False
    resolve_url: Callable[[AccountRecord, str], Awaitable[bytes]] | None = None
    budget: Budget = field(default_factory=Budget)
    unheard: Unheard = field(default_factory=Unheard)
    policy: Receiver | None = None
    exempt: Sequence[Network] = ()
    gate: Gate | None = None
    judge: Judge | None = None
    feedback: Feedback | None = None
    quarantine: Quarantine | None = None
    wishes: Wishes | None = None
    feedback_id: str = ""


def service(kind: str, **shared: Any) -> Service:
    """A Service; ``kind`` is one of smtp, submission and lmtp."""
    assert kind in (MX, SUBMISSION, LMTP)
    return Service(kind, **shared)
