"""Keys of domains, from the new one to the one that counts no more: each is made, published by the operator, seen in
the DNS, used, kept a while, and revoked (RFC 6376 3.6.1, 6.1.2).

    waiting --seen in the DNS--> published --SETTLE later--> active --the next one is--> retired --keep--> revoked

The first key of its kind is used as soon as it is seen: mail would go without any signature otherwise. A later one
takes over SETTLE seconds after it was seen, because some of the domain's name servers may not have it yet. A retired
key stays in the DNS as long as mail that was signed with it may be read; then its private half is removed, and its
record may be taken out, or left without a key (``p=``). FORGET seconds later its row is gone.

With ``every``, a key that has been active so long gets a successor, which waits like any other. Nobody but the operator
writes into the DNS: the log says what is to be published, and ``fastmail dkim zone`` prints it.

Promise: a key that the DNS does not have is never used, and one that is used never goes before another of its kind is.
A file is on the disk before the directory names it, and is removed after the directory does so no more. All changes of
a domain are one transaction.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Protocol, TypeVar

import msgspec

from fastmail.directory.errors import DirectoryError
from fastmail.directory.records import (
    ACTIVE,
    ED25519,
    PUBLISHED,
    RETIRED,
    REVOKED,
    RSA,
    WAITING,
    DkimKey,
    Domain,
)
from fastmail.dns.interface import FAILED, FOUND, Budget, Names
from fastmail.model.domain import ascii_name
from fastmail.model.errors import MailError
from fastmail.policy import dkim, keyfiles, keys, sign
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.policy.keys import BadKey
from fastmail.policy.sign import SigningKey
from fastmail.telemetry import log

SETTLE = 3600.0  # s from seeing a key in the DNS to using it
FORGET = 30 * 86400.0  # s that a revoked key is listed
EVERY = 300.0  # s between two rounds
MOST = 12  # keys of a domain, in all states
SAME, OTHER, MISSING, UNKNOWN = "same", "other", "missing", "unknown"  # what the DNS has of a key
T = TypeVar("T")
replace = msgspec.structs.replace


class Keeper(Protocol):
    """What is asked of the directory."""

    def each_domain(self, after: str = "") -> Iterator[Domain]: ...
    def change_domain(self, name: str, change: Callable[[Domain], Domain]) -> Domain: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """``every``: s after which an active key gets a successor, 0 for never; ``keep``: s that a retired key stays;
    ``kinds``, ``bits``: of new keys."""

    every: float = 0.0
    keep: float = float(sign.LIFETIME)
    kinds: tuple[str, ...] = (RSA,)
    bits: int = keyfiles.LEAST


USUAL = Schedule()


# -------------------------------------------------------------------- what becomes of keys: values only


def selector(kind: str, taken: Collection[str], now: float) -> str:
    """A name that says when the key was made, such as 202611r, and that is not taken."""
    first = time.strftime("%Y%m", time.gmtime(now)) + kind[0]
    return next(one for one in chain([first], (f"{first}{n}" for n in count(2))) if one not in taken)


def moved(key: DkimKey, state: str, now: float) -> DkimKey:
    """The key in another state."""
    return replace(key, state=state, since=int(now))


def activated(known: Sequence[DkimKey], name: str, now: float) -> tuple[DkimKey, ...]:
    """The keys with this selector's in use, and the one of its kind that was in use before retired."""
    chosen = next(one for one in known if one.selector == name)
    out = []
    for one in known:
        if one.selector == name:
            one = moved(one, ACTIVE, now)
        elif one.state == ACTIVE and one.kind == chosen.kind:
            one = moved(one, RETIRED, now)
        out.append(one)
    return tuple(out)


