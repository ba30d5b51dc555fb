"""Puts the parts together that read reports of DMARC and complaints, and that send ours.

``Reporting`` is one in each process. Whatever takes mail in asks it about reports: sessions by ``feedback``, commands
by ``read``.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmail.config.settings import Config
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.submission import Submission
from fastmail.directory.interface import AccountRecord
from fastmail.directory.local import LocalDirectory
from fastmail.directory.lookup import Destinations, landing
from fastmail.dns.interface import Names
from fastmail.durable import once
from fastmail.feedback import failures
from fastmail.feedback.counting import Tally
from fastmail.feedback.days import Days
from fastmail.feedback.failures import Failures
from fastmail.feedback.redaction import Hide
from fastmail.feedback.sending import Sender
from fastmail.feedback.service import Feedback
from fastmail.feedback.taking import Taker
from fastmail.message.header import Octets
from fastmail.model.address import comparable
from fastmail.model.errors import MailError, TemporaryError
from fastmail.model.esmtp import Rcpt
from fastmail.queue.rates import Charge

KEPT = 10_000  # recipients of which it is kept whether they lead there
KEY = 32  # octets of the key by which addresses are hashed


@dataclass(frozen=True, slots=True)
class Ways:
    """Finds out which addresses lead to the one for reports. ``address``: where reports come in. An address that cannot
    be looked up now does not lead there.

    Each recipient of each message is asked about. So what was found out is kept, together with what the directory said
    of the recipient: it says so with the same object until something changes in it, and with another one after that."""

    address: str
    directory: LocalDirectory
    deliverer: Deliverer
    _kept: dict[str, tuple[Destinations, bool, bool]] = field(default_factory=dict, init=False)

    def is_same(self, recipient: str) -> bool:
        """True if a recipient is the same row of the directory: with a detail, or under another name of its domain. A
        catch-all does not count, because it gets mail for all unknown addresses."""
        return self._known(recipient)[0]

    def reaches(self, recipient: str) -> bool:
        """True if an account behind the address also gets the recipient's mail."""
        return self._known(recipient)[1]

    def _known(self, recipient: str) -> tuple[bool, bool]:
        """Both."""
        try:
            there = self.deliverer.destinations(recipient)
        except MailError:
            return self._is_same(recipient), self._reaches(recipient)
        kept = self._kept.get(recipient)
        if kept is not None and kept[0] is there:
            return kept[1], kept[2]
        same, reaches = self._is_same(recipient), self._reaches(recipient)
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[recipient] = there, same, reaches
        return same, reaches

    def _is_same(self, recipient: str) -> bool:
        try:
            mine = landing(self.directory, comparable(self.address))
            found = landing(self.directory, comparable(recipient))
        except MailError:
            return False
        if not mine or not found:
            return False
        return found.name == mine.name and not found.name.startswith("@")

    def _reaches(self, recipient: str) -> bool:
        if not self.directory.is_local(recipient.rpartition("@")[2]):
            return False
        try:
            mine, found = (self.deliverer.destinations(one).accounts for one in (self.address, recipient))
        except MailError:
            return False
        return not {one.id for one in mine}.isdisjoint(one.id for one in found)


class Reporting:
    """See the module. ``resolver``: whom to ask about the DNS, made when it is needed."""

    def __init__(
        self,
        config: Config,
        directory: LocalDirectory,
        deliverer: Deliverer,
        submission: Submission,
        resolver: Callable[[], Names],
    ) -> None:
        self._config = config
        self._directory = directory
        self._deliverer = deliverer
        self._submission = submission
        self._resolver = resolver
        self.days = Days(config.server.data_dir)
        self._tally: Tally | None = None
        self._failures: Failures | None = None

    def taker(self) -> Taker | None:
        """Return the reader of reports that others send; None if no setting names an address for them."""
        own = self._config.policy
        if not own.reports_address:
            return None
        ways = Ways(own.reports_address, self._directory, self._deliverer)
        ours = self._directory.is_local
        return Taker(self.days, own.reports_address, ours, own.keep_reports, ways.is_same, ways.reaches)

    def feedback(self) -> Feedback | None:
        """Return what sessions on ports for mail of others need for reports; None for nothing."""
        own, taker = self._config.policy, self.taker()
        if own.send_reports and own.dmarc and self._config.relay.enabled:
            self._tally = Tally(self.days)
        if own.failure_reports and own.dmarc and self._config.relay.enabled:
            self._failures = self._made_failures()
        wanted = self._tally is not None or self._failures is not None or taker is not None
        return Feedback(self._tally, taker, self._failures) if wanted else None

    async def read(self, addresses: Sequence[str], content: Octets) -> bool:
        """Read a report that a command or this server itself brings in. True if nothing else is to be done with it."""
        return await Feedback(taker=self.taker()).take(addresses, content, None)

    def _made_failures(self) -> Failures:
        """Return what reports failures to other domains, as they come."""
        own, server = self._config.policy, self._config.server
        hide = None
        if own.failure_shows == failures.REDACTED:
            hide = Hide(once.secret(os.path.join(server.data_dir, "redaction.key"), KEY))
        rules = failures.Rules(own.failure_shows, own.failure_reports_per_domain, own.failure_reports_per_hour, hide)
        return Failures(self._resolver(), server.hostname, self._reporter(), rules, self._submission.over, self.post)

    def sender(self) -> Sender:
        """Return what sends aggregate reports to other domains."""
        reporter = self._reporter()
        return Sender(self.days, self._resolver(), reporter.rpartition("@")[2], reporter, self.post)

    def home(self) -> str:
        """Return the domain here that speaks for this server: its own name, or the nearest one above it."""
        labels = self._config.server.hostname.split(".")
        names = [".".join(labels[at:]) for at in range(len(labels))]
        return next(filter(self._directory.is_local, names), names[0])

    def _reporter(self) -> str:
        """Return the address that reports are from."""
        return self._config.policy.reports_from or f"postmaster@{self.home()}"

    async def post(self, address: str, content: bytes, charges: Sequence[Charge] = ()) -> None:
        """Queue a message of our own; nobody gets a report about its delivery. ``charges``: the limits that it counts
        in. MailError if it cannot be queued."""
        if await self.read([address], content):
            return
        envelope = Envelope(
            helo=self._config.server.hostname,
            peer="local",
            protocol="LOCAL",
            asked=[Rcpt(address, notify="NEVER")],
            charges=charges,
            signs=True,
        )
        accounts: list[AccountRecord] = []
        if self._directory.is_local(address.rpartition("@")[2]):
            there = self._deliverer.destinations(address)
            if not there:
                raise TemporaryError(f"{address} is nobody here")
            accounts = there.accounts
            if there.queued:
                envelope.forwards.add(address)
        envelope.recipients = [(address, accounts)]
        outcome = await self._submission.submit(envelope, content, False)
        if not outcome.ok:
            raise TemporaryError(outcome.text)

    async def close(self) -> None:
        """Write down what was counted; failures that were not reported are forgotten."""
        if self._failures is not None:
            await self._failures.close()
        if self._tally is not None:
            await self._tally.close()
        self.days.close()
