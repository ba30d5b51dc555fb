"""The queue's nouns, as they are stored (MessagePack arrays, a version first) and as the relay uses them.

A message is an Item. Its recipients are grouped by where they go: one Job for each destination, which is tried,
deferred and finished as a whole; what is settled for one of its recipients leaves the job. Times are seconds since
1970.
"""

import struct

import msgspec

from fastmail.message import trace, transaction

KEY = struct.Struct(">QH")  # item, number of the job
LOCAL = "local"  # destination of recipients of this server


def number_of(ident: int) -> str:
    """An item's id for people, logs and Received fields."""
    return trace.digits(ident)


def id_of(number: str) -> int:
    """The id behind such a number; ValueError when it is none."""
    return trace.undigits(number.upper())


class Rcpt(msgspec.Struct, array_like=True):
    """One recipient: its address, and what RFC 3461 lets a sender ask (ORCPT as message.orcpt keeps it; NOTIFY in
    capitals, empty for the default)."""

    address: str
    orcpt: str = ""
    notify: str = ""


class Item(msgspec.Struct, array_like=True):
    """One message. ``id`` grows with time. ``record``, ``skip`` and ``length`` say where its content lies; ``size`` is
    the number of octets with CRLF; ``release``: when it may go out, 0 at once. ``by``: when it is to be delivered, 0
    whenever, and ``by_mode`` what happens then (RFC 2852); ``priority``: -9 to 9 (RFC 6710). ``hold``: what the store
    calls the content where it is shared with the mailbox of ``shared_with``, and ``checksum`` its CRC-32 there.
    ``salt``: with ``id`` it is the id of the message's transaction, by which mailboxes know it; ``mailbox``: where
    recipients of this server get it, empty for INBOX; ``owner``: the address here that forwards it, which hears of
    trouble instead of the sender. An older server takes no notice of these three."""

    version: int
    id: int
    sender: str
    arrived: int
    size: int
    record: int = 0
    skip: int = 0
    length: int = 0
    utf8: bool = False
    eight: bool = False
    ret: str = ""
    envid: str = ""
    helo: str = ""
    peer: str = ""
    login: str = ""
    protocol: str = ""
    require_tls: bool = False
    release: int = 0
    by: int = 0
    by_mode: str = ""
    priority: int = 0
    hold: bytes = b""
    shared_with: str = ""
    checksum: int = 0
    salt: bytes = b""
    mailbox: str = ""
    owner: str = ""

    @property
    def number(self) -> str:
        return number_of(self.id)

    @property
    def transaction(self) -> bytes:
        """The id of the mail transaction that it came with."""
        return transaction.make(self.id, self.salt)

    @property
    def begun(self) -> int:
        """When it was first to be sent."""
        return max(self.arrived, self.release)


class Job(msgspec.Struct, array_like=True):
    """What is left to do for one destination. ``due``: when; ``last``: the last reply or trouble; ``late``: the sender
    knows that it was not delivered in time."""

    version: int
    item: int
    number: int
    destination: str
    recipients: list[Rcpt]
    due: int
    attempts: int = 0
    held: bool = False
    warned: bool = False
    last: str = ""
    priority: int = 0
    late: bool = False

    @property
    def key(self) -> bytes:
        return KEY.pack(self.item, self.number)


class Outgoing(msgspec.Struct):
    """A message to be queued: the item without its place, recipients by destination, content with LF in pieces."""

    item: Item
    groups: dict[str, list[Rcpt]]
    content: list[bytes | memoryview]
