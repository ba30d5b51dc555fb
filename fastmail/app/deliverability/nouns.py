"""What a survey of a domain is about, whom it asks, and what it says: a Line for each thing that was looked at.

Promise: look-ups share one Budget, so a survey ends however slowly name servers answer. A DNS that does not answer is
an error, because then nothing is known to be right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail.dns.interface import FAILED, Answer, Budget, Names, ask_all

OK, HINT, WARNING, ERROR = "ok", "hint", "warning", "error"
SHOWN = 5  # addresses or names in one line
LOOKED_AT = 20  # hosts or addresses that are looked at


@dataclass(frozen=True, slots=True)
class Line:
    """``state``: OK; HINT (nothing is wrong, this would be better); WARNING (some receivers mind); ERROR (mail is
    refused or put into Junk). ``found``: what there is; ``todo``: what to do next, with the record to publish."""

    check: str
    state: str
    found: str
    todo: str = ""


@dataclass(slots=True)
class Asked:
    """The domain that is surveyed and the host that sends for it; names have A-labels.

    ``sources``: addresses that mail leaves from; ``hidden``: those of this machine that others cannot see; ``host``:
    addresses of the host's name, filled in by ``host.named``; ``smarthost``: by whom mail leaves, empty where we send
    it ourselves; ``voids``: look-ups of an SPF record that may find nothing; ``reports``: the address for reports about
    the domain."""

    names: Names
    budget: Budget
    domain: str
    hostname: str
    reports: str
    sources: Sequence[str] = ()
    hidden: Sequence[str] = ()
    smarthost: str = ""
    voids: int = 2
    host: list[str] = field(default_factory=list)

    async def ask(self, name: str, kind: str) -> Answer:
        return await self.names.ask(name, kind, self.budget)

    async def addresses(self, name: str) -> tuple[list[str], str]:
        """(IPv4 and IPv6 addresses of a name, why some could not be known)."""
        answers = await ask_all(self.names, [(name, "A"), (name, "AAAA")], self.budget)
        trouble = next((one.why for one in answers if one.state == FAILED), "")
        return [address for one in answers for address in sorted(one.records)], trouble


def unknown(check: str, what: str, why: str) -> Line:
    """The line for what the DNS could not say."""
    return Line(check, ERROR, f"{what} could not be looked up: {why}", "try again; is the name server at work?")


def some(texts: Sequence[str]) -> str:
    """A few of these, for people."""
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def record(name: str, kind: str, value: str) -> str:
    """A DNS record as a zone file has it (RFC 1035 5.1)."""
    return f"{name}. IN {kind} {value}"


def text_record(name: str, text: str) -> str:
    """A TXT record; the text in strings of 255 octets at most (RFC 1035 3.3.14)."""
    parts = [text[at : at + 255] for at in range(0, max(1, len(text)), 255)]
    quoted = [one.replace("\\", "\\\\").replace('"', '\\"') for one in parts]
    return record(name, "TXT", " ".join(f'"{one}"' for one in quoted))


def shown(octets: bytes) -> str:
    """A TXT record of a stranger, for people."""
    text = octets.decode("utf-8", "replace")
    return text if len(text) <= 300 else text[:300] + "..."
