"""The addresses that mail for other servers leaves from: those of [relay], or else what this machine would use.

A machine behind NAT knows only its inner address. Then the addresses of the host's name stand for what others see, and
the survey says so. Nothing is sent to find out: connecting a datagram socket only looks up the route.
"""

import socket
from dataclasses import dataclass

from fastmail.config.sending import Relay
from fastmail.model.domain import comparable
from fastmail.net import networks
from fastmail.queue.routes import Routes

# private networks, addresses that providers share out among customers, this machine, one link
INSIDE = tuple(
    networks.parse(one)
    for one in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
        "::1",
    )
)
FAR = {4: "192.0.2.1", 6: "2001:db8::1"}  # addresses for examples, which are nowhere: the usual route leads there
DISCARD = 9


@dataclass(frozen=True, slots=True)
class Sources:
    """``addresses``: that others see; ``inside``: of this machine, that others cannot see; ``smarthost``: the next hop
    that mail of the domain leaves by, empty where it goes to the hosts of its recipients."""

    addresses: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    smarthost: str = ""


def find(relay: Relay, routes: Routes, domain: str) -> Sources:
    """What mail of a domain leaves from. Pools that routes name for it count too."""
    name = comparable(domain)
    route = routes.senders.get(f"@{name}") or routes.domains.get("*")
    if route is not None and route.hop is not None:
        return Sources(smarthost=route.hop.destination)
    pools = {one.pool for pattern, one in routes.senders.items() if pattern.endswith(f"@{name}")}
    pools |= {one.pool for one in routes.domains.values()}
    found = [address for pool in sorted(pools - {""}) for address in routes.pools[pool]]
    if route is None or not route.pool:  # not all mail leaves from a pool
        found += filter(None, (relay.source_ipv4 or own(4), (relay.source_ipv6 or own(6)) if relay.ipv6 else ""))
    found = list(dict.fromkeys(map(networks.plain, found)))
    inside = [one for one in found if is_inside(one)]
    return Sources(tuple(one for one in found if one not in inside), tuple(inside))


def own(version: int) -> str:
    """The address that this machine would send from; empty where it has none that leads anywhere."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((FAR[version], DISCARD))
            return str(sock.getsockname()[0]).partition("%")[0]
    except OSError:
        return ""


def is_inside(address: str) -> bool:
    """Return True for an address that nobody outside can see."""
    return any(networks.address_in(address, network) for network in INSIDE)
