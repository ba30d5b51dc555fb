"""Finds logins and networks that send as stolen logins do, and stops what they send: the harm of a stolen password is
what it sends until somebody notices, and other hosts refuse mail of this server for days afterwards.

Lists of addresses that are sold have many that are nobody's. So what counts is how many different recipients other
hosts refused as unknown within an hour; and, where a setting says so, how many recipients there were at all. Then, in
this order: the account's ``sends`` is switched off with the reason in ``stopped``, and an audit row says that it was
automatic; the log has an event at level error; all its mail in the queue is held; the postmaster of its domain gets a
message with what to do. ``fastmail account set ADDRESS sends=yes`` ends it; what is held then waits for its release.

What comes without a login from ``[relay] networks`` is counted for the entry that the client is in, and the same
happens to that: queue.stopped says that it sends nothing, the postmaster of this server is told, and ``fastmail queue
networks --resume`` ends it.

Promise: an outcome costs a few steps in memory, after its commit, and waits for nothing. Counts are of the LOGINS that
sent last, in parts of ten minutes, and of ``Rules.refusals`` addresses each; a restart forgets them. A login is stopped
once however many of its recipients are refused at the same time; if the disk fails, the next refusal tries again.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Protocol

from fastmail.directory.records import Account
from fastmail.message import trace
from fastmail.model.address import comparable
from fastmail.model.errors import MailError
from fastmail.net import networks
from fastmail.net.networks import Network, narrowest
from fastmail.queue import stopped
from fastmail.queue.model import LOCAL, Item, Job
from fastmail.queue.spool import Spool
from fastmail.smtp.client import Reply
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PART, PARTS = 600.0, 6  # s of a part of the hour, and how many are counted
LOGINS = 5000  # whose counts are kept; the one that has not sent for longest goes first
SHARE = 10  # refusals count where they are at least one of so many recipients: newsletters have some dead addresses
HOLD = 500  # jobs that are held in one commit
# Status codes that say that there is no such recipient (RFC 7505 4.2 has the last one); X.0.0 where a host gave none.
UNKNOWN = frozenset(["5.1.0", "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"])
WITHOUT_STATUS, UNSAID = frozenset([550, 551, 553]), "5.0.0"


@dataclass(frozen=True, slots=True)
class Rules:
    """``refusals``: unknown recipients in an hour; ``recipients``: of any kind; 0 is never. ``exempt``: logins that are
    never stopped, in the form for comparing; ``exempt_networks``: entries of ``[relay] networks`` that are not."""

    refusals: int = 0
    recipients: int = 0
    exempt: frozenset[str] = frozenset()
    exempt_networks: frozenset[Network] = frozenset()


def parse_exempt(entries: Iterable[str]) -> tuple[frozenset[str], frozenset[Network]]:
    """(logins, networks) of ``never_suspend``; ValueError for what is neither."""
    logins, found = set(), set()
    for one in entries:
        if "@" in one:
            logins.add(comparable(one))
        else:
            found.add(networks.parse(one))
    return frozenset(logins), frozenset(found)


@dataclass(slots=True)
class _Hour:
    """What a login sent in each part of the last hour, the latest last: recipients, those that were refused, and hashes
    of refused addresses, of which no more are kept than are asked about."""

    part: int
    sent: list[int] = field(default_factory=lambda: [0] * PARTS)
    bad: list[int] = field(default_factory=lambda: [0] * PARTS)
    refused: list[set[int]] = field(default_factory=lambda: [set() for _ in range(PARTS)])

    def move(self, part: int) -> None:
        """Drop what is older than an hour. If the clock was set back, start again."""
        ago = part - self.part
        if not ago:
            return
        gone = PARTS if ago < 0 else min(ago, PARTS)
        self.sent = self.sent[gone:] + [0] * gone
        self.bad = self.bad[gone:] + [0] * gone
        self.refused = self.refused[gone:] + [set() for _ in range(gone)]
        self.part = part


class Counts:
    """Counts recipients of logins and networks; in memory. A network is called by its text, which no login is."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._hours: OrderedDict[str, _Hour] = OrderedDict()

    def note(self, login: str, recipient: str, first: bool, refused: bool, now: float) -> str:
        """Count one outcome; returns why the login is to be stopped, empty where it is not.

        ``first``: it was the first attempt for this recipient; ``refused``: it is unknown to its host."""
        hour = self._hours.get(login)
        if hour is None:
            hour = self._hours[login] = _Hour(int(now / PART))
            if len(self._hours) > LOGINS:
                self._hours.popitem(last=False)
        else:
            self._hours.move_to_end(login)
            hour.move(int(now / PART))
        hour.sent[-1] += first
        hour.bad[-1] += refused
        if refused and len(hour.refused[-1]) < self._rules.refusals:
            hour.refused[-1].add(hash(comparable(recipient)))
        return self._why(hour) if refused or self._rules.recipients else ""

    def _why(self, hour: _Hour) -> str:
        rules, sent, bad = self._rules, sum(hour.sent), sum(hour.bad)
        many = rules.refusals and bad >= rules.refusals and bad * SHARE >= sent
        if many and len(set().union(*hour.refused)) >= rules.refusals:
            return f"{bad} of {max(sent, bad)} recipients within an hour are unknown to their hosts"
        if rules.recipients and sent >= rules.recipients:
            return f"{sent} recipients within an hour"
        return ""

    def forget(self, login: str) -> None:
        self._hours.pop(login, None)


