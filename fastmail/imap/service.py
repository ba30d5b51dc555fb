"""What all IMAP sessions of a worker share: the store, the directory, the verifier of logins, the limits, and how
mailboxes of others are shown (RFC 2342, RFC 4314). ``app`` makes one for each worker; sessions only read its fields.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmail.auth.verifier import Verifier
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.durable.staging import Budget
from fastmail.imap.turns import Turns
from fastmail.imap.views import Answers, ViewCache
from fastmail.model.limits import Limits
from fastmail.store.filler import Filler
from fastmail.store.interface import Account, Store

LIST, SUBSCRIBED, OFF = "list", "subscribed", "off"  # values of [store] anyone


@dataclass(slots=True)
class Service:
    """See the module."""

    # who exists, and what is theirs
    hostname: str
    limits: Limits
    store: Store
    verifier: Verifier
    account: Callable[[AccountRecord], Account]
    staging: str
    directory: Directory
    # what the administrator allows
    admins: frozenset[str] = frozenset()
    shared: tuple[str, ...] = ()
    anyone: str = LIST
    admin_contact: str = ""
    filler: Filler | None = None
    # hears of messages that users moved or copied in their own account: account, keys of both mailboxes, UIDs there
    moved: Callable[[Account, bytes, bytes, Sequence[int]], None] | None = None
    plaintext: bool | str = False
    # how names of mailboxes are shown
    separator: str = "/"
    prefix: str = ""
    dotted: bool = False
    # what one session may leave for others, within bounds
    views: ViewCache = field(default_factory=ViewCache)
    answers: Answers = field(default_factory=Answers)
    budget: Budget = field(default_factory=Budget)
    turns: Turns = field(default_factory=Turns)
