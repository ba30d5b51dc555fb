"""The protocols of one worker: what the sessions of each share, and the functions that make sessions."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastmail.app.derived import judge_of, limits, policy_settings, stranger_rules
from fastmail.auth import send_as
from fastmail.auth.verifier import Verifier
from fastmail.config.settings import Config
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.quarantine import Quarantine
from fastmail.delivery.submission import Submission
from fastmail.directory.interface import AccountRecord
from fastmail.directory.local import LocalDirectory
from fastmail.dns.resolver import Resolver
from fastmail.durable.staging import Budget
from fastmail.feedback.service import Feedback
from fastmail.imap import session as imap
from fastmail.imap import urlauth
from fastmail.imap.service import Service as ImapService
from fastmail.net import networks
from fastmail.net.connection import Connection
from fastmail.net.session import Session
from fastmail.policy.greylist import Greylist
from fastmail.policy.learning.counts import Learned
from fastmail.policy.receive import Receiver
from fastmail.policy.strangers.gate import Gate
from fastmail.pop3.service import Service as Pop3Service
from fastmail.pop3.session import Pop3Session
from fastmail.smtp.milter import Milter
from fastmail.smtp.service import Service as SmtpService
from fastmail.smtp.service import service as smtp_service
from fastmail.smtp.session import SmtpSession
from fastmail.store.filler import Filler
from fastmail.store.interface import Account, Store


@dataclass(frozen=True, slots=True)
class Parts:
    """What the protocols need of the process. ``moved`` hears of messages that users move; None where nobody learns
    from that. ``feedback``: what is done about reports of DMARC, None for nothing."""

    config: Config
    store: Store
    directory: LocalDirectory
    deliverer: Deliverer
    submission: Submission
    verifier: Verifier
    resolver: Resolver
    filler: Filler
    learned: Learned | None
    quarantine: Quarantine
    feedback: Feedback | None
    moved: Callable[[Account, bytes, bytes, Sequence[int]], None] | None


class Services:
    """One for each worker. The gate and the greylist are files that all workers share; ``close`` closes them."""

    def __init__(self, parts: Parts) -> None:
        config = parts.config
        self._parts = parts
        self._staging = os.path.join(config.server.data_dir, "staging")
        self._budget = Budget(config.limits.staging_memory)
        self._greylist = Greylist(config.server.data_dir, config.policy.greylist_delay)
        rules = stranger_rules(config)
        self._gate = Gate(config.server.data_dir, rules) if rules.any else None

    def close(self) -> None:
        self._greylist.close()
        if self._gate is not None:
            self._gate.close()

    def sessions(self) -> dict[str, Callable[[Connection], Session]]:
        """Return, for each protocol, the function that makes its sessions."""
        imap_service = self._imap()
        mail = self._mail(imap_service)
        mx, submission, lmtp = self._mx(mail), self._submission(mail), self._lmtp(mail)
        pop3 = self._pop3()
        return {
            "smtp": lambda c: SmtpSession(mx, c),
            "submission": lambda c: SmtpSession(submission, c),
            "submissions": lambda c: SmtpSession(submission, c),
            "lmtp": lambda c: SmtpSession(lmtp, c),
            "imap": lambda c: imap.ImapSession(imap_service, c),
            "imaps": lambda c: imap.ImapSession(imap_service, c),
            "pop3": lambda c: Pop3Session(pop3, c),
            "pop3s": lambda c: Pop3Session(pop3, c),
        }

    def _shared(self) -> dict[str, Any]:
        """Return what the services of all protocols have."""
        config = self._parts.config
        return {
            "hostname": config.server.hostname,
            "limits": limits(config),
            "verifier": self._parts.verifier,
            "plaintext": config.auth.plaintext_without_tls,
        }

    def _imap(self) -> ImapService:
        parts, config = self._parts, self._parts.config
        return ImapService(
            store=parts.store,
            account=parts.deliverer.account,
            staging=self._staging,
            budget=self._budget,
            separator=config.store.separator,
            prefix=config.store.prefix,
            dotted=config.store.layout == "fs" and config.store.separator == "/",
            directory=parts.directory,
            admins=frozenset(config.auth.admins),
            shared=tuple(config.store.shared_accounts),
            anyone=config.store.anyone,
            admin_contact=config.server.admin_contact,
            filler=parts.filler if config.store.search_index else None,
            moved=parts.moved,
            **self._shared(),
        )

    def _pop3(self) -> Pop3Service:
        return Pop3Service(store=self._parts.store, account=self._parts.deliverer.account, **self._shared())

    def _mail(self, imap_service: ImapService) -> dict[str, Any]:
        """Return what the services of all ports that take mail have."""
        parts, config = self._parts, self._parts.config

        async def resolve_url(record: AccountRecord, url: str) -> bytes:
            return await urlauth.submit(imap_service, parts.deliverer.account(record), url)

        mail = {
            "deliverer": parts.deliverer,
            "staging": self._staging,
            "budget": self._budget,
            "senders": send_as.parse(config.auth.header_senders, config.auth.send_as),
            "xclient": [networks.parse(text) for text in config.listen.xclient],
            "tells_strangers": config.relay.success_reports_to_strangers,
            "resolve_url": resolve_url,
            "judge": judge_of(config, parts.learned),
            **self._shared(),
        }
        if config.relay.enabled:
            mail["outbound"] = parts.submission
            mail["networks"] = [networks.parse(text) for text in config.relay.networks]
        return mail

    def _milters(self, addresses: list[str]) -> list[Milter]:
        filters = self._parts.config.filters
        return [Milter(address, filters.timeout, filters.otherwise) for address in addresses]

    def _mx(self, mail: dict[str, Any]) -> SmtpService:
        """Port 25: mail from strangers, whose senders are checked."""
        parts, config = self._parts, self._parts.config
        return smtp_service(
            "smtp",
            milters=self._milters(config.filters.smtp),
            policy=Receiver(parts.resolver, policy_settings(config), self._greylist),
            gate=self._gate,
            exempt=[networks.parse(text) for text in config.policy.exempt],
            feedback=parts.feedback,
            quarantine=parts.quarantine,
            **mail,
        )

    def _submission(self, mail: dict[str, Any]) -> SmtpService:
        """Ports 587 and 465: mail from users. Of feedback they only have what reads reports of others."""
        parts, config = self._parts, self._parts.config
        taker = parts.feedback.taker if parts.feedback is not None else None
        return smtp_service(
            "submission",
            milters=self._milters(config.filters.submission),
            feedback_id=config.policy.feedback_id,
            feedback=Feedback(taker=taker) if taker is not None else None,
            **mail,
        )

    def _lmtp(self, mail: dict[str, Any]) -> SmtpService:
        """LMTP: mail from a server in front of this one, judged only where a setting says so."""
        parts, config = self._parts, self._parts.config
        return smtp_service(
            "lmtp",
            milters=self._milters(config.filters.lmtp),
            feedback=parts.feedback,
            quarantine=parts.quarantine,
            wishes=policy_settings(config).wishes if config.policy.judge_lmtp else None,
            **mail,
        )
