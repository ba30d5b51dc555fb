"""What a client says of itself before its mail comes: its name in EHLO (RFC 5321 4.1.1.1), the domain of MAIL FROM, and
the names of its address. Each finding is the name of a reason (verdict.SCORES) with words for people.

- **The name in EHLO** may not be ours, because nobody else has it. Whether it leads to the client's address is not
  asked: that is no reason to refuse mail (RFC 5321 4.1.4). What mail servers rarely say weighs a little: the address of
  another host, a word without a dot, a name that is not in the DNS.
- **The domain of MAIL FROM** has to take reports about the message (RFC 5321 5.1): one that says that it takes no mail
  (a null MX, RFC 7505 4.2), and one that has neither mail host nor address, cannot.
- **Generic names** of addresses (``dsl-192-0-2-1.pool.example.net``) are those of customers, not of mail servers.

Promise: nothing raises for what a client or the DNS says, and DNS trouble is never held against a client, but that its
sender's domain may be asked for again later (``sender.unsure``). Results are kept as long as the answers count.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import inf

from fastmail.dns.interface import FAILED, FOUND, Budget, Names, ask_all
from fastmail.model.domain import ascii_name, comparable
from fastmail.model.errors import BadAddress
from fastmail.net import networks
from fastmail.net.address_rules import is_own, literal, numeric
from fastmail.policy.kept import Kept
from fastmail.policy.reasons import Reply

KEPT = 10_000  # names in EHLO, and domains of senders, whose results are kept
OWN, LITERAL, BARE, UNRESOLVED = "helo.own", "helo.literal", "helo.bare", "helo.unresolved"
GENERIC = "reverse.generic"
NULL_MX, NO_HOST, UNSURE = "sender.null_mx", "sender.no_host", "sender.unsure"
Finding = tuple[str, str]  # the name of a reason, and why
REFUSALS: dict[str, Reply] = {  # of findings that say enough to refuse a message, where the settings want that
    OWN: (550, "5.7.1", "the name in your EHLO is this server's own, say that of your host"),
    NULL_MX: (550, "5.7.27", "the sender's domain takes no mail, so it cannot be told of trouble (RFC 7505)"),
    NO_HOST: (550, "5.1.8", "the sender's domain has neither a mail host nor an address"),
    UNSURE: (450, "4.1.8", "the sender's domain cannot be looked up now, try again later"),
}
_WORDS = re.compile(
    r"(?:^|[.\-_\d])(?:dyn|dynamic|dynip|dhcp|pool|ppp|pppoe|[avx]?dsl|cable|catv|dial|dialup|dialin|dip|broadband|"
    r"ftt[hpx]|residential|customers?|cust|subs|user|mobile|nat|cgnat|unassigned)(?:$|[.\-_\d])"
)
_NUMBERS = re.compile(r"\d+")
_APART = re.compile(r"[^0-9a-f]")


class Claims:
    """Checks what clients say; one for each worker. ``hostname``: our name."""

    def __init__(self, names: Names, hostname: str) -> None:
        self._names = names
        self._hostname = comparable(hostname)
        self._hellos: Kept[str, Sequence[Finding]] = Kept(KEPT)
        self._senders: Kept[str, Sequence[Finding]] = Kept(KEPT)

    def known_helo(self, ip: str, helo: str) -> Sequence[Finding] | None:
        """What is known of a name without asking the DNS."""
        found = self._at_once(ip, helo)
        return found if found is not None else self._hellos.get(comparable(helo))

    def helo_until(self, ip: str, helo: str) -> float:
        """As long as that counts, by the monotonic clock; 0 where nothing is known."""
        return inf if self._at_once(ip, helo) is not None else self._hellos.until(comparable(helo))

    def _at_once(self, ip: str, helo: str) -> Sequence[Finding] | None:
        name = comparable(helo)
        if name == self._hostname:
            return ((OWN, helo),)
        address = literal(helo)
        if address:
            return _address(address, ip, bracketed=helo.startswith("["))
        if "." not in name or numeric(name):
            return ((BARE, f"{helo} is no name of a host on the Internet"),)
        return None

    async def helo(self, ip: str, helo: str, budget: Budget) -> Sequence[Finding]:
        """What speaks against a name in EHLO."""
        known = self.known_helo(ip, helo)
        if known is not None:
            return known
        try:
            name = ascii_name(helo)
        except BadAddress:
            return ((BARE, f"{helo} is no name of a host"),)
        answers = await ask_all(self._names, [(name, "A"), (name, "AAAA")], budget)
        if all(one.void for one in answers):
            answers += await ask_all(self._names, [(name, "MX")], budget)  # RFC 5321 2.3.5 knows these names too
        void = all(one.void for one in answers)
        found: Sequence[Finding] = ((UNRESOLVED, f"{helo} is not in the DNS"),) if void else ()
        if void or any(one.state == FOUND for one in answers):
            self._hellos.put(comparable(helo), found, min(one.until for one in answers))
        return found

    def known_sender(self, domain: str) -> Sequence[Finding] | None:
        """What is known of the domain of MAIL FROM without asking the DNS."""
        if not domain or literal(domain):
            return ()
        return self._senders.get(comparable(domain))

    def sender_until(self, domain: str) -> float:
        """As long as that counts, by the monotonic clock; 0 where nothing is known."""
        return inf if not domain or literal(domain) else self._senders.until(comparable(domain))

    async def sender(self, domain: str, budget: Budget) -> Sequence[Finding]:
        """What speaks against the domain of MAIL FROM; empty is that of a null sender."""
        known = self.known_sender(domain)
        if known is not None:
            return known
        try:
            name = ascii_name(domain)
        except BadAddress:
            return ((NO_HOST, f"{domain} is no domain"),)
        answers = await ask_all(self._names, [(name, "MX")], budget)
        hosts = [host for _, host in answers[0].records] if answers[0].state == FOUND else []
        if answers[0].void:  # then its address is its mail host (RFC 5321 5.1)
            answers += await ask_all(self._names, [(name, "A"), (name, "AAAA")], budget)
        found: Sequence[Finding] = ()
        if hosts and all(not host.rstrip(".") for host in hosts):
            found = ((NULL_MX, f"{domain} says that it takes no mail"),)
        elif all(one.void for one in answers):
            found = ((NO_HOST, f"{domain} has neither a mail host nor an address"),)
        elif not any(one.state == FOUND for one in answers):
            return ((UNSURE, next(one.why for one in answers if one.state == FAILED)),)
        self._senders.put(comparable(domain), found, min(one.until for one in answers))
        return found


def _address(address: str, ip: str, bracketed: bool) -> Sequence[Finding]:
    """An address in place of a name."""
    try:
        same = networks.address(address) == networks.address(ip)
    except ValueError:
        same = False
    if same:
        return () if bracketed else ((BARE, f"{address} without brackets"),)
    return ((OWN, address),) if is_own(address) else ((LITERAL, f"{address} is another host's"),)


def refusal(noted: Sequence[Finding], helo: bool, sender: bool) -> Reply | None:
    """The reply to the first finding that is enough by itself. ``helo``, ``sender``: whether those of the name in EHLO
    are, and those of the sender's domain."""
    if not (helo or sender):
        return None
    refusing = {"helo": helo, "sender": sender}
    replies = (REFUSALS.get(name) for name, _ in noted if refusing.get(name.partition(".")[0]))
    return next((reply for reply in replies if reply is not None), None)


