"""Puts a server together from its configuration: directory, store, verifier, deliverer, services, listeners."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cached_property

from fastmail.app.derived import (
    ban_rules,
    control_template,
    index_template,
    key_schedule,
    learned_of,
    limits,
    maildir_template,
    masters_of,
    pupils_of,
    quarantine_of,
    read_instance,
    resolver_of,
    signature_lifetime,
    users_of,
)
from fastmail.app.homes import Homes
from fastmail.app.ports import FEW
from fastmail.app.reporting import Reporting
from fastmail.app.services import Parts, Services
from fastmail.auth import oauth, provider
from fastmail.auth.verifier import Verifier
from fastmail.config.settings import Config
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.history import History
from fastmail.delivery.lists.one_click import OneClick
from fastmail.delivery.reports import Reports
from fastmail.delivery.submission import Submission
from fastmail.delivery.training import Trainer
from fastmail.directory import external, sources, standing
from fastmail.directory.batv import Batv
from fastmail.directory.list_links import Links
from fastmail.directory.live import LiveByDomain
from fastmail.directory.local import LocalDirectory
from fastmail.directory.srs import Srs
from fastmail.dns.resolver import Resolver
from fastmail.durable import once
from fastmail.model.quota import Quota
from fastmail.model.units import parse_time
from fastmail.net import networks
from fastmail.net.bans import Bans
from fastmail.net.connection import Connection
from fastmail.net.guesses import Guesses
from fastmail.net.handover import Handover
from fastmail.net.listener import Listener, Registry
from fastmail.net.session import Session
from fastmail.net.tls import ServerTls
from fastmail.policy.rotation import Rotation
from fastmail.policy.sealing import Sealer
from fastmail.policy.signer import Signer
from fastmail.queue import routes
from fastmail.queue.bell import Bell
from fastmail.queue.bounds import Bounds
from fastmail.queue.schedule import Schedule, Schedules
from fastmail.queue.spool import Spool
from fastmail.relay.runner import Limits as RelayLimits
from fastmail.relay.runner import Runner
from fastmail.relay.scheduling import Most
from fastmail.relay.sts import Policies
from fastmail.relay.suspicion import Rules, Watch, parse_exempt
from fastmail.relay.targets import Finder
from fastmail.smtp.client import Timeouts
from fastmail.store.filler import Filler
from fastmail.store.fulltext import FullText
from fastmail.store.hub import Hub
from fastmail.store.interface import Account
from fastmail.store.local.maildir.names import NO_INSTANCE
from fastmail.store.local.readonly import ReadOnlyStore
from fastmail.store.local.store import LocalStore
from fastmail.telemetry import log

REFUSALS = {
    "imap": b"* BYE too many connections, try again later\r\n",
    "pop3": b"-ERR [SYS/TEMP] too many connections, try again later\r\n",
}
BANNED = {
    "imap": b"* BYE not from your address for a while\r\n",
    "pop3": b"-ERR [SYS/TEMP] not from your address for a while\r\n",
}


@asynccontextmanager
async def beside(config: Config) -> "AsyncIterator[Assembly]":
    """A command's own objects, beside a running server (which hears of what it changes) or without one."""
    assembly = Assembly(config, instance=read_instance(config))
    assembly.hub.join(config.server.run_dir)
    await assembly.start()
    try:
        yield assembly
    finally:
        await assembly.close()