def advanced(known: Sequence[DkimKey], there: Mapping[str, str], schedule: Schedule, now: float) -> tuple[DkimKey, ...]:
    """What the keys are now. ``there``: what the DNS has of each, by selector; of one that is not among them nothing
    was asked."""
    out: list[DkimKey] = []
    for one in known:
        age, seen = now - one.since, there.get(one.selector, UNKNOWN)
        if one.state == WAITING and seen == SAME:
            one = moved(one, PUBLISHED, now)
        elif one.state == PUBLISHED and seen in (OTHER, MISSING):
            one = moved(one, WAITING, now)
        elif one.state == RETIRED and age >= schedule.keep:
            one = moved(one, REVOKED, now)
        elif one.state == REVOKED and age >= FORGET:
            continue
        out.append(one)
    found = tuple(out)
    for one in out:
        first = not any(other.state == ACTIVE and other.kind == one.kind for other in found)
        if one.state == PUBLISHED and there.get(one.selector) == SAME and (first or now - one.since >= SETTLE):
            found = activated(found, one.selector, now)
    return found


def due(known: Sequence[DkimKey], schedule: Schedule, now: float) -> list[str]:
    """The kinds of which a successor is to be made."""
    if not schedule.every or len(known) >= MOST:
        return []
    coming = {one.kind for one in known if one.state in (WAITING, PUBLISHED)}
    old = {one.kind for one in known if one.state == ACTIVE and now - one.since >= schedule.every}
    return sorted(old - coming)


# -------------------------------------------------------------------- the DNS


async def looked(names: Names, key: SigningKey, budget: Budget | None = None) -> tuple[str, str]:
    """What the DNS has of a key (SAME, OTHER, MISSING, UNKNOWN), and why, for people."""
    name = f"{key.selector}._domainkey.{key.domain}"
    answer = await names.ask(name, "TXT", budget)
    if answer.state == FAILED:
        return UNKNOWN, f"{name}: {answer.why}"
    if answer.state != FOUND:
        return MISSING, f"{name} has no TXT record"
    mine = keys.parse(key.record().encode())
    why = ""
    for record in sorted(answer.records)[: dkim.RECORDS]:
        try:
            found = keys.parse(record)
        except BadKey as error:
            why = why or str(error)
            continue
        if found.public == mine.public:
            if found.testing:
                return SAME, "the record says that the key is only tested (t=y): signatures do not count"
            return SAME, ""
        why = "it is another key"
    return OTHER, f"{name}: {why}"


def strings(record: str) -> list[str]:
    """A TXT record in strings of 255 octets (RFC 1035 3.3.14), which readers put together again."""
    return [record[at : at + 255] for at in range(0, len(record), 255)]


def zone_line(domain: str, name: str, record: str) -> str:
    """A record as a zone file has it (RFC 1035 5.1)."""
    texts = [f'"{one}"' for one in strings(record)]
    owner = f"{name}._domainkey.{ascii_name(domain)}."
    if len(texts) == 1:
        return f"{owner} IN TXT {texts[0]}"
    return f"{owner} IN TXT (\n" + "\n".join(f"    {one}" for one in texts) + " )"


# -------------------------------------------------------------------- the directory and the files


def signing_key(data_dir: str, domain: str, row: DkimKey) -> SigningKey:
    """The key of a row. KeyTrouble. Waits for the disk."""
    return SigningKey(ascii_name(domain), row.selector, keyfiles.load(data_dir, row.file))


def record_of(data_dir: str, domain: str, row: DkimKey) -> str:
    """What the DNS is to have at its selector: of a revoked key that it is one (RFC 6376 3.6.1). KeyTrouble."""
    if row.state == REVOKED:
        return f"v=DKIM1; k={row.kind}; p="
    return signing_key(data_dir, domain, row).record()


def add(
    keeper: Keeper,
    data_dir: str,
    domain: Domain,
    kind: str,
    now: float,
    bits: int = keyfiles.LEAST,
    name: str = "",
    given: keyfiles.PrivateKey | None = None,
) -> DkimKey:
    """Make a key, or take the one that is ``given``, and add it to a domain: it waits. ``name``: its selector.
    DirectoryError, KeyTrouble. Waits for the disk."""
    taken = {one.selector for one in domain.dkim} | keyfiles.selectors(data_dir, domain.name)
    name = name or selector(kind, taken, now)
    row = DkimKey(name, kind, keyfiles.place_of(domain.name, name), WAITING, int(now), int(now))
    _check(domain, row)
    private = given if given is not None else keyfiles.make(kind, bits)
    keyfiles.keep(data_dir, row.file, private)

    def change(old: Domain) -> Domain:
        _check(old, row)
        return replace(old, dkim=(*old.dkim, row))

    try:
        keeper.change_domain(domain.name, change)
    except MailError:
        keyfiles.remove(data_dir, row.file)
        raise
    return row


