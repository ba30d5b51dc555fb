"""RCPT (RFC 5321 4.1.1.3, RFC 3461 4): who gets a message, and who may not be written to from here.

Addresses of other servers are taken from users and trusted networks only, so this is never an open relay. Accounts that
are kept elsewhere are asked for first; while nobody can say whether there is one, the answer is temporary.
"""

from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace

from fastmail.delivery.envelope import LEAVES_NOT, is_postmaster
from fastmail.delivery.lists import posting
from fastmail.delivery.recipients import Known
from fastmail.directory.interface import AccountRecord, fresh
from fastmail.directory.lookup import NOT_FOUND, Destinations, at_home
from fastmail.directory.origins import domain_of
from fastmail.model.errors import TemporaryError
from fastmail.model.esmtp import Rcpt
from fastmail.policy.wishes import Wanted
from fastmail.smtp import envelope as grammar
from fastmail.smtp import refusals, strangers, wanted
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP, SUBMISSION, Service
from fastmail.smtp.transaction import MAIL, RCPT, Transaction
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

Work = Coroutine[Any, Any, None]
OK = b"250 2.1.5 recipient ok\r\n"
UNCERTAIN = "451 4.3.0 accounts cannot be looked up now, try again later"


def rcpt(session: Dialogue, rest: bytes) -> None:
    """The command."""
    service, transaction = session.service, session.transaction
    assert transaction is not None
    if len(transaction.envelope.recipients) >= service.limits.recipients:
        # No mistake of the client: it sends to those that were taken, and then to the rest (RFC 5321 4.5.3.1.10). If it
        # were counted, a client that names far too many would be sent away before its DATA, each time it comes again.
        session.say("452 4.5.3 too many recipients")
        return
    try:
        asked = grammar.rcpt(rest, transaction.envelope.options.utf8, lambda: _own_domain(service))
    except grammar.Refused as refusal:
        session.refuse(str(refusal))
        return
    directory = service.deliverer.directory
    if asked.notify and not _hears_of_success(session):
        asked = replace(asked, notify=_without_success(asked.notify))
    work = _Rcpt(session, transaction, rest, asked)
    known = service.deliverer.known(asked.address) if directory.live is None else None
    if known is not None:
        waits = work.here(known)
    elif _is_here(service, asked.address):
        waits = work.fresh() if directory.live is not None else work.here()
    elif session.may_relay():
        waits = work.add([])
    else:
        waits = None
        away = "sending to other servers is switched off here"
        denied = away if service.kind == SUBMISSION else "relaying denied: the domain is not of this server"
        refusals.remember(session, transaction.envelope.sender, asked.address, f"550 5.7.1 {denied}")
        session.refuse(f"550 5.7.1 {denied}")
    if waits is not None:
        session.conn.run(waits)


def _own_domain(service: Service) -> str:
    """The domain of ``<postmaster>`` without one (RFC 5321 4.5.1): the host's name, or the nearest domain above it."""
    labels = service.hostname.lower().split(".")
    names = [".".join(labels[i:]) for i in range(len(labels))]
    return next((name for name in names if service.deliverer.directory.is_local(name)), names[0])


def _hears_of_success(session: Dialogue) -> bool:
    """True if the sender may get reports of success: users and trusted networks. A stranger may have written anybody's
    address as the sender, who would get the reports. With LMTP the host in front reports to senders."""
    service = session.service
    return service.kind != LMTP and (service.tells_strangers or session.may_relay())


def _without_success(notify: str) -> str:
    """Return the rest of what NOTIFY asked for; NEVER if nothing remains, because an empty value asks for failures and
    delays."""
    kept = [word for word in notify.split(",") if word != "SUCCESS"]
    return ",".join(kept) or "NEVER"


def _is_here(service: Service, address: str) -> bool:
    """True for an address of a domain here, and for the postmaster of this host, who exists whether or not the host
    takes other mail under its own name (RFC 5321 4.5.1)."""
    local, _, domain = address.rpartition("@")
    if service.deliverer.directory.is_local(domain):
        return True
    return is_postmaster(local) and domain.lower() == service.hostname.lower()


def _counted_by(address: str, there: Destinations) -> str:
    """Return the name by which mail for a recipient is counted. With a detail, or with another name of its domain, it
    is the same recipient: the account, if there is only one, or else the row of the directory that it leads to. What
    has no row is a role whose mail goes to whoever runs the server, or a sender whose mail was forwarded."""
    if len(there.accounts) == 1 or (there.accounts and not there.row):
        return there.accounts[0].address
    return there.row or address


