"""What is asked of a scanner, and how it is configured."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail.message.header import Octets

CLAMAV, SPAMASSASSIN, RSPAMD = KINDS = ("clamav", "spamassassin", "rspamd")
STRANGERS, USERS = PLACES = ("smtp", "submission")  # whose mail is scanned
LEARN = (SPAMASSASSIN, RSPAMD)  # kinds that can be taught, and know users
ACCEPT, DEFER, REFUSE = WHEN_AWAY = ("accept", "defer", "refuse")
VIRUS = ("refuse", "junk", "quarantine")  # what is done with an infected message
# octets of the largest message that is sent, as the programs come configured: clamd's StreamMaxLength, what spamc
# sends; rspamd takes more by default, but that is seldom worth the time
LARGEST = {CLAMAV: 25 << 20, SPAMASSASSIN: 500 << 10, RSPAMD: 10 << 20}


class Trouble(Exception):
    """The scanner gives no answer that can be used; str() says why."""


class TooLarge(Exception):
    """The scanner says that the message is larger than it takes."""


@dataclass(frozen=True, slots=True)
class Scanner:
    """One scanner. ``address``: "host:port" or "unix:path"; ``on``: of PLACES; ``seconds``: for a whole exchange, the
    wait for its turn too; ``largest``: octets; ``when_away``: of WHEN_AWAY; ``virus``: of VIRUS; ``weight``: its score
    is multiplied by that; ``at_once``: messages that it is shown at the same time by this process; ``rewrite_subject``:
    rspamd may give a message another Subject; ``learns``: where it is taught, empty for nowhere, and ``password``: for
    that; ``per_user``: it hears whose message it is, when it judges and when it learns."""

    kind: str
    address: str
    name: str
    on: frozenset[str] = frozenset((STRANGERS,))
    seconds: float = 20.0
    largest: int = 25 << 20
    when_away: str = ACCEPT
    virus: str = REFUSE
    weight: float = 1.0
    at_once: int = 8
    rewrite_subject: bool = False
    learns: str = ""
    password: str = field(default="", repr=False)
    per_user: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as scanners are shown it. ``content`` (LF) may be a mapping of a file. ``front``: fields that are put
    in front of it for scanners that read trace fields. ``ip``, ``helo`` and ``host`` (its verified name, or empty): of
    the client; ``login``: who sends, when somebody logged in; ``number``: how logs call the transaction; ``owner``: the
    address of the one account that a stranger's message is for, empty where there is none, or several."""

    content: Octets
    front: bytes = b""
    sender: str = ""
    recipients: Sequence[str] = ()
    ip: str = ""
    helo: str = ""
    host: str = ""
    login: str = ""
    number: str = ""
    hostname: str = ""
    owner: str = ""
