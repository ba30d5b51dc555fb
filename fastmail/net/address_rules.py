"""Reads addresses as strangers write them, in a domain (RFC 5321 4.1.3) or in the DNS, and says to which of them no
mail may be sent: this machine, by any of its addresses, and addresses that no mail host can have.

Promise: every address that the DNS or a recipient's domain names is checked with ``barred`` right before a connection
is made to it. Addresses that the administrator names in a route are not checked.
"""

import ipaddress
import socket

# Ranges in which an IPv6 address carries an IPv4 address, and how many bits lie behind it: IPv4-mapped and the old
# IPv4-compatible form (RFC 4291 2.5.5), NAT64 (RFC 6052 2.1, RFC 8215), 6to4 (RFC 3056 2), Teredo (RFC 4380 4).
CARRIERS = (
    ("::ffff:0:0/96", 0),
    ("::/96", 0),
    ("::ffff:0:0:0/96", 0),
    ("64:ff9b::/96", 0),
    ("64:ff9b:1::/48", 0),
    ("2002::/16", 80),
)
_CARRIERS = tuple((ipaddress.IPv6Network(net), shift) for net, shift in CARRIERS)
TEREDO = ipaddress.IPv6Network("2001::/32")  # the client's IPv4 address is its last 32 bits, inverted
ISATAP = (0x00005EFE, 0x02005EFE)  # bits 32 to 64 of an interface's name, in front of an IPv4 address (RFC 5214 6.1)
NOWHERE = ipaddress.IPv4Network("0.0.0.0/8")  # "this network" (RFC 1122 3.2.1.3): systems take it for themselves
DISCARD = 9  # the port that is_own looks up a route for; nothing is ever sent to it
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def literal(text: str) -> str:
    """Return an address literal of a domain, or a bare address, as an address; empty when the text is a name.

    ``[IPv6:...]`` is read as RFC 5321 defines it, with the tag in any case. An address with a zone (``%eth0``) does not
    count as an address."""
    name = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if name[:5].lower() == "ipv6:":
        name = name[5:]
    try:
        return "" if "%" in name else str(ipaddress.ip_address(name.rstrip(".") if name.count(".") > 3 else name))
    except ValueError:
        return ""


def numeric(domain: str) -> bool:
    """Return True for a name that programs may read as an IPv4 address (127.1, 0x7f000001, 2130706433, 0177.0.0.1): its
    last label is a number. No domain has such a name (RFC 1123 2.1)."""
    last = domain.rstrip(".").rpartition(".")[2].lower()
    digits = last.removeprefix("0x")
    if digits != last:
        return all(one in "0123456789abcdef" for one in digits)
    return last.isascii() and last.isdigit()


def barred(address: str) -> str:
    """Return why no mail may be sent to an address that a stranger chose; empty when it may."""
    try:
        place = ipaddress.ip_address(address)
    except ValueError:
        return "is not an address"
    return next((why for one in (place, *_carried(place)) if (why := _barred(one))), "")


def inner(address: str) -> str:
    """Return why an address is not on the public internet, where a stranger's web server would be; empty when it is."""
    why = barred(address)
    if why:
        return why
    place = ipaddress.ip_address(address)
    return "" if all(one.is_global for one in (place, *_carried(place))) else "is in a private network"


def _carried(place: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 address may lead to."""
    if place.version == 4:
        return []
    number = int(place)
    found: list[Address] = [
        ipaddress.IPv4Address(number >> shift & 0xFFFFFFFF) for net, shift in _CARRIERS if place in net
    ]
    if place in TEREDO:
        found.append(ipaddress.IPv4Address(~number & 0xFFFFFFFF))
    if number >> 32 & 0xFFFFFFFF in ISATAP:
        found.append(ipaddress.IPv4Address(number & 0xFFFFFFFF))
    return found


def _barred(place: Address) -> str:
    if place.is_loopback or place.is_unspecified or (place.version == 4 and place in NOWHERE):
        return "is this machine"
    if place.is_link_local or place.is_multicast or (place.version == 4 and place.is_reserved):
        return "is reserved for special uses"
    return "is this machine" if is_own(str(place)) else ""


def is_own(address: str) -> bool:
    """Return True when an interface of this machine has the address, and it is one by which others know the machine.

    The system then uses that address for both ends of a connection to it. Nothing is sent: connecting a datagram socket
    only looks up the route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        place = ipaddress.ip_address(address)
        if place.is_loopback or place.is_unspecified or any(one.is_loopback for one in _carried(place)):
            return False
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address, DISCARD))
            own = sock.getsockname()[0].partition("%")[0]
            return bool(ipaddress.ip_address(own) == place)
    except (OSError, ValueError):
        return False  # there is no route to it
