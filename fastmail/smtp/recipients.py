"""RCPT (RFC 5321 4.1.1.3, RFC 3461 4): who gets a message, and who may not be written to from here.

Addresses of other servers are taken from users and trusted networks only, so this is never an open relay. Accounts that
are kept elsewhere are asked for first; while nobody can say whether there is one, the answer is temporary.
"""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from fastmail.delivery.deliver import is_postmaster
from fastmail.directory.interface import AccountRecord, fresh
from fastmail.directory.lookup import NOT_FOUND, Destinations, at_home
from fastmail.model.errors import TemporaryError
from fastmail.queue.model import Rcpt
from fastmail.smtp import envelope as grammar
from fastmail.smtp.table import LMTP, SUBMISSION
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

if TYPE_CHECKING:
    from fastmail.smtp.session import SmtpSession

Work = Coroutine[Any, Any, None]


def rcpt(session: "SmtpSession", rest: bytes) -> None:
    """The command."""
    service = session.service
    if len(session.envelope.recipients) >= service.limits.recipients:
        session.bad("452 4.5.3 too many recipients")
        return
    try:
        local, domain, params = grammar.rcpt(rest, session.utf8)
    except grammar.Refused as refusal:
        session.bad(str(refusal))
        return
    directory = service.deliverer.directory
    if domain is None:
        domain = session.own_domain()
    notify = params.notify if _hears_of_success(session) else _without_success(params.notify)
    asked = Rcpt(f"{local}@{domain}", params.orcpt, notify)
    if directory.is_local(domain) or _is_hosts_postmaster(session, local, domain):
        waits = _fresh(session, rest, asked) if directory.live is not None else _here(session, rest, asked)
    elif session.may_relay():
        waits = _add(session, rest, asked, [])
    else:
        waits = None
        if service.kind == SUBMISSION:
            session.bad("550 5.7.1 sending to other servers is switched off here")
        else:
            session.bad("550 5.7.1 relaying denied: the domain is not of this server")
    if waits is not None:
        session.conn.run(waits)


def _hears_of_success(session: "SmtpSession") -> bool:
    """Users and trusted networks do; strangers may have written anybody's address as theirs, who would get the reports.
    By LMTP it is the host in front that reports to senders."""
    service = session.service
    return service.kind != LMTP and (service.tells_strangers or session.may_relay())


def _without_success(notify: str) -> str:
    """The rest of what was asked; NEVER where there is none, because an empty value asks for failures and delays."""
    kept = [word for word in notify.split(",") if word != "SUCCESS"]
    return ",".join(kept) or "NEVER"


def _is_hosts_postmaster(session: "SmtpSession", local: str, domain: str) -> bool:
    """This host has a postmaster, whether or not it takes other mail under its own name (RFC 5321 4.5.1)."""
    return is_postmaster(local) and domain.lower() == session.service.hostname.lower()


async def _fresh(session: "SmtpSession", rest: bytes, asked: Rcpt) -> None:
    """An address here whose account is kept elsewhere."""
    try:
        deliverer = session.service.deliverer
        await fresh(deliverer.directory, asked.address)
        if is_postmaster(asked.address):
            for name in deliverer.postmasters:
                await fresh(deliverer.directory, name)
    except TemporaryError:
        session.say("451 4.3.0 accounts cannot be looked up now, try again later")
        return
    waits = _here(session, rest, asked)
    if waits is not None:
        await waits


def _here(session: "SmtpSession", rest: bytes, asked: Rcpt) -> Work | None:
    """An address of a domain here; what is left to wait for."""
    deliverer = session.service.deliverer
    try:
        there = deliverer.destinations(asked.address)
        full = deliverer.full(there.accounts, session.announced)
    except TemporaryError as error:
        log.event("smtp.recipient", "error", address=asked.address, why=error)
        session.say("451 4.3.0 the mailbox cannot be reached now, try again later")
        return None
    if not there:
        count("smtp.unknown")
        if there.refusal != NOT_FOUND:
            (session.bad if there.refusal.startswith("5") else session.say)(there.refusal)
        elif deliverer.directory.uncertain or is_postmaster(asked.address):  # he is never unknown (RFC 5321 4.5.1)
            session.say("451 4.3.0 accounts cannot be looked up now, try again later")
        else:
            session.bad(NOT_FOUND)
        return None
    refused = _forbidden(session, there)
    if full or refused:
        session.bad(refused or "552 5.2.2 mailbox is full")
        return None
    if there.elsewhere:
        session.envelope.forwards.add(asked.address)
    return _add(session, rest, asked, there.accounts)


def _forbidden(session: "SmtpSession", there: Destinations) -> str:
    """Why this session may not write to an address that is there; empty where it may."""
    if there.bounces and session.envelope.sender:
        return "550 5.7.1 this address takes delivery reports only"
    if there.inside:
        mine = at_home(session.service.deliverer.directory, session.user.address) if session.user is not None else ""
        if mine.rpartition("@")[2] != there.inside:
            return "550 5.7.1 this address takes mail from users of its domain only"
    if there.elsewhere and session.service.outbound is None:
        return "550 5.7.1 mail for this address leaves this server, which is switched off"
    return ""


def _add(session: "SmtpSession", rest: bytes, asked: Rcpt, records: list[AccountRecord]) -> Work | None:
    """Filters are heard first."""
    if session.filters is None:
        _take(session, asked, records)
        return None
    question = session.filters.rcpt(asked.address, rest.rpartition(b">")[2].split())
    return session.consult(question, lambda: _take(session, asked, records))


def _take(session: "SmtpSession", asked: Rcpt, records: list[AccountRecord]) -> None:
    session.envelope.recipients.append((asked.address, records))
    session.envelope.asked.append(asked)
    session.say("250 2.1.5 recipient ok")
