"""All that is known of strangers, in one place for the sessions of a worker (smtp.strangers).

Files are opened when they are needed first, and only those that a rule needs. Where one cannot be opened, its rule
holds for nobody, and the log says so once.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmail.model.domain import comparable
from fastmail.policy.strangers import rates
from fastmail.policy.strangers.guesses import Guesses
from fastmail.policy.strangers.known import Known
from fastmail.policy.strangers.rates import Rates
from fastmail.policy.strangers.rules import CONNECTIONS, MESSAGES, RECIPIENT, SENDER, Rules
from fastmail.telemetry import log

SUSPECT = 0.5  # share of what makes a client a guesser, from which a known one waits for error replies too


@dataclass(slots=True)
class _Tables:
    known: Known | None = None
    guesses: Guesses | None = None
    rates: Rates | None = None


class Gate:
    """One in each worker."""

    def __init__(self, data_dir: str, rules: Rules) -> None:
        self.rules = rules
        self.held = 0  # sessions whose replies wait at this moment
        self._directory = os.path.join(data_dir, "strangers")
        self._tables: _Tables | None = None

    def close(self) -> None:
        if self._tables is not None:
            for one in (self._tables.known, self._tables.guesses, self._tables.rates):
                if one is not None:
                    one.close()
            self._tables = None

    def _opened(self) -> _Tables:
        if self._tables is not None:
            return self._tables
        tables, rules, directory = _Tables(), self.rules, self._directory
        self._tables = tables
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if rules.remembers:
                tables.known = Known(os.path.join(directory, "known"))
            if rules.guesses:
                tables.guesses = Guesses(os.path.join(directory, "guesses"), rules.guesses)
            if rules.rates:
                tables.rates = Rates(directory, rules.rates)
        except OSError as error:
            log.event("strangers.tables", "error", path=directory, error=error, then="[strangers] is not kept to")
        return tables

    def let_go(self) -> None:
        """A session whose reply waited goes on, or has ended."""
        self.held -= 1

    # ---------------------------------------------------------------- past

    def known(self, host: str) -> bool:
        """True for a client that is to be asked for nothing: it has a good past, or that cannot be known."""
        known = self._opened().known
        return known is None or known.has(host)

    def good(self, host: str) -> None:
        """A message came from there that nothing speaks against."""
        tables = self._opened()
        if tables.known is not None:
            tables.known.note(host)
        if tables.guesses is not None:
            tables.guesses.hit(host)

    # ---------------------------------------------------------------- recipients

    def missed(self, host: str) -> None:
        """A recipient that it named is unknown."""
        guesses = self._opened().guesses
        if guesses is not None:
            guesses.missed(host)

    def guessing(self, host: str) -> float:
        """How much a client guesses recipients, as a share of what makes it a guesser."""
        guesses = self._opened().guesses
        return guesses.share(host) if guesses is not None else 0.0

    def is_guesser(self, host: str) -> bool:
        """True for a client that guesses recipients."""
        guesses = self._opened().guesses
        return guesses is not None and guesses.reached(host)

    # ---------------------------------------------------------------- rates: why there is a refusal, or empty

    def connected(self, host: str) -> str:
        """Count a connection."""
        found = self._opened().rates
        return found.take(CONNECTIONS, rates.client(host)) if found is not None else ""

    def mail(self, host: str, sender: str) -> str:
        """Count a message of a client; of its sender's domain it is only asked whether there may be more."""
        found = self._opened().rates
        if found is None:
            return ""
        domain = _domain(sender)
        why = found.over(MESSAGES, {SENDER: domain}) if domain else ""
        return why or found.take(MESSAGES, rates.client(host))

    def sent(self, sender: str) -> str:
        """Count a message of a sender's domain, which is shown to be the sender."""
        found, domain = self._opened().rates, _domain(sender)
        return found.take(MESSAGES, {SENDER: domain}) if found is not None and domain else ""

    def addressed(self, recipient: str) -> str:
        """Count a message for a recipient."""
        found = self._opened().rates
        return found.take(MESSAGES, {RECIPIENT: recipient.lower()}) if found is not None else ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A client that has to wait for its greeting, which ``welcome`` sends."""

    timer: asyncio.TimerHandle
    welcome: Callable[[], None]


@dataclass(slots=True)
class Stranger:
    """What one session notes of its client. ``known``: it has a good past; ``noted``: reasons for the verdict, by name,
    with words for people; ``wait``: the greeting is to come."""

    gate: Gate
    host: str
    known: bool
    noted: dict[str, str] = field(default_factory=dict)
    wait: Wait | None = None

    def end_wait(self) -> Callable[[], None] | None:
        """The client waits no more. Returns what greets it; None where it did not wait."""
        wait, self.wait = self.wait, None
        if wait is None:
            return None
        wait.timer.cancel()
        return wait.welcome

    @property
    def slowed(self) -> bool:
        """True if the client has to wait for error replies. A client with a good past waits only once it guesses."""
        return bool(self.gate.rules.tarpit) and (not self.known or self.gate.guessing(self.host) >= SUSPECT)


def _domain(sender: str) -> str:
    return comparable(sender.rpartition("@")[2])
