"""The queue's nouns, as the relay uses them; queue.rows has how they are stored.

A message is an Item. Its recipients are grouped by where they go: one Job for each destination, which is tried,
deferred and finished as a whole; what is settled for one of its recipients leaves the job. Times are seconds since
1970.
"""

import struct
from dataclasses import dataclass

import msgspec

from fastmail.message import trace, transaction
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt

KEY = struct.Struct(">QH")  # item, number of the job
LOCAL = "local"  # destination of recipients of this server


def number_of(ident: int) -> str:
    """An item's id for people, logs and Received fields."""
    return trace.digits(ident)


def id_of(number: str) -> int:
    """The id behind such a number; ValueError when it is none."""
    return trace.undigits(number.upper())


@dataclass(slots=True)
class Item:
    """One message. ``id`` grows with time. ``options`` are what its client asked for with MAIL. ``record``, ``skip``
    and ``length`` say where the content lies; ``size`` is the number of octets with CRLF, ``eight``: some of them have
    the eighth bit. ``hold``: what the store calls the content where it is shared with the mailbox of ``shared_with``,
    and ``checksum`` its CRC-32 there. ``salt``: with ``id`` it is the id of the message's transaction, by which
    mailboxes know it; ``mailbox``: where recipients of this server get it, empty for INBOX. ``owner``: the address here
    that forwards the message, which hears of trouble instead of the sender. ``mailing_list``: the list that sends it:
    its one recipient is to be expanded to members, or, with ``verp``, they are its recipients already, and those at
    other hosts each get a reverse-path of their own. ``token``: a hash of what its owners show who agree to a message
    that waits for them (delivery.lists.moderation); empty for one that does not."""

    id: int
    sender: str
    arrived: int
    size: int
    options: EsmtpOptions = NO_OPTIONS
    eight: bool = False
    # the client
    helo: str = ""
    peer: str = ""
    login: str = ""
    protocol: str = ""
    # where the content is
    record: int = 0
    skip: int = 0
    length: int = 0
    hold: bytes = b""
    shared_with: str = ""
    checksum: int = 0
    # deliveries here
    salt: bytes = b""
    mailbox: str = ""
    owner: str = ""
    mailing_list: str = ""
    verp: bool = False
    token: bytes = b""

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
        return max(self.arrived, self.options.release)


class Job(msgspec.Struct, array_like=True):
    """What is left to do for one destination, and its row. ``due``: when; ``last``: the last reply or trouble;
    ``late``: the sender knows that it was not delivered in time; ``after``: the member of a mailing list behind which
    its expansion goes on; ``agreed``: an owner lets it go there. New fields go to the end; an older server takes no
    notice of them."""

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
    after: str = ""
    agreed: bool = False

    @property
    def key(self) -> bytes:
        return KEY.pack(self.item, self.number)


class Outgoing(msgspec.Struct):
    """A message to be queued: the item without its place, recipients by destination, content with LF in pieces."""

    item: Item
    groups: dict[str, list[Rcpt]]
    content: list[bytes | memoryview]
