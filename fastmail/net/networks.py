"""Networks that the configuration trusts."""

import ipaddress
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse(text: str) -> Network:
    """``10.0.0.0/8`` or an address; ValueError otherwise."""
    return ipaddress.ip_network(text, strict=False)


@lru_cache(4096)
def address_in(host: str, network: Network) -> bool:
    """Is a peer in it? Never for what is not an address."""
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