def generic(name: str, ip: str) -> Sequence[Finding]:
    """What speaks against the name that a client's address has in the DNS."""
    return ((GENERIC, name),) if name and _is_generic(name.lower(), ip) else ()


@lru_cache(4096)
def _is_generic(name: str, ip: str) -> bool:
    if _WORDS.search(name):
        return True
    try:
        address = networks.address(ip)
    except ValueError:
        return False
    digits = address.packed.hex()
    if address.version == 6:  # the half that tells hosts apart, in any grouping
        return digits[16:].lstrip("0")[-8:] in _APART.sub("", name) and len(digits[16:].lstrip("0")) >= 8
    octets = [str(octet) for octet in address.packed]
    numbers = [number.lstrip("0") or "0" for number in _NUMBERS.findall(name)]
    orders = (octets, octets[::-1], octets[1:], octets[:0:-1])
    if any(_in_order(order, numbers) for order in orders):
        return True
    joined = {"".join(f"{int(octet):03d}" for octet in octets), digits}
    return any(one in name for one in joined)


def _in_order(wanted: Sequence[str], numbers: Sequence[str]) -> bool:
    """Do these stand beside each other among the numbers?"""
    size = len(wanted)
    return any(list(numbers[at : at + size]) == list(wanted) for at in range(len(numbers) - size + 1))
