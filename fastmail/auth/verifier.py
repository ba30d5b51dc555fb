"""Checks logins: hashing on its own threads, a short memory of logins that were right, one answer for every failure.

Promise: the loop never hashes. An unknown user, a disabled account and a wrong password take the same work and get
the same answer. Work that waits is bounded: past QUEUE the answer is TemporaryError, at once. A password changed by
a command counts from the next login on, because what is remembered belongs to the stored hash it was checked with; a
login that began before ends like those that are over (directory.standing).
"""

import asyncio
import hashlib
import hmac
import math
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from fastmail.auth import sasl, schemes
from fastmail.auth.lastlogins import LastLogins
from fastmail.auth.mechanisms import TOKENS
from fastmail.auth.oauth import Tokens
from fastmail.auth.provider import Settings
from fastmail.directory import access, apps, standing
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.directory.ldap import BINDS
from fastmail.directory.origins import domain_of
from fastmail.model import hash_costs
from fastmail.model.address import comparable
from fastmail.model.errors import KeptOut, LoginRefused, MailError, TemporaryError
from fastmail.net.guesses import Guesses
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

# checks that wait for a thread
QUEUE = 256
WORK = 10.0  # s of work that waits for each thread, as the hashes say (model.hash_costs); one check may be more
PLAIN_CHECK = 0.02  # s of the check of a new hash, which is also what is done for a user that is not there
REMEMBER = 300.0  # s that a correct login is remembered, so that a program that reconnects costs no hashing
REMEMBER_BOUND = 60.0  # of a password that another directory checked: nobody tells us when it is changed there
UPGRADE_EVERY = 1.0  # s between two passwords that get a better form
MAX_REMEMBERED = 100_000
MAX_PASSWORD = 1024  # octets; longer ones are refused, so that no check costs more for its length
MASTER_PROTOCOLS = ("imap", "pop3")
LEAST_SALT = 12  # octets, without which, as without 4096 iterations, clients and our own SCRAM refuse the keys


# the account, the directory's revision before it was looked up, the digest of an app password, and when that expires
Checked = tuple[AccountRecord, int, bytes, int]


@dataclass(frozen=True, slots=True)
class Masters:
    """Accounts with a role may act for others. ``reserved``: for whom nobody may, in the form for comparing;
    ``separator``: stands between whom and who in a login, empty where only the authorization identity says whom."""

    reserved: frozenset[str] = frozenset()
    separator: str = ""


class Binder(Protocol):
    """Who checks passwords that another directory knows."""

    async def check(self, address: str, stored: str, password: str) -> bool:
        """Is it the password of the account with this address and row? TemporaryError where nobody says."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A login that was right: the account, and what its session asks ``Verifier.ended`` with."""

    record: AccountRecord
    login: standing.Standing


async def until_refusal(begun: float, delay: float) -> None:
    """Wait until a failed login that began then (time.monotonic) may be answered: ``delay`` seconds behind its
    beginning, whatever the check took: that says which hash the user has, and so whether there is such a user."""
    await asyncio.sleep(max(0.0, begun + delay - time.monotonic()))


