"""What every reader of a site gives, whatever the site's tables look like: a stream of these records.

A reader gives domains first, then accounts, then aliases and lists, then what it cannot give. Sizes are octets. A value
of None says that the site says nothing of it, so nothing of ours is compared with it. Addresses and texts are as the
site has them: the importer (``importing``) checks them, and reports what is wrong with a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

# SiteList.writers
EVERYBODY, ITS_MEMBERS, ITS_ANNOUNCERS = "everybody", "its members", "its announcers"
MEMBERS_AND_ANNOUNCERS = "its members and announcers"
OF_ITS_DOMAIN, OF_THE_SERVER = "accounts of its domain", "accounts of the server"


@dataclass(frozen=True, slots=True)
class SiteDomain:
    """A domain. ``alias_of``: it is another name for that domain, and nothing else of it counts. ``separators``: of
    details, empty for none. ``quota``: of accounts that have none of their own. Limits of 0 are no limits. ``allow``,
    ``block``: senders and networks (directory.named)."""

    name: str
    enabled: bool = True
    alias_of: str = ""
    description: str = ""
    separators: str | None = None
    quota: int = 0
    message_size: int = 0
    footer: str = ""
    footer_html: str = ""
    most_accounts: int = 0
    most_aliases: int = 0
    most_lists: int = 0
    most_octets: int = 0
    most_storage: int = 0
    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RelayDomain:
    """A domain whose mail the site only passes on. Rows of its addresses are counted, and not taken."""

    name: str


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """An automatic answer; without a text there is none. ``begins``, ``ends``: s since 1970, 0 for no bound;
    ``enabled``: it is sent; ``days``: at most one to a sender in so many, 0 for the default."""

    subject: str = ""
    text: str = ""
    begins: int = 0
    ends: int = 0
    enabled: bool = True
    days: int = 0


@dataclass(frozen=True, slots=True)
class SiteAccount:
    """Somebody who logs in. ``password``: ``{SCHEME}hash``; where it is empty, ``why`` says why there is none that can
    be kept. ``quota``: octets, 0 for no limit. ``forward``: where mail goes as well, or with ``keeps`` False instead.
    ``maildir``: where its mail is, a whole path or one below the directory of all mail.
    ``senders``: addresses and ``@domain`` that it may write under. ``role``, ``administers``: as in records.Account."""

    address: str
    password: str
    why: str = ""
    enabled: bool = True
    logs_in: bool | None = None
    receives: bool | None = None
    sends: bool | None = None
    quota: int | None = None
    quota_messages: int | None = None
    forward: tuple[str, ...] = ()
    keeps: bool = True
    senders: tuple[str, ...] = ()
    nets: tuple[str, ...] = ()
    role: str = ""
    administers: tuple[str, ...] = ()
    name: str = ""
    language: str = ""
    notes: str = ""
    answer: SiteAnswer | None = None
    maildir: str = ""


@dataclass(frozen=True, slots=True)
class SiteAlias:
    """Another address, or ``@domain`` for all that are not there. ``expires``: s since 1970, 0 for never; ``internal``:
    for logins of its domain only."""

    address: str
    targets: tuple[str, ...]
    enabled: bool = True
    expires: int = 0
    internal: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class SiteList:
    """A mailing list. ``members``: None where they are not in the database. ``writers``: who may write to it, one of
    EVERYBODY to OF_THE_SERVER, or the site's own word for a group that has no equivalent; ``announcers``: those whom
    ITS_ANNOUNCERS means; ``logins_only``: who may write has to log in. ``owners``: empty where the site names none."""

    address: str
    members: tuple[str, ...] | None
    enabled: bool = True
    name: str = ""
    writers: str = EVERYBODY
    announcers: tuple[str, ...] = ()
    logins_only: bool = False
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Rows that have no equivalent here. ``what``: their kind; ``name``: which one, where it can be named; ``say``:
    what to do about it. Rows of one kind are counted together."""

    what: str
    say: str
    name: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Hint:
    """Something of the site that lies outside the database: where it is, and what to do with it."""

    what: str
    place: str
    say: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that makes no sense; ``name`` is its key."""

    kind: str
    name: str
    why: str


Linked = SiteAccount | SiteAlias | SiteList  # what may lead to other addresses


@dataclass(frozen=True, slots=True)
class SiteScript:
    """A Sieve script of an account that is given before it; see records.Script."""

    address: str
    name: str
    text: str
    active: bool = False
    stage: str = ""


Record = SiteDomain | RelayDomain | Linked | SiteScript | NotTaken | Hint | BadRow
Records = Iterator[Record]


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller knows of the site. ``scheme``: of passwords that do not say theirs; ``domain``: of names without
    one."""

    scheme: str = ""
    domain: str = ""
