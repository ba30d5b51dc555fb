"""Refuses delivery reports about mail that was not sent from here (RFC 5321 4.5.5; tags: directory.batv).

When an address is forged, its owner gets the reports of all hosts that refuse the forgery. A domain that tags its
senders may refuse reports without a tag. This is decided when the content has come, for two reasons: some hosts only
ask with a null sender whether an address exists, and send no content; and other kinds of reports (that a message was
read, or complained about) have no sender either, but go to an address from the header or the DNS, which has no tag.
"""

import re

from fastmail._core import header
from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.directory.lookup import ROLES
from fastmail.directory.records import REFUSE
from fastmail.message.header import Octets
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import MX
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

VALUE = 4096  # octets of Content-Type that are read
# Two searches that are linear in what they read.
_REPORT = re.compile(rb"multipart/report\s*;", re.IGNORECASE)
_OTHER = re.compile(rb"\breport-type\s*=\s*\"?(?:disposition-notification|feedback-report|tlsrpt)\b", re.IGNORECASE)


def refusal(session: Dialogue, envelope: Envelope, content: Octets) -> Outcome | None:
    """Return why a message (LF) is refused; None if it is not. A message that is also for a recipient who accepts it is
    accepted."""
    batv = session.service.deliverer.batv
    if envelope.sender or batv is None or session.service.kind != MX or session.may_relay():
        return None
    addresses = [address for address, _ in envelope.recipients]
    if not addresses or not all(_refuses(session, address) for address in addresses):
        return None
    kind = header.value(content, b"content-type", VALUE)
    if kind is not None and _REPORT.match(kind.strip()) and _OTHER.search(kind):
        return None
    count("smtp.untagged")
    log.event("smtp.untagged", peer=session.host, recipient=addresses[0])
    return Outcome(550, "5.7.1", "a report about a message that was not sent from here")


def _refuses(session: Dialogue, address: str) -> bool:
    """Return True if an address takes reports with a tag only, and this one has none. Lists and forwards know their
    own reports by tokens of theirs."""
    deliverer = session.service.deliverer
    if deliverer.batv is None or deliverer.batv.looks_like_one(address):  # RCPT has looked at the tag
        return False
    forwarded = deliverer.srs is not None and deliverer.srs.looks_like_one(address)
    if forwarded or address.partition("@")[0].lower() in ROLES:
        return False
    return deliverer.batv.wish(address) == REFUSE and not deliverer.destinations(address).lists