class Verifier:
    """One in each worker. ``default_domain`` completes logins without an @; ``mechanisms``: of mechanisms.NAMES;
    ``salts``: what the salts of users that are not there are made from, the same in all workers and for ever, because
    those of other users stay the same, too."""

    def __init__(
        self,
        directory: Directory,
        threads: int = 2,
        default_domain: str = "",
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        tokens: Tokens | None = None,
        upgrade: bool = False,
        salts: bytes = b"",
        masters: Masters | None = None,
        binder: Binder | None = None,
    ) -> None:
        self._upgrade = upgrade
        self._upgraded = -UPGRADE_EVERY
        self._tokens = tokens or Tokens(Settings())
        self._mechanisms = mechanisms
        self._directory = directory
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="auth")
        self._used = LastLogins(directory, self._threads)
        schemes.dummy()  # now, so that the first login that needs it takes no longer than others
        self._count = threads
        self._waiting, self._work = 0, 0.0
        self._key = os.urandom(32)  # for what is remembered here
        self._salts = salts or os.urandom(32)
        self._remembered: OrderedDict[tuple[str, bytes], tuple[str, float]] = OrderedDict()
        self._default_domain = default_domain
        self._masters = masters
        self._binder = binder  # who checks passwords that another directory knows
        self._expiring: set[int] = set()  # when logins that were let in end by themselves: s since 1970
        self._next_expiry = math.inf  # the first of them
        self.guesses: Guesses | None = None  # who may try a login now

    def close(self) -> None:
        self._used.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._tokens.close()

    def mechanisms(self, channel: sasl.Channel) -> list[str]:
        """What a session may use."""
        return [name for name in self._mechanisms if self._usable(name, channel)]

    def _usable(self, name: str, channel: sasl.Channel) -> bool:
        if name in TOKENS:
            return self._tokens.offered
        if name == "EXTERNAL":
            return bool(channel.certified)
        return bool(channel.end_point) or not name.endswith("-PLUS")

    def begin(self, name: str, channel: sasl.Channel, host: str = "") -> sasl.Mechanism | None:
        """A SASL exchange, with somebody at ``host`` where that is not the channel's; None for a mechanism that is not
        offered."""
        if name not in self.mechanisms(channel):
            return None
        if name in TOKENS:
            return sasl.Bearer(name, self._tokens.refusal(name))
        if name == "EXTERNAL":
            return sasl.External(channel.certified)
        if name in sasl.PASSWORDS:
            return sasl.PASSWORDS[name]()
        base = name.removesuffix("-PLUS")
        plus = any(one.endswith("-PLUS") for one in self.mechanisms(channel))
        return sasl.Scram(
            name,
            lambda login: self._scram_keys(login, base),
            channel.end_point,
            plus,
            self._directory.revision,
            lambda login: self._may_try(login, host or channel.host),
        )

    def _may_try(self, login: str, host: str) -> bool:
        """May somebody at this address show now that he knows the password of that login? The proof of SCRAM is right
        or wrong at once, so it does not wait for a turn."""
        if self.guesses is not None:
            try:
                self.guesses.admit(host)
                self.guesses.take_turn(self.address(login), host)
            except (KeptOut, TemporaryError):
                return False
        return True

    def lets_act(self, protocol: str) -> bool:
        """Are there master users, who act for others, in this protocol? Nobody sends in another one's name by that."""
        return self._masters is not None and protocol in MASTER_PROTOCOLS

    def named(self, claim: sasl.Credentials, protocol: str) -> sasl.Credentials:
        """The claim with whom its login acts for, where that is in the login (``user*master``) and may be."""
        separator = self._masters.separator if self._masters is not None else ""
        if not separator or claim.acting or not self.lets_act(protocol):
            return claim
        whom, found, master = claim.login.partition(separator)
        if not (whom and found and master):
            return claim
        own = self.address(whom) == self.address(master)
        return sasl.Credentials(master, claim.password, "" if own else whom)

    def address(self, login: str) -> str:
        """Whose login it is: completed with the default domain, where there is one."""
        if "@" not in login and self._default_domain:
            login = f"{login}@{self._default_domain}"
        return comparable(login)

    def _scram_keys(self, login: str, name: str) -> sasl.Keys:
        address = self.address(login)
        record = self._directory.account(address)
        found = None
        if record is not None and record.enabled:
            found = schemes.scram_keys(record.scram or record.password, name)
        if found is not None and len(found[0]) >= LEAST_SALT and found[3] >= schemes.ITERATIONS:
            return found
        # a user that is not there looks like one whose password is wrong, and always has the same salt
        text = f"{name} {address}".encode("utf-8", "surrogatepass")  # users have a salt for each mechanism
        salt = hashlib.blake2b(text, key=self._salts, digest_size=schemes.SALT).digest()
        size = hashlib.new(schemes.SCRAM[name]).digest_size
        return salt, os.urandom(size), os.urandom(size), schemes.ITERATIONS

    async def admit(self, claim: sasl.Claim, host: str = "", protocol: str = "") -> Entry | None:
        """The account that a finished exchange leads to, for somebody at the address ``host`` who speaks ``protocol``
        (imap, pop3, smtp). None when the claim is
        wrong, or made where the account may not log in from; LoginRefused when it may not log in at all; KeptOut, and
        TemporaryError without a look at the claim, while others guess (see net.guesses). Each finished exchange is
        counted once. Who waits before the session begins asks ``ended`` again then."""
        if isinstance(claim, sasl.Spent):
            return None
        guesses = self.guesses
        if guesses is not None:
            guesses.admit(host)
            if isinstance(claim, sasl.Credentials) and claim.password:
                await guesses.wait(self.address(claim.login), host)
        found = await self._admit(claim, host, protocol)
        if found is None:
            count("auth.failed")
            if guesses is not None and not isinstance(claim, sasl.Token):
                guesses.failed(self.address(claim.login))
            return None
        record, revision, app, expires = found
        if not access.allows(record.nets, host):
            count("auth.failed")
            log.event("login.elsewhere", "warning", account=record.address, peer=host, allowed=record.nets)
            return None
        domain = self._directory.domain(record.address.rpartition("@")[2])
        why = access.refusal(record, domain)
        if not why and not app and _showed_password(claim) and domain is not None and domain.app_passwords_only:
            why = access.APP_NEEDED if protocol in access.MAIL else ""
        if not why and not app and record.role and _showed_password(claim) and protocol in access.MAIL:
            # programs cannot ask for a second factor, so what it protects would be open to the password alone
            why = access.APP_NEEDED if self._directory.has_second_factor(record.id) else ""
        if why:
            count("auth.failed")
            log.event(
                "login.refused", "warning", account=record.address, peer=host, why=why, suspended=record.suspended
            )
            raise LoginRefused(why)
        login = standing.Standing(record.id, record.address, host, revision, app, expires, protocol=protocol)
        if self.ended(login):  # while it was checked
            count("auth.failed")
            return None
        acting = self.address(claim.acting) if isinstance(claim, sasl.Credentials) and claim.acting else ""
        if acting and acting != comparable(record.address):
            record, login = await self._act(record, login, acting, protocol)
        count("auth.ok")
        if guesses is not None:
            guesses.succeeded(comparable(login.address), host)
        self._used.note(login.number, app, protocol)
        if expires:
            self._expiring.add(expires)
            self._next_expiry = min(self._next_expiry, expires)
        return Entry(record, login)

    async def _act(
        self, master: AccountRecord, login: standing.Standing, acting: str, protocol: str
    ) -> tuple[AccountRecord, standing.Standing]:
        """The account that a master user acts for, and the login of its session. That it was there is in the audit log,
        on the disk, before anything is opened. LoginRefused, in the same words whether there is such an account or
        not."""
        record = self._directory.account(await self._directory.freshen(acting))
        reserved = self._masters.reserved if self._masters is not None else ()
        allowed = record is not None and record.enabled and access.may_act_for(master, record, reserved)
        if record is None or not allowed or not self.lets_act(protocol):
            count("auth.failed")
            log.event("login.acting", "warning", master=master.address, account=acting, peer=login.host, allowed=False)
            raise LoginRefused(access.NOT_FOR_THAT)
        try:
            loop = asyncio.get_running_loop()
            note = (master.address, record.address, protocol, login.host)
            await loop.run_in_executor(self._threads, self._directory.note_acting, *note)
        except (MailError, OSError) as error:
            log.event("login.acting", "error", master=master.address, account=record.address, error=repr(error))
            raise TemporaryError("this login cannot be written down now") from None
        return record, replace(login, acting=record.id, whom=record.address)

    def has_expired(self) -> bool:
        """Did a login that was let in here end by itself since this was asked last?"""
        now = time.time()
        if self._next_expiry > now:
            return False
        self._expiring = {one for one in self._expiring if one > now}
        self._next_expiry = min(self._expiring, default=math.inf)
        return True

    def ended(self, login: standing.Standing | None) -> str:
        """Why the login of a session has ended, for its user; empty while it counts, or where there is none."""
        return standing.ended(self._directory, login) if login is not None else ""

    def owner_ended(self, number: int, address: str) -> str:
        """The same for the account of a mailbox that a session looks at."""
        return standing.OWNER if standing.is_off(self._directory, number, address) else ""

    async def _admit(
        self, claim: sasl.Credentials | sasl.Verified | sasl.Token, host: str, protocol: str
    ) -> Checked | None:
        if isinstance(claim, sasl.Credentials):
            return await self._check(claim.login, claim.password, host, protocol)
        if isinstance(claim, sasl.Token):
            login = await self._tokens.login(claim.token)
            if login is None or (claim.login and self.address(claim.login) != self.address(login)):
                return None
            claim = sasl.Verified(login)
        address = await self._directory.freshen(self.address(claim.login))
        revision = self._directory.revision
        record = self._directory.account(address)
        if record is None and self._directory.is_uncertain(domain_of(address)):
            raise TemporaryError("accounts cannot be looked up now")
        if record is None or not record.enabled:
            return None
        if 0 <= claim.revision < self._directory.revoked(record.id):
            return None  # the password was changed since the exchange began
        return record, revision, b"", 0

    async def check(self, login: str, password: bytes) -> AccountRecord | None:
        """The account, or None; TemporaryError when too many logins wait."""
        found = await self._check(login, password)
        return found[0] if found is not None else None

    async def _check(self, login: str, password: bytes, host: str = "", protocol: str = "") -> Checked | None:
        address = await self._directory.freshen(self.address(login))
        revision = self._directory.revision
        record = self._directory.account(address)
        if record is not None and not record.enabled:
            record = None
        if record is None and self._directory.is_uncertain(domain_of(address)):
            raise TemporaryError("accounts cannot be looked up now")
        if not password or len(password) > MAX_PASSWORD:
            record = None
        shown = apps.digest(password)
        if record is not None and shown:
            app = self._directory.app_password(record.id, shown)
            if app is not None and apps.counts(app, protocol, host):
                return record, revision, shown, app.expires
        digest = hashlib.blake2b(password[:MAX_PASSWORD], key=self._key, digest_size=32).digest()
        if record is not None:
            known = self._remembered.get((address, digest))
            if known is not None and known[1] > time.monotonic() and _same(known[0], record.password):
                count("auth.remembered")
                return record, revision, b"", 0
        if record is not None and self._binder is not None and record.password.startswith(BINDS):
            if not await self._bind(self._binder, record, password):
                return None
            self._remember((address, digest), record.password)
            return record, revision, b"", 0
        stored = record.password if record is not None else ""
        work = _seconds(stored, password)
        if self._waiting >= QUEUE or (self._waiting and self._work + work > WORK * self._count):
            count("auth.shed")
            raise TemporaryError("too many logins wait")
        self._waiting += 1
        self._work += work
        try:
            good = await asyncio.get_running_loop().run_in_executor(
                self._threads, _work, stored, password[:MAX_PASSWORD], address
            )
        finally:
            self._waiting -= 1
            self._work -= work
        if record is None or not good:
            return None
        self._remember((address, digest), record.password)
        weak = not (schemes.is_strong(record.password) and record.scram)
        if self._upgrade and weak and not self._directory.is_followed(domain_of(record.address)):
            self._improve(record, password, (address, digest))
        return record, revision, b"", 0

    @staticmethod
    async def _bind(binder: Binder, record: AccountRecord, password: bytes) -> bool:
        """It waits for somebody else, on threads of his: those that hash are for the accounts that are kept here."""
        try:
            return await binder.check(record.address, record.password, password.decode("utf-8"))
        except UnicodeDecodeError:
            return False

    def _remember(self, entry: tuple[str, bytes], stored: str) -> None:
        """This password was found to be the one of what is stored for the account."""
        how_long = REMEMBER_BOUND if stored.startswith(BINDS) else REMEMBER
        self._remembered[entry] = (stored, time.monotonic() + how_long)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _improve(self, record: AccountRecord, password: bytes, entry: tuple[str, bytes]) -> None:
        """Keep the password as a new one is kept: argon2id, with keys for SCRAM. At leisure, one now and then, so that
        the logins of many imported accounts cost what they cost."""
        now = time.monotonic()
        if now - self._upgraded < UPGRADE_EVERY or self._waiting:
            return
        self._upgraded = now

        def kept(work: "asyncio.Future[str]") -> None:
            if not work.cancelled() and work.exception() is None and work.result():
                self._remember(entry, work.result())

        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._threads, self._rehash, record, password).add_done_callback(kept)

    def _rehash(self, record: AccountRecord, password: bytes) -> str:
        """What is stored now; empty when nothing changed."""
        try:
            text = password.decode("utf-8")
            strong = schemes.is_strong(record.password)
            kept = record.password if strong else schemes.hash_password(text)
            if self._directory.upgrade_password(record, kept, schemes.scram(text)):
                count("auth.upgraded")
                log.event("password.upgraded", account=record.address)
                return kept
        except (UnicodeDecodeError, MailError) as error:
            log.event("password.upgrade", "warning", account=record.address, error=repr(error))
        return ""


def _showed_password(claim: sasl.Claim) -> bool:
    """Did the client show that it knows the account's main password, and not a token or a certificate?"""
    return isinstance(claim, sasl.Credentials) or (isinstance(claim, sasl.Verified) and claim.revision >= 0)


def _seconds(stored: str, password: bytes) -> float:
    """How long a check takes, as far as the hash says; one that costs too much is not checked."""
    cost = 0.0 if hash_costs.refusal(stored) else hash_costs.of(stored).seconds
    return max(cost, PLAIN_CHECK) * (1 if password.isascii() else len(schemes.forms(password[:MAX_PASSWORD])))


def _work(stored: str, password: bytes, address: str) -> bool:
    """Is it right in one of its forms? ASCII has one."""
    user = (address,) if schemes.wants_user(stored) else ()
    for form in schemes.forms(password):
        if stored and schemes.verify(stored, form, *user):
            return True
        if not schemes.is_strong(stored):
            schemes.verify(schemes.dummy(), form)  # the same work for a user that is not there
    return False


def _same(known: str, stored: str) -> bool:
    """Are two stored texts, which may be passwords in the clear, the same?"""
    return hmac.compare_digest(known.encode("utf-8", "surrogatepass"), stored.encode("utf-8", "surrogatepass"))
