"""Mail that leaves again: forwards of accounts, and aliases that lead to other hosts.

A message for such an address is taken into the queue like one for this server. When its turn comes, the commit that
settles the recipient queues a message for each address here that forwards it: so it is forwarded once, or the recipient
is as it was. The content stays octet for octet, so a signature on it still fits; in front of it comes a Delivered-To
field of the forwarding address, by which a message that comes back is known (RFC 5321 6.3), and where a setting says so
our ARC set (policy.sealing). The reverse-path is rewritten where its domain is not ours
(directory.srs); none stays none.

Rules for what another host refuses: the sender, whom anybody can have named, is not told by us. The owner is: the
account that forwards, in its own mailbox, and for an alias the postmaster of its domain; of each address once a day,
and only of failures that last. Such a report is not forwarded, and nothing reports about a report.

Junk spoils what others think of the host that passes it on. So, unless a setting says otherwise, an address that keeps
a copy keeps only that, in Junk, and a message that nobody would have here is refused at the end of its data
(``leaves_only``). Where one address keeps a copy of a message and another one only forwards it, the second forwards it
all the same, because nothing may vanish.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from fastmail._core import header
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.directory.interface import AccountRecord
from fastmail.directory.lookup import Destinations, Elsewhere
from fastmail.message import dsn, trace
from fastmail.message.header import Octets
from fastmail.model.address import comparable
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue.model import Item, Outgoing
from fastmail.queue.routes import STRICT, Routes, marked

MOST_HEADER = 1 << 16  # octets of Delivered-To fields that are looked at
REMEMBERED = 10_000
QUIET = 86400.0  # s in which an owner hears once of an address
JUNK_BOX = "Junk"  # where an item goes that was judged junk for everybody
DELIVERED_TO = (b"delivered-to",)


def looping(deliverer: Deliverer, addresses: Iterable[str], content: Octets) -> list[str]:
    """Which of these addresses would forward a message that they forwarded before. What cannot be read was."""
    found = header.values(content, DELIVERED_TO, MOST_HEADER)
    if found is None:
        return list(addresses)
    passed = {comparable(value.strip().decode("utf-8", "replace")) for _, value in found}
    return [
        address
        for address in addresses
        if any(comparable(trace.mailbox(one.via)) in passed for one in deliverer.destinations(address).elsewhere)
    ]


def leaves_only(deliverer: Deliverer, envelope: Envelope) -> bool:
    """True if nobody has the message in a mailbox here: all only forward it, and none is a list."""
    for address, records in envelope.recipients:
        if records or address not in envelope.forwards or deliverer.destinations(address).lists:
            return False
    return True


def is_junk(item: Item, address: str) -> bool:
    """True if a message of the queue was judged junk for a recipient."""
    return item.mailbox == JUNK_BOX or address in item.junk


def kept_back(deliverer: Deliverer, item: Item, address: str, found: Destinations) -> Destinations:
    """Where a recipient of the queue leads, without other hosts if the message is junk and a copy stays here."""
    if not is_junk(item, address) or deliverer.forwards_junk or not (found.accounts and found.elsewhere):
        return found
    return msgspec.structs.replace(found, elsewhere=())


def here(deliverer: Deliverer, item: Item, address: str) -> Destinations:
    """Where a recipient of the queue leads now. A report about a forward stays with its owner, one about mail of a list
    with the list."""
    found = deliverer.destinations(address)
    if not item.owner or item.sender or found.lists:
        return found
    own = deliverer.directory.account(address)
    kept: list[AccountRecord] = [own] if own is not None and own.enabled else found.accounts
    return Destinations(kept or deliverer.postmaster_accounts())


class Told:
    """Which owners heard of which addresses lately."""

    def __init__(self) -> None:
        self._when: OrderedDict[tuple[str, str], float] = OrderedDict()

    def news(self, owner: str, fates: Sequence[dsn.Fate]) -> list[dsn.Fate]:
        """What the owner is to hear: failures of addresses of which it heard nothing for a day."""
        now = time.time()
        out = [
            fate
            for fate in fates
            if fate.action == "failed" and self._when.get((owner, fate.address), 0.0) < now - QUIET
        ]
        for fate in out:
            self._when[owner, fate.address] = now
            self._when.move_to_end((owner, fate.address))
        while len(self._when) > REMEMBERED:
            self._when.popitem(last=False)
        return out


@dataclass(frozen=True, slots=True)
class Forward:
    """A message to other hosts that waits for its commit. ``recipient``: the address that it came for."""

    outgoing: Outgoing
    recipient: str


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Makes messages of forwards. ``new_id``: numbers of the queue."""

    deliverer: Deliverer
    routes: Routes
    new_id: Callable[[], int]

    def of(
        self, item: Item, rcpt: Rcpt, content: bytes, elsewhere: Sequence[Elsewhere], seal: bytes = b""
    ) -> list[Forward]:
        """The messages that a recipient's forwards make, one for each address here that forwards. ``content``: the
        item's, with our Received field; ``seal``: fields of ARC to put in front of it."""
        by_via: dict[tuple[str, str], list[str]] = {}
        for one in elsewhere:
            by_via.setdefault((one.via, one.owner), []).append(one.address)
        return [
            Forward(self._message(item, rcpt, content, via, owner, targets, seal), rcpt.address)
            for (via, owner), targets in by_via.items()
        ]

    def _message(
        self, item: Item, rcpt: Rcpt, content: bytes, via: str, owner: str, targets: Sequence[str], seal: bytes
    ) -> Outgoing:
        srs, asked = self.deliverer.srs, item.options
        sender = srs.forward(item.sender, via) if srs is not None and item.sender else item.sender
        mark = STRICT if asked.require_tls and sender else ""
        notify = "NEVER" if rcpt.notify == "NEVER" else "FAILURE"
        groups: dict[str, list[Rcpt]] = {}
        for target in targets:
            where = marked(self.routes.destination(target.rpartition("@")[2], sender), mark)
            groups.setdefault(where, []).append(Rcpt(target, rcpt.orcpt, notify))
        front = trace.delivered_to(via) + seal
        made = Item(
            self.new_id(),
            sender,
            int(time.time()),
            item.size + len(front) + front.count(b"\n"),
            EsmtpOptions(
                utf8=asked.utf8 or any(not one.isascii() for one in (sender, *targets)),
                ret="HDRS",
                require_tls=asked.require_tls,
                priority=asked.priority,
            ),
            item.eight or not front.isascii(),
            helo=item.helo,
            peer=item.peer,
            protocol=item.protocol,
            owner=owner,
            signed=item.signed,
        )
        return Outgoing(made, groups, [front, content])
