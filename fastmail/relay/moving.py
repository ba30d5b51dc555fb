"""Checks a destination to which `fastmail queue move` is to send messages, before anything is changed: an impossible
one would return every message to its sender.
"""

from collections.abc import Callable, Sequence

from fastmail.dns.resolver import LookupFailed
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress, ClientError
from fastmail.net import address_rules
from fastmail.queue import routes
from fastmail.queue.model import LOCAL
from fastmail.queue.routes import LAX, POOL, STRICT, marked, parts
from fastmail.relay.targets import Finder, is_hop

EXPECTED = (
    "a domain such as example.org, or a next hop is expected: smtp:HOST[:PORT], smtps:HOST[:PORT], lmtp:HOST[:PORT] or "
    "lmtp:unix:/PATH"
)


class BadDestination(ClientError):
    """Mail cannot be sent there; str() says why, and what is expected."""


async def destination(text: str, finder: Finder, addresses: Sequence[str], usual: Callable[[str], str]) -> str:
    """Return a destination in the form that jobs use, without the mark of a message's own wish for TLS. BadDestination
    for an impossible one.

    ``addresses``: the recipients that are to go there; ``usual``: gives an address's usual destination. A DNS that does
    not answer now is no reason to refuse: the mail waits for it."""
    name, _, pool = text.strip().partition(POOL)
    if pool and pool not in finder.routes.pools:
        raise BadDestination(f'there is no pool "{pool}" in [relay] pools')
    behind = POOL + pool if pool else ""
    if name.lower() == LOCAL:
        elsewhere = next((one for one in addresses if usual(one) != LOCAL), "")
        if elsewhere or pool:
            raise BadDestination(f"{elsewhere or name} is not of this server")
        return LOCAL
    if name.startswith("pipe:"):
        if name not in finder.routes.hops:
            raise BadDestination("a program takes mail only where a line of [relay] routes names it")
        return name
    if name.endswith((STRICT, LAX)):
        raise BadDestination(f'leave out the "{name[-1]}": each message keeps its own TLS requirement')
    if is_hop(name):
        hop = routes.hop(name)
        if hop is None:
            raise BadDestination(f'"{text}" is not a next hop: {EXPECTED}')
        if not hop.host.startswith("/") and not address_rules.literal(hop.host):
            await _known(hop.host, finder, hop.host)
        return hop.destination + behind
    try:
        domain = name.lower() if address_rules.literal(name) else ascii_name(name)
    except BadAddress as error:
        raise BadDestination(f'"{text}" is not a destination ({error}): {EXPECTED}') from None
    await _known(domain, finder)
    return domain + behind


async def _known(name: str, finder: Finder, host: str = "") -> None:
    """Check that a domain, or a single host, has an address that takes mail. A DNS that does not answer now passes."""
    try:
        await (finder.resolver.addresses(host) if host else finder.find(name))
    except LookupFailed:
        return
    except ClientError as error:
        raise BadDestination(f"mail cannot go to {name}: {error}") from None


def moved(old: str, new: str) -> str:
    """Return the new destination of a job, with the job's wish for TLS kept."""
    return marked(new, parts(old)[2])
