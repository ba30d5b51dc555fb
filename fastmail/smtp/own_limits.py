"""Limits what an account and its domain may send: octets of a message (RFC 1870), messages and recipients an hour; and
what a network may send that needs no login, if it is not stopped (queue.stopped).

MAIL already refuses when a limit of the hour is reached, so that nobody sends content in vain. The limit is enforced by
the commit that queues the message (queue.rates). A network's limits hold for an entry of ``[relay] networks``, the
smallest that the client is in, as a whole. The account is read at MAIL, not as it was at the login, and once for a mail
transaction (Own).
"""

from collections.abc import Sequence

from fastmail.directory import limits
from fastmail.model.domain import comparable
from fastmail.model.errors import DamagedAccount
from fastmail.net.networks import Network, narrowest
from fastmail.queue.rates import MESSAGES, RECIPIENTS, Charge, account_key, domain_key
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.transaction import Own
from fastmail.telemetry import log
from fastmail.telemetry.counters import count


def of(session: Dialogue) -> Own | None:
    """Return the account that is logged in, and its domain, as they are now; None if nobody is logged in."""
    user = session.user
    if user is None:
        return None
    directory = session.service.deliverer.directory
    try:
        user = directory.account(user.address) or user
    except DamagedAccount:
        pass  # as it was at the login
    return Own(user, directory.domain(user.address.rpartition("@")[2]))


def network_of(session: Dialogue) -> Network | None:
    """Return the network by which a client without a login may send; None if it may not, or is logged in."""
    if session.user is not None or not session.may_relay():
        return None
    return narrowest(session.host, session.service.networks)


def most(session: Dialogue, own: Own | None) -> int:
    """Octets that a message of this login may have; 0 where it has no limit below the service's."""
    octets = limits.message_size(own.account, own.domain) if own is not None else 0
    return octets if octets < session.service.limits.message_size else 0


def charges(session: Dialogue, own: Own | None, recipients: int) -> Sequence[Charge]:
    """Return what a message to so many recipients counts in the limits of the login, or of the network."""
    if own is None:
        return _of_network(session, network_of(session), recipients)
    return _of_login(own, recipients)


def _of_network(session: Dialogue, network: Network | None, recipients: int) -> Sequence[Charge]:
    outbound = session.service.outbound
    return outbound.charges_of(network, recipients) if network is not None and outbound is not None else ()


def _of_login(own: Own, recipients: int) -> Sequence[Charge]:
    account, domain = own.account, own.domain
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


def refusal(session: Dialogue, own: Own | None, size: int) -> str:
    """The reply to MAIL where the login or the network may not send a message of that size, or none more for now;
    empty where it may."""
    network = network_of(session) if own is None else None
    if own is None and network is None:
        return ""  # nobody is logged in, and the client may not send elsewhere: there is nothing to count
    octets = most(session, own)
    if 0 < octets < size:
        return f"552 5.3.4 message is too big: {octets} octets is the most for this login"
    outbound = session.service.outbound
    asked = _of_network(session, network, 1) if own is None else _of_login(own, 1)
    stopped = outbound.stopped(network) if outbound is not None and network is not None else ""
    if stopped:
        count("smtp.stopped")
        log.event("smtp.stopped", "warning", network=network, peer=session.host, why=stopped)
        return "450 4.7.1 mail from this network was stopped, please ask the administrator"
    why = outbound.over(asked) if outbound is not None and asked else ""
    if not why:
        return ""
    count("smtp.rate")
    log.event("smtp.rate", "warning", login=own.account.address if own is not None else "", peer=session.host, why=why)
    return f"450 4.7.1 {why}"
