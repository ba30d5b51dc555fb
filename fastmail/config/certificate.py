"""Are the certificates such that clients will take them: now, for the names that they serve (RFC 6125 6.4)?

That they can be read and belong to their keys is seen when they are loaded (net.tls). What is found here keeps no
server from starting: between mail servers TLS with a bad certificate is better than none, and the mail goes on.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509

from fastmail.config.settings import Config
from fastmail.net.sni import names_of, served
from fastmail.net.tls import revocations
from fastmail.relay.dane import matches


class Fault(NamedTuple):
    """The file, and what is wrong with it in a sentence."""

    path: str
    why: str


class End(NamedTuple):
    """The file, and when its certificate expires, or the first of its chain."""

    path: str
    when: datetime


def ends(config: Config) -> list[End]:
    """When each certificate ends, that of [tls] first; ValueError, OSError where one cannot be read."""
    paths = [config.tls.certificate, *(one.certificate for one in config.certificate)]
    return [End(path, min(one.not_valid_after_utc for one in _chain(path))) for path in paths]


def faults(config: Config) -> list[Fault]:
    """What is wrong with them; ValueError, OSError where one cannot be read."""
    if not config.tls.certificate:
        return []
    now = datetime.now(UTC)
    out: list[Fault] = []
    taken: dict[tuple[str, bool], str] = {}  # the file of each name, given by the configuration or not

    def look(path: str, wanted: Sequence[str], given: Sequence[str]) -> None:
        """``wanted``: names that must be in the certificate; ``given``: what the configuration has it serve."""
        chain = _chain(path)
        names = names_of(chain[0])
        found = _dates(chain, now)
        for name in dict.fromkeys(served(given or names)):
            other = taken.setdefault((name, bool(given)), path)
            if other != path:
                found.append(f"{name} is served by {other} already")
        shown = ", ".join(names[:5]) or "none"
        found += [f"the certificate is not for {one}: its names are {shown}" for one in wanted if not _has(names, one)]
        out.extend(Fault(path, why) for why in found)

    look(config.tls.certificate, [config.server.hostname], [])
    out += [Fault(config.tls.client_crl, why) for why in _old_lists(config, now)]
    for one in config.certificate:
        look(one.certificate, one.names, one.names)
    return out


def _chain(path: str) -> list[x509.Certificate]:
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def _dates(chain: list[x509.Certificate], now: datetime) -> list[str]:
    """Return what is wrong with the dates of a certificate and of those that vouch for it."""
    out = []
    for position, one in enumerate(chain):
        which = "the certificate" if not position else f"certificate {position + 1} of the chain"
        if now > one.not_valid_after_utc:
            out.append(f"{which} has expired, on {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if now < one.not_valid_before_utc:
            out.append(f"{which} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    return out


def _old_lists(config: Config, now: datetime) -> list[str]:
    """Return which lists of revoked certificates are too old to count."""
    if not config.tls.client_crl:
        return []
    with open(config.tls.client_crl, "rb") as file:
        lists = revocations(file.read())
    return [
        f"the list of what {old.issuer.rfc4514_string()} has revoked has expired: no client certificate of it is taken"
        for old in lists
        if old.next_update_utc is not None and now > old.next_update_utc
    ]


def _has(names: Sequence[str], wanted: str) -> bool:
    """True if a certificate with these names is for a name; for a wildcard, if it has that wildcard."""
    return any(matches(one, wanted) for one in names) or served([wanted])[0] in served(names)