class Assembly:
    """One process's objects. ``worker`` is its number; commands use worker -1 and no doorbell of their own."""

    def __init__(self, config: Config, worker: int = -1, instance: str = "", recover: bool = False) -> None:
        self.config = config
        self.directory = LocalDirectory(config.server.data_dir)
        self.hub = Hub(config.server.run_dir if worker >= 0 else "", max(worker, 0))
        self._make_store(instance, recover)
        self._make_deliverer()
        self._make_queue()
        if worker >= 0:
            self.deliverer.history = self.history
        self._make_outbound()
        self._make_logins(self._salts() if worker >= 0 else b"")
        self.quarantine = quarantine_of(config)
        self.learned = learned_of(config) if config.learning.enabled else None
        self.reporting = Reporting(config, self.directory, self.deliverer, self.submission, lambda: self.resolver)
        # what only some processes start
        self.rotating: asyncio.Task[None] | None = None
        self.expiring: asyncio.Task[None] | None = None
        self.runner: Runner | None = None
        self.bans: Bans | None = None
        self.guesses: Guesses | None = None
        self.account_syncs: list[external.AccountSync] = []
        self.services: Services | None = None
        self.trainer: Trainer | None = None

    def _make_store(self, instance: str, recover: bool) -> None:
        """Mailboxes, where they lie, and their full-text index."""
        config = self.config
        self.homes = Homes(
            self.directory,
            maildir_template(config),
            control_template(config),
            config.store.layout,
            config.store.utf8_names,
            index_template(config),
        )
        kind = ReadOnlyStore if config.store.read_only else LocalStore
        self.store = kind(
            config.server.data_dir,
            self.homes.home,
            shards=config.store.shards,
            instance=instance or NO_INSTANCE,
            hub=self.hub,
            map_size=config.store.index_map_size,
            resolve=self.account_of,
            recover=recover,
            kind=config.store.content,
            shared=config.store.shared == "dovecot",
            grace=config.store.expunge_grace,
            gone=lambda account: standing.is_gone(self.directory, account.id, account.address),
        )
        self.filler = Filler(FullText(config.server.data_dir), self.store, self.account_of)
        if config.store.search_index and not config.store.read_only:
            self.hub.noted = self.filler.changed

    def _make_deliverer(self) -> None:
        """Delivery into mailboxes."""
        config = self.config
        self.deliverer = Deliverer(
            self.directory,
            self.store,
            config.server.hostname,
            Quota(config.limits.quota_storage, config.limits.quota_messages, config.limits.quota_mailboxes),
            [name for name in (config.server.postmaster, *config.auth.admins) if name],
            self.homes.note,
        )
        self.deliverer.srs = Srs(self.directory)
        self.deliverer.batv = Batv(self.directory)
        self.deliverer.forwards_junk = config.policy.forward_junk

    def _make_queue(self) -> None:
        """The queue, where its messages go and when, and the history of all messages."""
        config, relay = self.config, self.config.relay
        self.routes = routes.parse(relay.routes, relay.tls_policies, config.base, relay.pools)
        self.bell = Bell(config.server.run_dir)
        self.spool = Spool(config.server.data_dir, relay.map_size, self.bell.ring, self.store.holds)
        self.store.queued = self.spool.queued
        self.history = History(config.server.data_dir, relay.trace_days, relay.trace_size)
        self.destinations = routes.Destinations(self.routes, self.directory.is_local)
        usual = Schedule([parse_time(one) for one in relay.retry], relay.lifetime, relay.delay_warning)
        self.schedules = Schedules(self.routes, usual)

    def _make_outbound(self) -> None:
        """The ways into the queue: what users send, and reports; both are signed."""
        config, relay = self.config, self.config.relay
        hostname, usual = config.server.hostname, self.schedules.usual
        bounds = Bounds(
            relay.messages,
            relay.recipients_per_hour,
            relay.domain_recipients_per_hour,
            relay.network_recipients_per_hour,
            relay.network_messages_per_hour,
        )
        lifetime = signature_lifetime(config)
        self.signer = Signer(self.directory, config.server.data_dir, lifetime) if config.policy.sign else None
        self.reports = Reports(self.spool, usual, hostname, bounds, self.destinations.of, self.history, self.signer)
        self.submission = Submission(
            self.spool,
            self.routes,
            hostname,
            bounds,
            self.reports,
            self.history,
            self.deliverer,
            self.signer,
            relay.enabled,
        )

    def _make_logins(self, salts: bytes) -> None:
        """Sources of accounts, and the check of logins. ``salts``: see _salts."""
        config = self.config
        self.directory.sources = config.source_names
        self.origins = sources.origins(
            config.directory, config.source, config.auth.default_domain, config.base, config.store.homes
        )
        self.live: LiveByDomain | None = sources.live(self.directory, self.origins)
        self.directory.live = self.live
        self.binders = sources.binders(self.directory, self.origins)
        self.verifier = Verifier(
            self.directory,
            max(1, config.auth.threads),
            config.auth.default_domain,
            config.auth.mechanisms,
            oauth.Tokens(provider.load(config.oauth, config.base)),
            config.auth.upgrade_hashes,
            salts,
            masters_of(config),
            self.binders,
        )

    def _salts(self) -> bytes:
        """Return the secret from which salts are made up for names without an account (auth.verifier)."""
        path = os.path.join(self.config.server.data_dir, "scram.key")
        try:
            return once.secret(path, 32)
        except OSError as error:
            log.event("scram.key", "error", path=path, error=error, then="made-up salts change at each start")
            return b""

    def account_of(self, number: int) -> Account | None:
        return self.deliverer.account_by_id(number)

    async def start(self) -> None:
        await self.store.start()

    def follow_texts(self, sweeps: bool) -> None:
        """Update the full-text index after each change in this process. ``sweeps``: also check the whole index once."""
        if self.hub.noted is not None:
            self.filler.follow()
            if sweeps:
                self.filler.sweep()

    def follow_moves(self, sweeps: bool) -> None:
        """Learn from messages that users move in this process. ``sweeps``: also remove what is known of accounts that
        do not exist any more."""
        pupils = pupils_of(self.config)
        if self.learned is not None or pupils:
            self.trainer = Trainer(self.learned, self.store, self.config.learning.shared, self.account_of, pupils)
            if sweeps:
                self.trainer.sweep()

    def follow_accounts(self) -> None:
        """Keep the directory up to date with the sources of accounts that other programs keep. Only one process may do
        it."""
        self.account_syncs = sources.account_syncs(self.directory, self.origins)
        for one in self.account_syncs:
            one.start()

    @cached_property
    def resolver(self) -> Resolver:
        """The DNS resolver of this process, with its cache."""
        return resolver_of(self.config)

    def finder(self) -> Finder:
        """Return the finder of hosts for mail to other servers."""
        relay, resolver = self.config.relay, self.resolver
        return Finder(
            self.routes,
            resolver,
            self.config.server.hostname,
            relay.tls,
            relay.port,
            relay.loopback_hosts,
            Policies(self.spool, resolver, inside=relay.private_web_servers) if relay.mta_sts else None,
        )

    def start_relay(self) -> None:
        """Empty the queue from this process; only one may."""
        relay, hostname = self.config.relay, self.config.server.hostname
        finder = self.finder()
        timeouts = Timeouts(relay.connect_timeout, relay.command_timeout, 2 * relay.command_timeout)
        bounds = RelayLimits(
            Most(relay.connections_per_destination, relay.connections),
            timeouts,
            relay.source_ipv4,
            relay.source_ipv6,
            relay.pipe_timeout,
            relay.private_web_servers,
        )
        self.runner = Runner(
            self.spool,
            self.destinations,
            self.schedules,
            self.reports,
            self.history,
            self.deliverer,
            finder,
            hostname,
            bounds,
            self.signer,
            self._sealer(),
            self._watch(),
            self._one_click(),
        )
        if self.config.policy.send_reports:
            self.runner.send_reports = self.reporting.sender().send_due
        self.bell.listen(self.runner.wake)
        self.runner.start()

    def _watch(self) -> Watch | None:
        """Return the watch that stops logins which send as stolen ones do; None if no setting asks for it."""
        relay = self.config.relay
        if not relay.suspend_after and not relay.suspend_recipients:
            return None
        logins, exempt = parse_exempt(relay.never_suspend)
        rules = Rules(relay.suspend_after, relay.suspend_recipients, logins, exempt)
        watched = [networks.parse(text) for text in relay.networks]
        post = self.reporting.post
        home = self.reporting.home()
        return Watch(rules, self.spool, self.directory, post, self.config.server.hostname, watched, home)

    def _one_click(self) -> OneClick | None:
        """What lets members of lists leave by a web address; None where this server has none."""
        url = self.config.web.url
        return OneClick(url, Links(self.directory), self.signer) if url else None

    def _sealer(self) -> Sealer | None:
        """Return the sealer of forwarded mail (ARC). None if no setting names its domain, or if chains are not
        verified."""
        policy = self.config.policy
        if self.signer is None or not policy.arc_seal or not policy.arc:
            return None
        return Sealer(self.signer, self.config.server.hostname, policy.arc_seal)

    def follow_keys(self) -> None:
        """Renew DKIM keys when they are due, from this process. Only one process may do it."""
        if self.signer is not None:
            config = self.config
            rotation = Rotation(self.directory, self.resolver, config.server.data_dir, key_schedule(config))
            self.rotating = asyncio.get_running_loop().create_task(rotation.run())

    def expire(self) -> None:
        """Remove messages that have been in quarantine too long, from this process. One process is enough."""
        self.expiring = asyncio.get_running_loop().create_task(self.quarantine.run())

    async def close(self) -> None:
        for task in (self.rotating, self.expiring):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for one in self.account_syncs:
            await one.close()
        if self.live is not None:
            await self.live.close()
        await self.filler.close()
        if self.trainer is not None:
            await self.trainer.close()
        elif self.learned is not None:
            self.learned.close()
        if self.runner is not None:
            await self.runner.close()
        await self.reporting.close()
        await self.spool.close()
        await self.history.close()
        await self.store.close()
        self.hub.close()
        self.bell.close()
        if self.bans is not None:
            self.bans.close()
        if self.guesses is not None:
            self.guesses.close()
        if self.services is not None:
            self.services.close()
        if "resolver" in self.__dict__:  # nobody has asked anything otherwise
            self.resolver.close()
        self.verifier.close()
        self.binders.close()
        self.directory.close()

    def sessions(self) -> dict[str, Callable[[Connection], Session]]:
        """Return, for each protocol, the function that makes its sessions. Call it once."""
        moved = self.trainer.moved if self.trainer is not None else None
        parts = Parts(
            self.config,
            self.store,
            self.directory,
            self.deliverer,
            self.submission,
            self.verifier,
            self.resolver,
            self.filler,
            self.learned,
            self.quarantine,
            self.reporting.feedback(),
            moved,
        )
        self.services = Services(parts)
        return self.services.sessions()

    async def listen(
        self,
        sockets: list[tuple[str, socket.socket]],
        tls: ServerTls | None,
        registry: Registry,
        handover: Handover | None = None,
    ) -> list[Listener]:
        """Accept on bound sockets, pairs of (protocol, socket). ``handover``: of this worker, if workers help each
        other."""
        makers = self.sessions()
        balancers = [networks.parse(text) for text in self.config.listen.proxy_protocol]
        smtp_refusal = f"421 4.7.0 {self.config.server.hostname} too many connections, try again later\r\n".encode()
        smtp_banned = f"421 4.7.0 {self.config.server.hostname} not from your address for a while\r\n".encode()
        self.bans = Bans(self.config.server.data_dir, ban_rules(self.config))
        bounds = self.config.limits
        self.guesses = Guesses(self.config.server.data_dir, self.bans, bounds.slow_after, bounds.ban_window)
        self.verifier.guesses = self.guesses
        users = users_of(self.config.listen.unix_users)
        out = []

        def listener_for(protocol: str) -> Listener:
            refusal = REFUSALS.get(protocol.removesuffix("s"), smtp_refusal)
            implicit = protocol in ("submissions", "imaps", "pop3s")
            banned = BANNED.get(protocol.removesuffix("s"), smtp_banned)
            return Listener(
                registry,
                makers[protocol],
                limits(self.config),
                refusal,
                tls,
                implicit,
                balancers,
                self.bans,
                banned,
                alpn=protocol.removesuffix("s") if protocol.startswith(("imap", "pop3")) else "smtp",
                users=users,
                protocol=protocol,
                handover=handover if protocol in FEW else None,
            )

        for protocol, sock in sockets:
            out.append(listener_for(protocol))
            await out[-1].start(sock)
        if handover is not None:
            handover.serve(asyncio.get_running_loop(), {protocol: listener_for(protocol) for protocol in FEW})
        return out
