"""The nouns of delivery: a mail transaction's envelope, and what became of each of its recipients."""

from collections.abc import Sequence, Set

from msgspec import Struct

from fastmail.delivery.history import History
from fastmail.directory.interface import AccountRecord
from fastmail.model.errors import TemporaryError
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt
from fastmail.queue.rates import Charge
from fastmail.store.interface import Appended, Delivery

FAILED = 300  # codes from here on say that a recipient does not have the message
LEAVES_NOT = "mail for this address leaves this server, which is switched off"
Kept = tuple[Delivery, Appended]


class Envelope(Struct):
    """One mail transaction. ``recipients``: the address as given, and the accounts behind it (none: another host's);
    ``asked``: what the sender wants to hear of each (RFC 3461). ``options``: the parameters of MAIL. ``login``: who
    sends, when somebody logged in. ``forwards``: recipients of this server whose mail goes by way of the queue: to
    other hosts, too, or only, and to mailing lists (directory.lookup). ``doubted``: the domain of the author that
    the message names does not vouch for it (DMARC). ``tls``: version and cipher of the connection, empty without
    TLS; ``filters``: what the filters made of the message; ``charges``: what it counts in the limits of its login.
    ``signs``: its author is one of ours, and shown to be, so it is signed; ``signed``: the domain of that author,
    once it was; ``checked``: it came from others, and the results on it are ours; ``places``: the mailboxes of
    accounts, by their numbers, that get it elsewhere than the others; ``junk``: those of ``forwards`` that call it
    junk, where others may not; ``feedback``: the value of its Feedback-ID, empty for none; ``fronts``: fields (LF) that
    some recipients' copies have in front."""

    sender: str = ""
    recipients: list[tuple[str, list[AccountRecord]]] = []  # msgspec gives each its own
    asked: list[Rcpt] = []
    options: EsmtpOptions = NO_OPTIONS
    login: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    tls: str = ""
    filters: str = ""
    forwards: set[str] = set()
    charges: Sequence[Charge] = ()
    signs: bool = False
    signed: str = ""
    checked: bool = False
    doubted: bool = False
    places: dict[int, str] = {}
    junk: Set[str] = frozenset()
    feedback: str = ""
    fronts: dict[str, bytes] = {}


class Held(Struct):
    """Content that the store has already, behind the ``skip`` octets that are put in front of it for ``address``.
    ``arrived``: when it came."""

    hold: bytes
    address: str
    skip: int
    arrived: int


class Named(Struct, frozen=True):
    """A message that has a name already: ``number`` for people, ``ident`` of its transaction. ``there``: the store may
    have its content."""

    number: str
    ident: bytes
    there: Held | None = None


class Outcome(Struct):
    """What became of one recipient: an SMTP reply."""

    code: int
    enhanced: str
    text: str

    @property
    def ok(self) -> bool:
        return self.code < FAILED


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The one reply for several recipients: a temporary failure before a permanent one, so that nothing is given up."""
    return max(outcomes, key=lambda outcome: (outcome.code // 100 == 4, outcome.code))


class NotAll(TemporaryError):
    """A message for all or nobody, that not everybody has. ``some``: some accounts can have it; ``worst``: the reply
    for the client, if that is to try again with all of them; ``kept``: what some accounts have all the same. The queue
    can go on with these, by the transaction's id; otherwise ``Deliverer.take_back`` comes before the reply."""

    def __init__(self, outcomes: Sequence[Outcome], some: bool, kept: Sequence[Kept] = ()) -> None:
        self.some = some
        self.kept = kept
        self.worst = worst(outcomes)
        super().__init__(self.worst.text)


def note_accepted(
    history: History,
    number: str,
    envelope: Envelope,
    message_id: str,
    size: int,
    what: str = "accepted",
    **more: object,
) -> None:
    """The first event of a message's life. ``what``: another one with the same particulars, of a message that was not
    accepted."""
    recipients = [address for address, _ in envelope.recipients]
    fields = {
        "sender": envelope.sender,
        "recipients": recipients,
        "message_id": message_id,
        "helo": envelope.helo,
        "peer": envelope.peer,
        "protocol": envelope.protocol,
        "tls": envelope.tls,
        "login": envelope.login,
        "filters": envelope.filters,
        "size": size,
        **more,
    }
    history.add(number, what, (envelope.sender, message_id, *recipients), fields)


def is_postmaster(address: str) -> bool:
    """Of any domain, or with none."""
    return address.partition("@")[0].lower() == "postmaster"