class _Rcpt:
    """One RCPT on its way: each step replies, or returns what is left to wait for."""

    __slots__ = ("_asked", "_rest", "_session", "_transaction", "_wanted")

    def __init__(self, session: Dialogue, transaction: Transaction, rest: bytes, asked: Rcpt) -> None:
        self._session = session
        self._transaction = transaction
        self._rest = rest
        self._asked = asked
        self._wanted: list[Wanted] = []  # what those behind the address ask for

    async def fresh(self) -> None:
        """An address here whose account is kept elsewhere."""
        deliverer = self._session.service.deliverer
        try:
            await fresh(deliverer.directory, self._asked.address)
            if is_postmaster(self._asked.address):
                for name in deliverer.postmasters:
                    await fresh(deliverer.directory, name)
        except TemporaryError:
            self._refuse(UNCERTAIN)
            return
        waits = self.here()
        if waits is not None:
            await waits

    def here(self, known: Known | None = None) -> Work | None:
        """An address of a domain here. ``known``: what is known of it."""
        session, address = self._session, self._asked.address
        deliverer = session.service.deliverer
        try:
            octets = self._transaction.envelope.options.size
            if known is not None:
                there, no_room = known.there, deliverer.refused(known.account, known.most, octets)
            else:
                there = deliverer.destinations(address)
                no_room = deliverer.refusal(address, there, octets)
            if self._transaction.receiving is not None:
                self._wanted = wanted.of(session, self._transaction, address, there)
        except TemporaryError as error:
            log.event("smtp.recipient", "error", address=address, why=error)
            self._refuse("451 4.3.0 the mailbox cannot be reached now, try again later")
            return None
        if not there.accounts and not there:  # the list is asked first: nearly always it has one, and answers quicker
            self._unknown(there.refusal)
            return None
        queued = there.queued
        refused = self._forbidden(there, queued) or no_room
        if self._wanted:
            refused = refused or wanted.refusal(session, self._transaction, address, self._wanted)
        if refused:
            self._refuse(refused)
            return None
        if self._transaction.wishes and wanted.apart(self._transaction, there, self._wanted):
            session.say(
                "452 4.5.3 send to this recipient by itself, please: it asks for other checks than those before"
            )
            return None
        if session.stranger is not None:
            refused = strangers.recipient_refusal(session, self._transaction, _counted_by(address, there))
            if refused:
                self._remember(refused)
                session.refuse(refused)
                return None
        if queued:
            self._transaction.envelope.forwards.add(address)
        return self.add(there.accounts)

    def _unknown(self, refusal: str) -> None:
        """Nobody gets mail for the address, which ``refusal`` says."""
        session, address = self._session, self._asked.address
        count("smtp.unknown")
        if refusal != NOT_FOUND:
            self._refuse(refusal)
        elif session.service.deliverer.directory.is_uncertain(domain_of(address)) or is_postmaster(address):
            # The postmaster is never unknown (RFC 5321 4.5.1).
            self._refuse(UNCERTAIN)
        elif strangers.unknown(session, self._transaction):
            self._refuse(NOT_FOUND)

    def _refuse(self, reply: str) -> None:
        """Refuse the recipient. That is a mistake of the client, unless it may try again."""
        session = self._session
        self._remember(reply)
        (session.refuse if reply.startswith("5") else session.say)(reply)

    def _remember(self, reply: str) -> None:
        refusals.remember(self._session, self._transaction.envelope.sender, self._asked.address, reply)

    def _forbidden(self, there: Destinations, queued: bool) -> str:
        """The reply to a session that may not write to an address of this server; empty when it may. ``queued``: of
        ``there``."""
        session = self._session
        if there.bounces and self._transaction.envelope.sender:
            return "550 5.7.1 this address takes delivery reports only"
        if there.inside:
            user, directory = session.user, session.service.deliverer.directory
            mine = at_home(directory, user.address) if user is not None else ""
            if mine.rpartition("@")[2] != there.inside:
                return "550 5.7.1 this address takes mail from users of its domain only"
        if queued and session.service.outbound is None:
            return f"550 5.7.1 {LEAVES_NOT}"
        return posting.at_rcpt(session.service.deliverer.directory, there, self._transaction.envelope.sender)

    def add(self, records: list[AccountRecord]) -> Work | None:
        """Take the recipient, once the filters have been asked."""
        session = self._session
        if session.filters is None:
            self._take(records)
            return None
        question = session.filters.rcpt(self._asked.address, self._rest.rpartition(b">")[2].split())
        return session.consult(question, lambda: self._take(records), self._remember)

    def _take(self, records: list[AccountRecord]) -> None:
        transaction = self._transaction
        transaction.envelope.recipients.append((self._asked.address, records))
        transaction.envelope.asked.append(self._asked)
        if self._wanted:
            transaction.ask(self._wanted)
        if transaction.state is MAIL:
            transaction.state = RCPT
        self._session.conn.write(OK)
