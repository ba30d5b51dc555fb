"""Checks of [[scanner]] sections: what is wrong with each, in words for the administrator."""

import re
from collections.abc import Iterator, Sequence

from fastmail.config.trust import Scanner
from fastmail.model import place

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")  # it stands in header fields


def faults(scanners: Sequence[Scanner]) -> Iterator[tuple[int, str, str]]:
    """(which scanner, which key, what is wrong) for each fault. Addresses are brought into their one form."""
    if not scanners:
        return
    from fastmail.policy.scanners import nouns  # which a command without a [[scanner]] need not load

    names: set[str] = set()
    for number, one in enumerate(scanners):
        if one.kind not in nouns.KINDS:
            yield number, "kind", f"kind must be one of {', '.join(nouns.KINDS)}, not {one.kind!r}"
        try:
            one.address = place.place(one.address)
        except ValueError as error:
            yield number, "address", f'address must be "host:port" or "unix:path": {error}'
        if one.learn_address and one.kind in nouns.KINDS:
            if one.kind not in nouns.LEARN:
                yield number, "learn_address", f"{one.kind} cannot learn: leave learn_address out"
            try:
                one.learn_address = place.place(one.learn_address)
            except ValueError as error:
                yield number, "learn_address", f'learn_address must be "host:port" or "unix:path": {error}'
        if one.learn_password_file and (one.kind != nouns.RSPAMD or not one.learn_address):
            yield number, "learn_password_file", "learn_password_file is for the learn_address of rspamd"
        if one.per_user and one.kind in nouns.KINDS and one.kind not in nouns.LEARN:
            yield number, "per_user", f"{one.kind} knows no users: leave per_user out"
        name = one.name or one.kind
        if one.name and _NAME.fullmatch(one.name) is None:
            yield number, "name", f"name {one.name!r} must be of a-z, 0-9 and hyphens, 32 characters at most"
        if name in names:
            yield number, "name", f"two scanners are called {name!r}: give them a name each"
        names.add(name)
        if not one.on or set(one.on) - set(nouns.PLACES):
            yield number, "on", f"on must be a list of {' and '.join(nouns.PLACES)}, not {one.on!r}"
        for key, allowed in (("when_away", nouns.WHEN_AWAY), ("virus", nouns.VIRUS)):
            if getattr(one, key) not in allowed:
                yield number, key, f"{key} must be one of {', '.join(allowed)}, not {getattr(one, key)!r}"
        if not one.timeout:
            yield number, "timeout", "timeout must be above 0"
        if not one.connections:
            yield number, "connections", "connections must be at least 1"
