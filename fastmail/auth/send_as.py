"""Settings for addresses that a login may write under beside its own: ``[auth] header_senders`` and ``send_as``."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail.model.address import comparable
from fastmail.model.errors import ConfigError

REFUSE, LOG, OFF = "refuse", "log", "off"
MODES = (REFUSE, LOG, OFF)
ANY = "*"


@dataclass(slots=True)
class Rules:
    """``header``: what happens to a message whose header names somebody else. ``send_as``: by login, or its
    ``@domain``, the addresses, ``@domain`` or ``*``, that it may write under as well."""

    header: str = REFUSE
    send_as: dict[str, frozenset[str]] = field(default_factory=dict)


def parse(header: str, send_as: Sequence[str]) -> Rules:
    """Read these settings. ConfigError if they make no sense."""
    if header not in MODES:
        raise ConfigError(f"header_senders must be {', '.join(MODES[:-1])} or {MODES[-1]}")
    found: dict[str, frozenset[str]] = {}
    for line in send_as:
        who, *addresses = line.split() or [""]
        if not addresses or "@" not in who or any("@" not in one and one != ANY for one in addresses):
            raise ConfigError(f'send_as: "LOGIN ADDRESS..." is expected, each an address or @domain, or *: {line!r}')
        who = comparable(who)
        found[who] = found.get(who, frozenset()) | {comparable(one) for one in addresses}
    return Rules(header, found)