class Stopper(Protocol):
    """What is asked of the directory."""

    def account(self, address: str) -> Account | None: ...
    def stop_sending(self, address: str, why: str) -> Account | None: ...


Tell = Callable[[str, bytes], Awaitable[None]]


class Watch:
    """One in the process that runs the relay. ``tell``: queues a message (LF) of this server to an address here;
    ``networks``: from which mail comes without a login; ``home``: the domain whose postmaster hears of these."""

    def __init__(
        self,
        rules: Rules,
        spool: Spool,
        directory: Stopper,
        tell: Tell,
        hostname: str,
        networks: Sequence[Network] = (),
        home: str = "",
    ) -> None:
        self._rules = rules
        self._spool = spool
        self._directory = directory
        self._tell = tell
        self._hostname = hostname
        self._networks = networks
        self._home = home or hostname
        self._counts = Counts(rules)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Wait for what is being stopped."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def note(self, job: Job, item: Item, recipient: str, reply: Reply) -> None:
        """Count the outcome for a recipient, after its commit; stops its login or network where that is due."""
        if not item.sender or job.destination == LOCAL:
            return
        network = self._network(item) if not item.login else None
        who = str(network) if network is not None else comparable(item.login) if item.login else ""
        if not who or who in self._tasks or who in self._rules.exempt or network in self._rules.exempt_networks:
            return
        why = self._counts.note(who, recipient, not job.attempts, is_unknown(reply), time.time())
        if why:
            stopping = self._stop(item.login, why) if network is None else self._stop_network(network, why)
            task = self._tasks[who] = asyncio.get_running_loop().create_task(stopping)
            task.add_done_callback(lambda _: self._tasks.pop(who, None))

    def _network(self, item: Item) -> Network | None:
        """The network that a message without a login was taken from; None for mail of others and of our own."""
        if item.owner or item.mailing_list or item.verp or not self._networks:
            return None
        return narrowest(item.peer, self._networks)

    def stops(self, item: Item) -> bool:
        """Return True if an attempt may not be made, because the login or network of the message is stopped. This
        pauses also mail that a stream had begun with, that came in meanwhile, or that a crash left behind.
        DamagedAccount where it cannot be known: then it is to be tried later."""
        if not item.sender:
            return False
        if not item.login:
            network = self._network(item)
            return network is not None and stopped.find(self._spool, network) is not None
        account = self._directory.account(item.login)
        return account is not None and bool(account.stopped) and not account.sends

    async def hold(self, job: Job, item: Item) -> None:
        """Keep such a job until an administrator releases it."""
        await self._spool.change(job.key, _held)
        log.event("relay.held", "warning", id=item.number, login=item.login, peer=item.peer)

    async def _stop(self, login: str, why: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            account = await loop.run_in_executor(None, self._directory.stop_sending, login, why)
        except (MailError, OSError) as error:
            log.event("relay.stop", "error", login=login, why=why, error=repr(error), then="it goes on sending")
            return
        self._counts.forget(comparable(login))
        if account is None:  # it is gone, or somebody was faster
            return
        count("relay.stopped")
        log.event("relay.stopped", "error", login=login, why=why, then="it sends nothing, and its mail is held")
        try:
            held = await self._hold(lambda item: item.login == login)
            await self._tell(_postmaster(login), letter(login, why, held, self._hostname, time.time()))
        except (MailError, OSError) as error:
            log.event("relay.stop", "error", login=login, error=repr(error), then="see `fastmail queue list`")

    async def _stop_network(self, network: Network, why: str) -> None:
        try:
            fresh = await stopped.stop(self._spool, network, why, time.time())
        except (MailError, OSError) as error:
            log.event("relay.stop", "error", network=network, why=why, error=repr(error), then="it goes on sending")
            return
        self._counts.forget(str(network))
        if not fresh:
            return
        count("relay.stopped")
        log.event("relay.stopped", "error", network=network, why=why, then="it sends nothing, and its mail is held")
        try:
            held = await self._hold(lambda item: not item.login and self._network(item) == network)
            to = f"postmaster@{self._home}"
            await self._tell(to, network_letter(to, network, why, held, self._hostname, time.time()))
        except (MailError, OSError) as error:
            log.event("relay.stop", "error", network=network, error=repr(error), then="see `fastmail queue list`")

    async def _hold(self, belongs: Callable[[Item], bool]) -> int:
        """Hold all jobs of messages that belong to whoever is stopped; returns how many. Looking for them goes over the
        whole queue, on a helper thread."""

        def find() -> list[bytes]:
            return [job.key for item, job in self._spool.jobs() if belongs(item) and item.sender and not job.paused]

        keys = await asyncio.get_running_loop().run_in_executor(None, find)
        for start in range(0, len(keys), HOLD):
            await asyncio.gather(*(self._spool.change(key, _held) for key in keys[start : start + HOLD]))
        return len(keys)


def is_unknown(reply: Reply) -> bool:
    """Return True for a reply that says for good that there is no such recipient."""
    if reply.ok or reply.temporary:
        return False
    return reply.enhanced in UNKNOWN or (reply.enhanced == UNSAID and reply.code in WITHOUT_STATUS)


def _held(job: Job) -> Job:
    job.paused = True
    return job


def _postmaster(login: str) -> str:
    return f"postmaster@{login.rpartition('@')[2]}"


def letter(login: str, why: str, held: int, hostname: str, now: float) -> bytes:
    """The message (LF) to the postmaster: what happened, and what to do."""
    name = trace.mailbox(login)
    subject = f"Sending was stopped for {name if name.isascii() else 'an account'}"
    lines = [
        f"{name} sends nothing any more, because its mail looks as if its",
        "password was stolen:",
        "",
        f"    {why}",
        "",
        f"{held} of its deliveries were waiting. They are held until you decide.",
        "It still gets mail, and can be logged in to.",
        "",
        "Look at what it sent, and change the password:",
        f"    fastmail trace {name}",
        f"    fastmail queue list --login {name}",
        f"    fastmail account passwd {name}",
        f"    fastmail app-password list {name}",
        "",
        "Throw away what is held, and let the account send again; what is released",
        "before that is held again:",
        f"    fastmail queue drop --login {name}",
        f"    fastmail account set {name} sends=yes",
        f"    fastmail queue release --login {name}",
        "",
        "If it sends so on purpose, name it in never_suspend of [relay].",
        "",
    ]
    return _letter(_postmaster(login), subject, lines, hostname, now)


def network_letter(to: str, network: Network, why: str, held: int, hostname: str, now: float) -> bytes:
    """The same about a network."""
    lines = [
        f"Hosts of {network}, which is in [relay] networks, send nothing any more,",
        "because their mail looks as if one of them was broken into:",
        "",
        f"    {why}",
        "",
        f"{held} of its deliveries were waiting. They are held until you decide.",
        "Its hosts get the reply 450 for what they try to send.",
        "",
        "Look at what it sent, and find the host:",
        f"    fastmail queue list --peer {network}",
        "",
        "Throw away what that host sent. This includes mail of users who were logged in",
        "there, and copies that lists and forwards made of it:",
        "    fastmail queue drop --peer HOST",
        "",
        "Let the network send again, and release the rest; what is released before",
        "that is held again:",
        f"    fastmail queue networks --resume {network}",
        f"    fastmail queue release --peer {network}",
        "",
        "If it sends so on purpose, name it in never_suspend of [relay].",
        "",
    ]
    return _letter(to, f"Sending was stopped for the network {network}", lines, hostname, now)


def _letter(to: str, subject: str, lines: Sequence[str], hostname: str, now: float) -> bytes:
    fields = [
        f"From: <{trace.mailbox(f'postmaster@{hostname}')}>",
        f"To: <{trace.mailbox(to)}>",
        f"Subject: {subject}",
        f"Date: {formatdate(now).replace('-0000', '+0000')}",
        f"Message-ID: <{random.getrandbits(96):024x}@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
    ]
    return "\n".join([*fields, *lines]).encode("utf-8", "replace")
