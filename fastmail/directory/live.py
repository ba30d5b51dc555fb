"""Accounts that are looked up where they are kept, when somebody asks for them: a login, a recipient.

What the source says goes into the built-in directory, which everything else reads, and counts for ``every`` seconds;
many who ask at once are one question. While the source is away, accounts that are known stay as they are, and one that
is not known is a temporary failure.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from fastmail.directory.external import bring_lines
from fastmail.directory.interface import Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.lookup import home
from fastmail.directory.origins import domain_of
from fastmail.model import domain as names
from fastmail.model.address import spellings
from fastmail.model.errors import TemporaryError
from fastmail.telemetry import log

REMEMBERED = 100_000
AGAIN = 1.0  # s for which an answer that there is no such account counts: one that was just made counts at once
AWAY = 5.0  # s until a source that is away is asked again


class Finder(Protocol):
    """Where accounts are looked up."""

    name: str

    async def lookup(self, user: str) -> Line | None:
        """The account of a login or an address; None when there is none. TemporaryError while it is away."""
        ...

    async def close(self) -> None: ...


class Live:
    """One for each source in each worker. ``name``: what domains call the source."""

    def __init__(self, directory: LocalDirectory, finder: Finder, every: float, name: str = "") -> None:
        self._directory, self._finder, self._every, self._name = directory, finder, every, name
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._away = 0.0

    async def freshen(self, address: str) -> str:
        """Bring an account up to date; the address that it has, which may be another one."""
        known = self._known.get(address)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        task = self._asking.get(address)
        if task is None:
            task = self._asking[address] = asyncio.get_running_loop().create_task(self._ask(address))
            task.add_done_callback(lambda _: self._asking.pop(address, None))
        return await asyncio.shield(task)

    async def _ask(self, address: str) -> str:
        now = time.monotonic()
        try:
            if now < self._away:
                raise TemporaryError("the source of accounts is away")
            line = await self._look(address)
        except TemporaryError as error:
            if now >= self._away:
                log.event("directory.unreadable", "error", source=self._finder.name, why=error, then="accounts stay")
                self._away = now + AWAY
            if self._directory.account(address) is None:
                raise TemporaryError("accounts cannot be looked up now") from None
            return address
        loop = asyncio.get_running_loop()
        name = line.address if line is not None else address
        gone = [address] if line is None else []
        lines = [line] if line is not None else []
        await loop.run_in_executor(None, bring_lines, self._directory, lines, gone, self._name)
        self._known[address] = time.monotonic() + (self._every if line is not None else min(AGAIN, self._every)), name
        self._known.move_to_end(address)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return name

    async def _look(self, address: str) -> Line | None:
        """The source may have the domain with A-labels or with U-labels."""
        for one in spellings(address):
            line = await self._finder.lookup(one)
            if line is not None and self._directory.is_from(self._name, line.address):
                return line  # it has no say in the domains of others
        return None

    async def close(self) -> None:
        for task in self._asking.values():
            task.cancel()
        await self._finder.close()


class LiveByDomain:
    """Asks the source of an address's domain; one in each worker. What cannot be asked, and what is kept here, is as it
    is known. ``asked``: the sources by name."""

    def __init__(self, directory: LocalDirectory, asked: Mapping[str, Live]) -> None:
        self._directory, self._asked = directory, asked

    async def freshen(self, address: str) -> str:
        """See Live. An address of another name of a domain is asked for by the first name."""
        name = domain_of(address)
        found = home(self._directory, name)
        live = self._asked.get(found.source if found is not None else "")
        if live is None:
            return address
        if found is not None and names.comparable(found.name) != names.comparable(name):
            address = f"{address.rpartition('@')[0]}@{found.name}"
        return await live.freshen(address)

    async def close(self) -> None:
        for live in self._asked.values():
            await live.close()
