"""Resolvers whose answers count for long, so that what rests on them is kept; asked for first, or at hand."""

import dataclasses
import time

from fastmail.dns.interface import Answer, Budget
from fastmail.dns.memory import MemoryResolver

UNTIL = time.monotonic() + 100_000.0


class Lasting(MemoryResolver):
    """Each answer counts until ``until``, by the monotonic clock; at first as long as the tests run."""

    until = UNTIL

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        return dataclasses.replace(await super().ask(name, kind, budget), until=self.until)


class AtHand(Lasting):
    """And is known without asking."""

    def cached(self, name: str, kind: str) -> Answer | None:
        try:
            self.ask(name, kind).send(None)
        except StopIteration as found:
            answer: Answer = found.value
            return answer
        raise AssertionError("it waits")
