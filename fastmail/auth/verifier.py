"""Checks logins: hashing on its own threads, a short memory of logins that were right, one answer for every failure.

Promise: the loop never hashes. An unknown user, a disabled account and a wrong password take the same work and get
the same answer. Work that waits is bounded: past QUEUE the answer is TemporaryError, at once. A password changed by
a command counts from the next login on, because what is remembered belongs to the stored hash it was checked with.
"""

import asyncio
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastmail.auth import sasl, schemes
from fastmail.auth.oauth import Settings, Tokens
from fastmail.directory import access
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.model.address import comparable
from fastmail.model.errors import KeptOut, LoginRefused, MailError, TemporaryError
from fastmail.net.guesses import Guesses
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

QUEUE = 256
REMEMBER = 300.0
UPGRADE_EVERY = 1.0  # s between two passwords that get a better form
MAX_REMEMBERED = 100_000
MAX_PASSWORD = 1024


async def until_refusal(begun: float, delay: float) -> None:
    """Wait until a failed login that began then (time.monotonic) may be answered: ``delay`` seconds behind its
    beginning, whatever the check took: that says which hash the user has, and so whether there is such a user."""
    await asyncio.sleep(max(0.0, begun + delay - time.monotonic()))


class Verifier:
    """One in each worker. ``default_domain`` completes logins without an @; ``mechanisms``: names of sasl.NAMES."""

    def __init__(
        self,
        directory: Directory,
        threads: int = 2,
        default_domain: str = "",
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        tokens: Tokens | None = None,
        upgrade: bool = False,
    ) -> None:
        self._upgrade = upgrade
        self._upgraded = -UPGRADE_EVERY
        self._tokens = tokens or Tokens(Settings())
        self._mechanisms = mechanisms
        self._directory = directory
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="auth")
        self._waiting = 0
        self._key = os.urandom(32)
        self._remembered: OrderedDict[tuple[str, bytes], tuple[str, float]] = OrderedDict()
        self._default_domain = default_domain
        self.guesses: Guesses | None = None  # who may try a login now

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def mechanisms(self, channel: sasl.Channel) -> list[str]:
        """What a session may use."""
        return [name for name in self._mechanisms if self._usable(name, channel)]

    def _usable(self, name: str, channel: sasl.Channel) -> bool:
        if name in sasl.TOKENS:
            return self._tokens.offered
        if name == "EXTERNAL":
            return bool(channel.certified)
        return bool(channel.end_point) or not name.endswith("-PLUS")

    def begin(self, name: str, channel: sasl.Channel, host: str = "") -> sasl.Mechanism | None:
        """A SASL exchange, with somebody at ``host`` where that is not the channel's; None for a mechanism that is not
        offered."""
        if name not in self.mechanisms(channel):
            return None
        if name in sasl.TOKENS:
            return sasl.Bearer(name, self._tokens.refusal(name))
        if name == "EXTERNAL":
            return sasl.External(channel.certified)
        if name in sasl.PASSWORDS:
            return sasl.PASSWORDS[name]()
        base = name.removesuffix("-PLUS")
        return sasl.Scram(
            name,
            lambda login: self._scram_keys(login, base),
            channel.end_point,
            lambda login: self._may_try(login, host or channel.host),
        )

    def _may_try(self, login: str, host: str) -> bool:
        """May somebody at this address show now that he knows the password of that login? The proof of SCRAM is right
        or wrong at once, so it does not wait for a turn."""
        if self.guesses is not None:
            try:
                self.guesses.admit(host)
                self.guesses.take_turn(self._name(login), host)
            except (KeptOut, TemporaryError):
                return False
        return True

    def _name(self, login: str) -> str:
        """What failures of a login are counted under: the account's address, where there is one."""
        address = self._address(login)
        record = self._directory.account(address)
        return record.address if record is not None else address

    def _address(self, login: str) -> str:
        if "@" not in login and self._default_domain:
            login = f"{login}@{self._default_domain}"
        return comparable(login)

    def _scram_keys(self, login: str, name: str) -> sasl.Keys:
        address = self._address(login)
        record = self._directory.account(address)
        found = None
        if record is not None and record.enabled:
            found = schemes.scram_keys(record.scram or record.password, name)
        if found is not None:
            return found
        # a user that is not there looks like one whose password is wrong, and always has the same salt
        salt = hashlib.blake2b(address.encode(), key=self._key, digest_size=16).digest()
        size = hashlib.new(schemes.SCRAM[name]).digest_size
        return salt, os.urandom(size), os.urandom(size), schemes.ITERATIONS

    async def admit(self, claim: sasl.Claim, host: str = "") -> AccountRecord | None:
        """The account that a finished exchange leads to, for somebody at the address ``host``. None when the claim is
        wrong, or made where the account may not log in from; LoginRefused when it may not log in at all; KeptOut, and
        TemporaryError without a look at the claim, while others guess (see net.guesses)."""
        guesses = self.guesses
        if guesses is not None:
            guesses.admit(host)
            if isinstance(claim, sasl.Credentials) and claim.password:
                await guesses.wait(self._name(claim.login), host)
        record = await self._admit(claim)
        if record is None:
            if guesses is not None and not isinstance(claim, sasl.Token):
                guesses.failed(self._name(claim.login))
            return None
        if not access.allows(record.nets, host):
            count("auth.failed")
            log.event("login.elsewhere", "warning", account=record.address, peer=host, allowed=record.nets)
            return None
        if record.nologin:
            count("auth.failed")
            log.event("login.refused", "warning", account=record.address, peer=host, why=record.nologin)
            raise LoginRefused(record.nologin)
        if guesses is not None:
            guesses.succeeded(record.address, host)
        return record

    async def _admit(self, claim: sasl.Claim) -> AccountRecord | None:
        if isinstance(claim, sasl.Credentials):
            return await self.check(claim.login, claim.password)
        if isinstance(claim, sasl.Token):
            if self._waiting >= QUEUE:
                count("auth.shed")
                raise TemporaryError("too many logins wait")
            self._waiting += 1
            try:
                login = await self._tokens.login(claim.token)
            finally:
                self._waiting -= 1
            if login is None or (claim.login and self._address(claim.login) != self._address(login)):
                count("auth.failed")
                return None
            claim = sasl.Verified(login)
        record = self._directory.account(await self._directory.freshen(self._address(claim.login)))
        return record if record is not None and record.enabled else None

    async def check(self, login: str, password: bytes) -> AccountRecord | None:
        """The account, or None; TemporaryError when too many logins wait."""
        address = await self._directory.freshen(self._address(login))
        record = self._directory.account(address)
        if record is not None and not record.enabled:
            record = None
        if record is None and self._directory.uncertain:
            raise TemporaryError("accounts cannot be looked up now")
        if not password or len(password) > MAX_PASSWORD:
            record = None
        digest = hashlib.blake2b(password[:MAX_PASSWORD], key=self._key, digest_size=32).digest()
        if record is not None:
            known = self._remembered.get((address, digest))
            if known is not None and known[1] > time.monotonic() and hmac.compare_digest(known[0], record.password):
                count("auth.remembered")
                return record
        if self._waiting >= QUEUE:
            count("auth.shed")
            raise TemporaryError("too many logins wait")
        self._waiting += 1
        try:
            stored = record.password if record is not None else ""
            good = await asyncio.get_running_loop().run_in_executor(
                self._threads, _work, stored, password[:MAX_PASSWORD], address
            )
        finally:
            self._waiting -= 1
        if record is None or not good:
            count("auth.failed")
            return None
        count("auth.ok")
        self._remember((address, digest), record.password)
        if self._upgrade and not (schemes.is_strong(record.password) and record.scram):
            self._improve(record, password, (address, digest))
        return record

    def _remember(self, entry: tuple[str, bytes], stored: str) -> None:
        """This password was found to be the one of what is stored for the account."""
        self._remembered[entry] = (stored, time.monotonic() + REMEMBER)
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


def _work(stored: str, password: bytes, address: str) -> bool:
    user = (address,) if schemes.wants_user(stored) else ()
    if stored and schemes.verify(stored, password, *user):
        return True
    if not schemes.is_strong(stored):
        schemes.verify("{ARGON2ID}" + schemes.DUMMY, password)  # the same work for a user that is not there
    return False
