"""The queue's data types, as the relay uses them. How they are stored is in queue.rows.

A message is an Item. Its recipients are grouped by destination, with one Job for each. A job is attempted, deferred and
finished as a whole; a recipient that is delivered or refused for good leaves it. Times are seconds since 1970.
"""

import struct
from dataclasses import dataclass, field

import msgspec

from fastmail.message import trace, transaction
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt

ITEM_KEY = struct.Struct(">Q")
KEY = struct.Struct(">QH")  # of a job: item, number of the job
LONGEST_NAME = 400  # octets of a destination or domain in a key; LMDB allows 511 in all
DIGITS = 13  # of an id in the form for people, of five bits each
MOST_IDS = 1 << 64
LOCAL = "local"  # the destination of recipients whose mailboxes are on this server


def number_of(ident: int) -> str:
    """Return an item's id in the form for people, logs and Received fields."""
    return trace.digits(ident)


def item_of(key: bytes | memoryview) -> bytes:
    """Return the key of the item in a key of a job, or of the item."""
    return bytes(key[: ITEM_KEY.size])


def id_of(number: str) -> int:
    """Return the id that ``number_of`` wrote; ValueError when the text is not one."""
    found = trace.undigits(number.upper()) if len(number) <= DIGITS else MOST_IDS
    if found >= MOST_IDS:
        raise ValueError("an id is a number of 64 bits")
    return found


@dataclass(slots=True)
class Item:
    """One message.

    - ``id``: grows with time; with ``salt`` it is the id of the message's transaction, by which mailboxes recognise it.
    - ``size``: octets with CRLF; ``eight``: some of them have the eighth bit; ``options``: what the client asked for
      with MAIL.
    - ``record``, ``skip``, ``length``: where the content is.
    - ``hold``: the store's name for the content, where it is shared with the mailbox of ``shared_with``; ``checksum``:
      its CRC-32 in that case.
    - ``mailbox``: where recipients of this server get it, empty for INBOX; ``places``: mailboxes of accounts that get
      it elsewhere, by their numbers; ``junk``: recipients for whom it is junk, where it is not for all.
    - ``owner``: the address here that forwards the message; it gets the reports instead of the sender.
    - ``signed``: the domain of its author, if a signature of ours is on it, which is made anew when its octets change.
    - ``checked``: it came from others, and the results on it are ours (policy.receive).
    - ``mailing_list``: the list that sends it. Its one recipient is to be expanded to members, or, with ``verp``, they
      are its recipients already, and those at other hosts each get a reverse-path of their own.
    - ``token``: a hash of what its owners show who agree to a message that waits for them
      (delivery.lists.moderation); empty for one that does not."""

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
    signed: str = ""
    checked: bool = False
    mailing_list: str = ""
    verp: bool = False
    token: bytes = b""
    places: dict[int, str] = field(default_factory=dict)
    junk: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        return number_of(self.id)

    @property
    def transaction(self) -> bytes:
        """The id of the mail transaction that the message came with."""
        return transaction.make(self.id, self.salt)

    @property
    def begun(self) -> int:
        """The time from which it was to be sent."""
        return max(self.arrived, self.options.release)


class Job(msgspec.Struct, array_like=True):
    """What is left to do for one destination; also its row in the index.

    ``due``: time of the next attempt; ``paused``: not tried until an administrator releases it; ``warned``: the sender
    was told of the delay; ``last``: the last reply or error; ``late``: the sender was told that it missed its time of
    delivery (RFC 2852); ``after``: the member of a mailing list after which its expansion continues; ``agreed``: an
    owner lets it go there. New fields are added at the end; older servers ignore them."""

    version: int
    item: int
    number: int
    destination: str
    recipients: list[Rcpt]
    due: int
    attempts: int = 0
    paused: bool = False
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
    """A message to be queued: its item (the place of the content is filled in later), its recipients by destination,
    and its content with LF in pieces."""

    item: Item
    groups: dict[str, list[Rcpt]]
    content: list[bytes | memoryview]
