"""The interface to the DNS that ``Resolver`` and ``MemoryResolver`` implement.

A look-up never raises because of what the DNS answers or fails to answer: its Answer tells records, "no data", "no such
name" and "could not be known" apart, because SPF, DKIM and DMARC treat each of them differently. A Budget limits all
look-ups for one message together (RFC 7208 4.6.4); it is passed along with each of them.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
FOUND, NO_DATA, NO_NAME, FAILED = "found", "no data", "no such name", "failed"
TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}
SECONDS = 20.0  # that the look-ups of a message may take (RFC 7208 4.6.4 asks for 20 at least)
LOOKUPS = 300  # of a message; what RFC 7208 allows for two identities comes to about 250


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question. ``records`` as ``_core.dns.answer`` returns them, addresses as text; ``name``: where
    the aliases end; ``secure``: a validating resolver vouches for it (DNSSEC); ``until``: when it is forgotten, by the
    monotonic clock; ``why``: why it could not be known."""

    state: str
    records: tuple[Any, ...] = ()
    name: str = ""
    secure: bool = False
    until: float = 0.0
    why: str = ""

    @property
    def void(self) -> bool:
        """There is nothing, and that is sure (RFC 7208 4.6.4)."""
        return self.state in (NO_DATA, NO_NAME)


@dataclass(slots=True)
class Budget:
    """How much time and how many questions the look-ups for one message have left. ``asked`` and ``void`` count
    questions."""

    seconds: float = SECONDS
    most: int = LOOKUPS
    asked: int = 0
    void: int = 0
    deadline: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.deadline = self.deadline or time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when nothing more may be asked."""
        if self.asked >= self.most:
            return 0.0
        return max(0.0, self.deadline - time.monotonic())


class Names(Protocol):
    """The port to the DNS."""

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        """Return the records of one type (a key of TYPES) of a name in any spelling. Never raises because of what the
        DNS says."""

    def cached(self, name: str, kind: str) -> Answer | None:
        """Return the answer if it is known without asking; otherwise None."""


class Unknown(Exception):
    """It is not known without asking."""


class Known:
    """A port to what is known without asking: it never waits. Whoever asks it for anything else gets Unknown."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        answer = self._names.cached(name, kind)
        if answer is None:
            raise Unknown(name, kind)
        return answer

    def cached(self, name: str, kind: str) -> Answer | None:
        return self._names.cached(name, kind)


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """Return what a coroutine returns that asks nobody but a ``Known``, without a task, which costs more than many an
    answer; None if it asks for what is not known."""
    try:
        work.send(None)
    except StopIteration as ended:
        found: T = ended.value
        return found
    except Unknown:
        return None
    work.close()
    raise RuntimeError("it waits for something else")


async def ask_all(names: Names, asked: Sequence[tuple[str, str]], budget: Budget) -> list[Answer]:
    """Return the answers to several questions, (name, type). They are asked at once and do not wait for each other; an
    answer that is known costs no task."""
    known = [names.cached(name, kind) for name, kind in asked]
    missing = [one for one, answer in zip(asked, known, strict=True) if answer is None]
    if len(missing) == 1:
        rest = iter([await names.ask(*missing[0], budget)])
    else:
        rest = iter(await asyncio.gather(*(names.ask(name, kind, budget) for name, kind in missing)) if missing else [])
    return [answer if answer is not None else next(rest) for answer in known]
