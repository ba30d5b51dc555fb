"""Brings peers' addresses to one form, and reads networks from the configuration.

An IPv4 address inside an IPv6 one (``::ffff:192.0.2.1``, RFC 4291 2.5.5.2) is treated as that IPv4 address everywhere,
and so is a network of such addresses: it is the same peer, for bans, limits and trust.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LONGEST = 45  # characters of an address without a zone: the text of one is remembered
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse(text: str) -> Network:
    """Return the network for ``10.0.0.0/8`` or an address; ValueError for other text."""
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        inside = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((inside, network.prefixlen - _MAPPED.prefixlen))
    return network


def address(host: str) -> Address:
    """Return the address of a peer without its zone; ValueError when it is not an address."""
    return _address(host) if len(host) <= LONGEST else _address.__wrapped__(host)


@lru_cache(4096)  # a client's is asked for by each check
def _address(host: str) -> Address:
    found = ipaddress.ip_address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def plain(host: str) -> str:
    """Return the same as text. What is not an address, and an address with a zone, stays unchanged."""
    if ":" not in host:
        return host
    try:
        found = address(host)
    except ValueError:
        return host
    return str(found) if found.version == 4 or "%" not in host else host


@lru_cache(4096)
def is_here(host: str) -> bool:
    """Return True if the peer is on this machine. ``local`` stands for a socket file."""
    try:
        return host == "local" or address(host).is_loopback
    except ValueError:
        return False


@lru_cache(4096)
def address_in(host: str, network: Network) -> bool:
    """Return True if a peer is in the network; False when it is not an address."""
    try:
        return address(host) in network
    except ValueError:
        return False


def narrowest(host: str, networks: Iterable[Network]) -> Network | None:
    """Return the smallest of these networks that a peer is in; None where it is in none."""
    fitting = [one for one in networks if address_in(host, one)]
    return max(fitting, key=lambda one: one.prefixlen) if fitting else None


@lru_cache(4096)
def network_of(host: str) -> str:
    """Return what counts as one peer: its IPv4 address, or its IPv6 /64; empty when it is not an address."""
    try:
        found = address(host)
    except ValueError:
        return ""
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
