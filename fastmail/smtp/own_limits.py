"""Limits what an account and its domain may send: octets of a message (RFC 1870), messages and recipients an hour.

MAIL already refuses when a limit of the hour is reached, so that nobody sends content in vain. The limit is enforced by
the commit that queues the message (queue.rates). Only logins are counted. The limits are those of the account now, not
at the login.
"""

from collections.abc import Sequence

from fastmail.directory import limits
from fastmail.directory.interface import AccountRecord
from fastmail.directory.records import Domain
from fastmail.model.domain import comparable
from fastmail.model.errors import DamagedAccount
from fastmail.queue.rates import MESSAGES, RECIPIENTS, Charge, account_key, domain_key
from fastmail.smtp.dialogue import Dialogue
from fastmail.telemetry import log
from fastmail.telemetry.counters import count


def _sender(session: Dialogue) -> tuple[AccountRecord, Domain | None] | None:
    """The account that is logged in, and its domain; None where nobody is."""
    user, directory = session.user, session.service.deliverer.directory
    if user is None:
        return None
    try:
        user = directory.account(user.address) or user
    except DamagedAccount:
        pass  # as it was at the login
    return user, directory.domain(user.address.rpartition("@")[2])


def most(session: Dialogue) -> int:
    """Octets that a message of this login may have; 0 where it has no limit below the service's."""
    found = _sender(session)
    own = limits.message_size(*found) if found is not None else 0
    return own if own < session.service.limits.message_size else 0


def charges(session: Dialogue, recipients: int) -> Sequence[Charge]:
    """Return what one message to so many recipients counts in the limits of the login."""
    found = _sender(session)
    if found is None:
        return ()
    account, domain = found
    out = [
        Charge(account_key(account.id, what), amount, most, what)
        for what, amount, most in (
            (RECIPIENTS, recipients, account.recipients_per_hour),
            (MESSAGES, 1, account.messages_per_hour),
        )
        if most
    ]
    if domain is None or not (domain.recipients_per_hour or domain.messages_per_hour):
        return out
    name = comparable(domain.name)
    return out + [
        Charge(domain_key(name, what), amount, most, what, f"the domain {name}")
        for what, amount, most in (
            (RECIPIENTS, recipients, domain.recipients_per_hour),
            (MESSAGES, 1, domain.messages_per_hour),
        )
        if most
    ]


def refusal(session: Dialogue, size: int) -> str:
    """The reply to MAIL where the login may not send a message of that size, or none more for now; empty where it
    may."""
    own = most(session)
    if 0 < own < size:
        return f"552 5.3.4 message is too big: {own} octets is the most for this login"
    outbound, asked = session.service.outbound, charges(session, 1)
    why = outbound.over(asked) if outbound is not None and asked else ""
    if not why:
        return ""
    count("smtp.rate")
    log.event("smtp.rate", "warning", login=session.user.address if session.user else "", peer=session.host, why=why)
    return f"450 4.7.1 {why}"
