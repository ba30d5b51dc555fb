"""Bans networks that guess passwords or send nonsense, for a while.

Failures of a network (an IPv4 address, an IPv6 /64) add up to a score that fades over the window. At the limit the
network is banned, for twice as long each time it happens again within a day. Bans are stored in an environment of their
own that every worker and the commands share, so a ban holds in all workers at once and after a restart. Scores are
shared too (scores.py). Nobody is banned from an exempt network, nor through a Unix socket.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fastmail.durable.env import Environment
from fastmail.model.errors import CannotDo, MailError
from fastmail.net import networks
from fastmail.net.networks import Network, address_in, network_of
from fastmail.net.scores import Scores
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LAYOUT = 1
TABLES = ["ban"]
MAP = 1 << 28
LONGEST = 86400.0  # s; no ban that the rules make is longer
REMEMBER = 86400.0  # s after its end for which a ban makes the next one longer


class BanRow(msgspec.Struct, array_like=True):
    """Version 1: when the ban ends and when it began (s since 1970), how many there were lately, and why."""

    version: int
    until: float
    since: float
    times: int
    why: str


NO_BAN = BanRow(1, 0.0, 0.0, 0, "")


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban, as commands list it."""

    network: str
    until: float
    since: float
    times: int
    why: str


@dataclass(frozen=True, slots=True)
class Rules:
    """``after``: points within ``window`` seconds that bring a ban of ``seconds``; 0 for no bans."""

    after: int = 10
    window: float = 600.0
    seconds: float = 600.0
    exempt: Sequence[Network] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BanRow).decode


def _row(raw: bytes) -> BanRow:
    """Return a stored ban. One that cannot be read counts as ended."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_BAN


def _name(network: Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


class Bans:
    """The bans of one data directory; one object in each worker, and one in a command."""

    def __init__(self, data_dir: str, rules: Rules) -> None:
        self.rules = rules
        self._env = Environment(os.path.join(data_dir, "bans"), TABLES, LAYOUT, MAP)
        self._seen = -1
        self._banned: dict[str, float] = {}
        self._wide: list[tuple[Network, float]] = []  # networks that a command banned
        self._path = os.path.join(data_dir, "bans", "scores")
        self._scores: Scores | None = None

    @property
    def env(self) -> Environment:
        """For backups."""
        return self._env

    def close(self) -> None:
        self._env.close()
        if self._scores is not None:
            self._scores.close()

    # ---------------------------------------------------------------- asked for each connection

    def refuses(self, host: str) -> bool:
        """Return True if the peer's network is banned now."""
        commit = self._env.last_commit()
        if commit != self._seen:
            self._load(commit)
        if not self._banned and not self._wide:
            return False
        now = time.time()
        name = network_of(host)
        if self._banned.get(name, 0.0) > now:
            return not self.is_exempt(host)
        if not self._wide or not name:
            return False
        return any(until > now and address_in(host, net) for net, until in self._wide) and not self.is_exempt(host)

    def _load(self, commit: int) -> None:
        self._banned.clear()
        self._wide.clear()
        for ban in self.list():
            self._banned[ban.network] = ban.until
            network = networks.parse(ban.network)
            # not the size of one peer, so refuses() cannot find it by name
            if network.prefixlen != (64 if network.version == 6 else 32):
                self._wide.append((network, ban.until))
        self._seen = commit

    def is_exempt(self, host: str) -> bool:
        """Return True if a host is never banned. What is not an address is exempt too."""
        return not network_of(host) or any(address_in(host, network) for network in self.rules.exempt)

    def blame(self, host: str, points: float, why: str) -> None:
        """Add points for a peer that behaves like a guesser; at the limit its network is banned. Called on the event
        loop."""
        rules, name = self.rules, network_of(host)
        if not rules.after or not name or self.is_exempt(host):
            return
        if self._scores is None:
            try:
                self._scores = Scores(self._path)
            except OSError as error:
                log.event("bans.scores", "error", path=self._path, error=error)
                return
        most = rules.after - 0.5  # so that points which fade between two failures do not postpone the ban
        if self._scores.add(name, points, rules.after / rules.window, most, time.monotonic()) < most:
            return
        count("bans")
        self._banned[name] = time.time() + rules.seconds  # in this worker at once; in all workers when it is written
        asyncio.get_running_loop().run_in_executor(None, self._write, name, why)

    def _write(self, name: str, why: str) -> None:
        try:
            ban = self.add(name, 0.0, why)
            log.event("banned", "warning", network=name, why=why, seconds=int(ban.until - ban.since), times=ban.times)
        except (MailError, OSError) as error:
            log.event("banned", "error", network=name, error=error)

    # ---------------------------------------------------------------- for commands

    def list(self) -> list[Ban]:
        """Return the bans that are valid now."""
        now = time.time()
        out = []
        with self._env.read() as txn:
            for key, value in txn.cursor(db=self._env.db["ban"]).iternext():
                row = _row(value)
                if row.until > now:
                    out.append(Ban(str(key, "ascii"), row.until, row.since, row.times, row.why))
        return out

    def add(self, text: str, seconds: float, why: str) -> Ban:
        """Ban a network; with 0 seconds for as long as the rules say. CannotDo when the text is not a network."""
        try:
            network = networks.parse(text)
        except ValueError:
            raise CannotDo(f"{text} is neither an address nor a network such as 192.0.2.0/24") from None
        name, now = _name(network), time.time()
        with self._env.write() as txn:
            found = txn.get(name.encode(), db=self._env.db["ban"])
            old = _row(found) if found is not None else None
            times = old.times + 1 if old is not None and old.until > now - REMEMBER else 1
            length = seconds or min(LONGEST, self.rules.seconds * 2 ** (times - 1))
            txn.put(name.encode(), _encode(BanRow(1, now + length, now, times, why)), db=self._env.db["ban"])
            self._clean(txn, now)
        return Ban(name, now + length, now, times, why)

    def _clean(self, txn: object, now: float) -> None:
        """Delete bans that ended more than a day ago."""
        cursor = txn.cursor(db=self._env.db["ban"])  # type: ignore[attr-defined]
        old = [bytes(key) for key, value in cursor.iternext() if _row(value).until < now - REMEMBER]
        for key in old:
            txn.delete(key, db=self._env.db["ban"])  # type: ignore[attr-defined]

    def remove(self, text: str) -> int:
        """Lift the ban of a network, or with ``all`` every ban; returns how many were lifted."""
        now = time.time()
        removed = 0
        wanted = {text, network_of(text)}
        with contextlib.suppress(ValueError):
            wanted.add(_name(networks.parse(text)))
        with self._env.write() as txn:
            cursor = txn.cursor(db=self._env.db["ban"])
            names = [bytes(key) for key, value in cursor.iternext() if _row(value).until > now]
            for key in names:
                if text == "all" or key.decode() in wanted:
                    txn.delete(key, db=self._env.db["ban"])
                    removed += 1
        return removed
