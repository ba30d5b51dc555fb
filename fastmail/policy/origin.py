"""Where a message comes from, and what the checks find of that before its content comes: DNS lists and reverse DNS of
the client, SPF of its name in EHLO and of the sender, and what both claim (policy.claims).

What is known is there at once, and what has to be asked for is a task: a result is one or the other, and ``found``
gives the result of either. Where all is known, the Origin says until when that counts, and may be used for each message
from there until then (policy.series).
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from fastmail.dns.interface import Budget
from fastmail.policy import claims
from fastmail.policy.checkers import Checkers
from fastmail.policy.iprev import Reverse
from fastmail.policy.lists import Listed
from fastmail.policy.spf import Checked
from fastmail.policy.strangers.rules import OFF

T = TypeVar("T")
Key = tuple[str, str, str]  # the client's address, its name in EHLO, the domain of MAIL FROM
Start = Callable[[Coroutine[Any, Any, T]], "asyncio.Task[T]"]


@dataclass(slots=True, eq=False)
class Origin:
    """None, or nothing, for what is not looked at. ``claims``: of the name in EHLO, and of the sender's domain.
    ``until``: as long as all of it counts, by the monotonic clock; 0 where something had to be asked. ``latest``: what
    policy.series knows of its latest message; ``fresh``: some of it was not known before, but did not have to be asked
    for; then it is not kept, because many a sender comes only once. An Origin equals itself only: it names the series
    of its mail."""

    listed: "asyncio.Task[list[Listed]] | list[Listed] | None" = None
    reverse: "asyncio.Task[Reverse] | Reverse | None" = None
    greeted: "asyncio.Task[Checked] | Checked | None" = None
    sender: "asyncio.Task[Checked] | Checked | None" = None
    claims: "Sequence[asyncio.Task[Sequence[claims.Finding]] | Sequence[claims.Finding]]" = ()
    until: float = 0.0
    latest: object = None
    fresh: bool = False


async def found(result: "asyncio.Task[T] | T") -> T:
    """What was found, perhaps when it has been."""
    return await result if isinstance(result, asyncio.Task) else result


def ask(checkers: Checkers, key: Key, sender: str, start: Start[Any], budget: Callable[[], Budget]) -> Origin:
    """Find out what is not known. ``sender``: MAIL FROM; ``start`` makes a task; ``budget`` gives the message's, and is
    called only where something has to be asked."""
    settings, made = checkers.settings, Origin()
    ip, helo, domain = key
    if settings.lists:
        made.listed = checkers.lists.known(ip)
        if made.listed is None:
            made.listed = start(checkers.lists.client(ip))
    if settings.reverse:
        made.reverse = checkers.iprev.known(ip)
        if made.reverse is None:
            made.reverse = start(checkers.iprev.check(ip, budget()))
    if settings.spf:
        made.greeted = checkers.spf.known(ip, helo, "helo")
        if made.greeted is None:
            made.greeted = start(checkers.spf.helo(ip, helo, budget()))
        made.sender = checkers.spf.known(ip, domain or helo, "mailfrom")
        if made.sender is None:
            made.sender = checkers.spf.at_once(ip, helo, sender)
            made.fresh = made.sender is not None
        if made.sender is None:
            made.sender = start(checkers.spf.mail_from(ip, helo, sender, budget()))
    claimed: list[asyncio.Task[Sequence[claims.Finding]] | Sequence[claims.Finding]] = []
    if settings.helo != OFF:
        said = checkers.claims.known_helo(ip, helo)
        claimed.append(start(checkers.claims.helo(ip, helo, budget())) if said is None else said)
    if settings.sender != OFF:
        said = checkers.claims.known_sender(domain)
        claimed.append(start(checkers.claims.sender(domain, budget())) if said is None else said)
    made.claims = claimed
    return made


def until(checkers: Checkers, key: Key) -> float:
    """As long as all that counts which ``ask`` found without asking, by the monotonic clock."""
    settings = checkers.settings
    ip, helo, domain = key
    times = [inf]
    if settings.lists:
        times.append(checkers.lists.until(ip))
    if settings.reverse:
        times.append(checkers.iprev.until(ip))
    if settings.spf:
        times += checkers.spf.until(ip, helo, "helo"), checkers.spf.until(ip, domain or helo, "mailfrom")
    if settings.helo != OFF:
        times.append(checkers.claims.helo_until(ip, helo))
    if settings.sender != OFF:
        times.append(checkers.claims.sender_until(domain))
    return min(times)
