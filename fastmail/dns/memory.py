"""A DNS in memory: the plainest implementation of ``Names``, which answers from the records that it is given.

It is for tests and for trying out records that are not published. It has no TTLs and never waits. A name without
records exists if there are names below it (RFC 8020); otherwise it does not exist.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastmail.dns.interface import FAILED, FOUND, NO_DATA, NO_NAME, TYPES, Answer, Budget
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

FOREVER = float("inf")
LINKS = 12  # aliases that lead to each other, before a look-up gives up


class MemoryResolver:
    """``records``: (name, type) -> records, as Answer has them; TXT may be text. Look-ups of ``broken`` names fail;
    those of ``slow`` names never end, so with a budget they fail too."""

    def __init__(self, records: Mapping[tuple[str, str], Iterable[Any]], secure: bool = False) -> None:
        self.records = {(_key(name), kind): tuple(found) for (name, kind), found in records.items()}
        self.secure = secure
        self.broken: set[str] = set()
        self.slow: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        assert kind in TYPES
        if budget is not None:
            if not budget.left:
                return Answer(FAILED, why="the look-ups of this message took too long")
            budget.asked += 1
        answer = self._answer(_key(name), kind, budget)
        if budget is not None and answer.void:
            budget.void += 1
        return answer

    def cached(self, name: str, kind: str) -> Answer | None:
        """Return None: every question is asked, so that it is counted."""
        return None

    def _answer(self, name: str, kind: str, budget: Budget | None) -> Answer:
        self.asked.append((name, kind))
        for _ in range(LINKS):
            if name in self.broken:
                return Answer(FAILED, why="SERVFAIL")
            if name in self.slow:
                if budget is not None:
                    budget.deadline = 0.0
                return Answer(FAILED, why="no answer in time")
            found = self.records.get((name, kind))
            if found:
                made = tuple(one.encode() if isinstance(one, str) and kind == "TXT" else one for one in found)
                return Answer(FOUND, made, name, self.secure, FOREVER)
            alias = self.records.get((name, "CNAME"))
            if not alias:
                there = any(known == name or known.endswith("." + name) for known, _ in self.records)
                return Answer(NO_DATA if there else NO_NAME, (), name, self.secure, FOREVER)
            name = _key(alias[0])
        return Answer(FAILED, why="its aliases do not end")


def _key(name: str) -> str:
    try:
        return ascii_name(name)
    except BadAddress:
        return name.lower().rstrip(".")