def _check(domain: Domain, row: DkimKey) -> None:
    if any(one.selector == row.selector for one in domain.dkim):
        raise DirectoryError(f"{domain.name} has a key with the selector {row.selector} already: choose another one")
    if len(domain.dkim) >= MOST:
        raise DirectoryError(f"{domain.name} has {MOST} keys: remove one that counts no more (fastmail dkim list)")


async def _aside(work: Callable[[], T]) -> T:
    """On a helper thread, to its end: whoever is cancelled waits for it, because the directory is closed afterwards."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


@dataclass(slots=True)
class Rotation:
    """Leads the keys of all domains through their states. One in a server."""

    keeper: Keeper
    names: Names
    data_dir: str
    schedule: Schedule = USUAL

    async def run(self) -> None:
        """Go on until cancelled: a round now, and one each EVERY seconds. Trouble of any kind waits for the next."""
        while True:
            try:
                await self.round(time.time())
            except Exception as error:
                log.event("dkim.round", "error", error=repr(error))
            await asyncio.sleep(EVERY)

    async def round(self, now: float) -> None:
        """Look at each key that waits or is to change, and write down what came of it. The trouble of one domain does
        not stop the others."""
        for domain in await _aside(self._with_keys):
            try:
                await self._turn(domain, now)
            except (MailError, OSError) as error:
                log.event("dkim.round", "warning", domain=domain.name, error=repr(error))

    async def _turn(self, domain: Domain, now: float) -> None:
        there = {}
        for row in domain.dkim:
            if row.state in (WAITING, PUBLISHED):
                there[row.selector] = await self._looked(domain.name, row)
        if advanced(domain.dkim, there, self.schedule, now) != domain.dkim:
            await _aside(partial(self._advance, domain.name, there, now))
        for kind in due(domain.dkim, self.schedule, now):
            await self._make(domain, kind, now)

    async def _make(self, domain: Domain, kind: str, now: float) -> None:
        """Make a key that waits, and say what is to be done with it."""
        made = await _aside(partial(add, self.keeper, self.data_dir, domain, kind, now, self.schedule.bits))
        then = f"put what `fastmail dkim zone {domain.name}` prints into the DNS"
        log.event("dkim.made", "warning", domain=domain.name, selector=made.selector, kind=kind, then=then)

    def _with_keys(self) -> list[Domain]:
        return [one for one in self.keeper.each_domain() if one.dkim]

    async def _looked(self, domain: str, row: DkimKey) -> str:
        try:
            key = await _aside(partial(signing_key, self.data_dir, domain, row))
        except KeyTrouble as error:
            log.event("dkim.key", "error", domain=domain, selector=row.selector, error=error)
            return UNKNOWN
        return (await looked(self.names, key))[0]

    def _advance(self, name: str, there: Mapping[str, str], now: float) -> None:
        before: list[DkimKey] = []

        def change(old: Domain) -> Domain:
            before[:] = old.dkim
            return replace(old, dkim=advanced(old.dkim, there, self.schedule, now))

        after = {one.selector: one for one in self.keeper.change_domain(name, change).dkim}
        for old in before:
            new = after.get(old.selector)
            if new is not None and new.state == old.state:
                continue
            log.event("dkim.key", domain=name, selector=old.selector, state=new.state if new is not None else "gone")
            if new is not None and new.state == REVOKED:
                keyfiles.remove(self.data_dir, old.file)


def kinds_in_use(domain: Domain) -> list[str]:
    """The kinds of a domain's active keys, RSA first."""
    found = {one.kind for one in domain.dkim if one.state == ACTIVE}
    return [kind for kind in (RSA, ED25519) if kind in found]
