"""The nouns of the directory, as they are stored (directory.rows) and as everybody uses them.

Fields are stored by name and only where they differ from what is stated here, so a new field costs old rows nothing: a
row without it has the default. A field is never given another meaning; a change of meaning is a new name and a new
layout (directory.upgrade), which an older program refuses to open.
"""

import msgspec

from fastmail.model.quota import NO_QUOTA, Quota

NO_MAIL, LATER = 550, 450  # Domain.off_reply
PLUS = "+"
LOCAL = "local"  # Domain.source: its accounts are kept here
SERVER, OF_DOMAINS, HELPDESK = "server", "domain", "helpdesk"  # Account.role
RSA, ED25519 = "rsa", "ed25519"  # DkimKey.kind
WAITING, PUBLISHED, ACTIVE, RETIRED, REVOKED = "waiting", "published", "active", "retired", "revoked"  # DkimKey.state
REFUSED, TO_JUNK = "refuse", "junk"  # Domain.blocked, Account.blocked
PUBLIC, MEMBERS, ANNOUNCERS, INSIDE, MODERATED = "public", "members", "announcers", "domain", "moderated"  # List.mode
AUTHOR, LIST = "author", "list"  # List.reply_to
NEVER, DEMANDED, ALWAYS = "never", "demanded", "always"  # List.rewrite_from
CLOSED, OPEN = "closed", "open"  # List.joins
SUSPENDED, UNCONFIRMED, LEFT = "suspended", "unconfirmed", "left"  # Member.state, beside ACTIVE
TAG, REFUSE = "tag", "refuse"  # Domain.batv
BOUNCE_DAYS = 5


class DkimKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key that mail of a domain is signed with: its selector, its kind (rsa, ed25519) and the private key's file,
    below the data directory.

    ``state``: waiting (the DNS is to get its public half), published (it was seen there), active (mail is signed with
    it), retired (no more, but mail that was is still on its way) or revoked (its file is gone). ``made``, ``since``: s
    since 1970 when it was made, and when it came into this state. An older fastmail takes no notice of these three, and
    signs nothing.
    """

    selector: str
    kind: str = ""
    file: str = ""
    state: str = WAITING
    made: int = 0
    since: int = 0


class Domain(msgspec.Struct, frozen=True, omit_defaults=True):
    """A domain that this server takes mail for.

    ``name``: with the labels (A-labels or U-labels) that it was added with, because it is the name of a directory.
    ``enabled``: takes mail and lets its accounts log in; ``off_reply``: the code that senders hear otherwise.
    ``alias_of``: it is another name for the whole of that domain, and has no addresses of its own.
    ``separators``: characters that begin a detail (``me+x``); empty for none.
    ``postmaster``: who gets mail for postmaster and abuse where these are no accounts or aliases.
    ``most_accounts``, ``most_aliases``: how many may be made; ``most_storage``: octets that one account may have.
    ``most_octets``: of all its accounts together; ``message_size``: octets of one message to or from an account;
    ``recipients_per_hour``, ``messages_per_hour``: what all its accounts together may send. 0 is always no limit.
    ``most_lists``: how many mailing lists it may have.
    ``quota``: of accounts that have none of their own. ``app_passwords_only``: the main password opens no mail session.
    ``footer``, ``footer_html``: for mail that leaves; ``dkim``: keys.
    ``source``: where its accounts come from (directory.origins): LOCAL, the name of a source, or empty for what the
    ``[directory]`` section says. An older fastmail takes no notice, and would let that section have all domains.
    ``allow``, ``block``: senders and networks (directory.named); ``blocked``: what becomes of mail from those (refuse,
    junk); ``junk_score``, ``refuse_score``, ``greylist``, ``enforce``: how mail from others is judged. None, or an
    empty text, is what [policy] says. An older fastmail takes no notice of these seven, and judges by [policy] alone.
    ``batv``: TAG its envelope senders, REFUSE reports without a tag too, or empty for neither (directory.batv); an
    older fastmail takes no notice, and knows no address with a tag.
    ``said``: names of the fields that its source says now (directory.told); they are changed there. ``gone``: the
    source named the domain before and does not now, so it is switched off. An older fastmail takes no notice of both.
    """

    name: str
    enabled: bool = True
    off_reply: int = NO_MAIL
    description: str = ""
    alias_of: str = ""
    separators: str = PLUS
    postmaster: tuple[str, ...] = ()
    most_accounts: int = 0
    most_aliases: int = 0
    most_lists: int = 0
    most_octets: int = 0
    most_storage: int = 0
    message_size: int = 0
    recipients_per_hour: int = 0
    messages_per_hour: int = 0
    quota: Quota = NO_QUOTA
    app_passwords_only: bool = False
    footer: str = ""
    footer_html: str = ""
    dkim: tuple[DkimKey, ...] = ()
    source: str = ""
    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    blocked: str = ""
    junk_score: float | None = None
    refuse_score: float | None = None
    greylist: bool | None = None
    enforce: bool | None = None
    batv: str = ""
    said: tuple[str, ...] = ()
    gone: bool = False


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An automatic answer, kept for those who will send it. ``text``, ``html``: one of them or both; ``begins``,
    ``ends``: s since 1970, 0 for no bound. ``enabled``: it is to be sent; rows of an older fastmail do not say so.
    ``days``: at most one answer to a sender in so many, 0 for the default; ``addresses``: besides the account's own,
    those at which it answers (RFC 5230 4.1, 4.5)."""

    subject: str = ""
    text: str = ""
    begins: int = 0
    ends: int = 0
    html: str = ""
    enabled: bool = False
    days: int = 0
    addresses: tuple[str, ...] = ()


NO_ANSWER = Answer()


class Account(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who logs in and gets mail. ``id`` is never given twice.

    ``password`` is ``{SCHEME}hash``; ``scram``: keys as auth.schemes makes them, empty when there are none.
    ``enabled`` False: it is treated like an account that is not there; a source of accounts says so of those that are
    gone. ``home``, ``maildir``: where the source says that its home and its mail are. ``nets``: from where it
    may log in, empty for everywhere; ``nologin``: why the source bars it, empty where it does not (directory.access).
    ``logs_in``, ``receives``, ``sends``: what it may do. ``suspended``: why it may neither log in nor send, for
    support: its user hears only that.
    ``stopped``: why the server switched ``sends`` off by itself (relay.suspicion), for support; an older fastmail keeps
    it switched off, and loses the reason when it changes the row.
    ``forward``: where its mail goes as well, or with ``keeps`` False instead.
    ``senders``: addresses, or ``@domain``, that it may write under besides its own.
    ``role``: what it may administer (server, domain, helpdesk; empty for nothing), ``administers``: which domains.
    ``name``, ``language``, ``zone`` (of time), ``notes``: for people; ``created``: s since 1970, 0 where nobody knows.
    ``message_size``: octets of one message to or from it; ``recipients_per_hour``, ``messages_per_hour``: what it may
    send. ``answer``: see Answer. ``placed``: the address that its Maildir is called by, where that is
    another one, as after a change of name; a row with it has version 2 (directory.rows). ``allow`` to ``enforce``: as
    in Domain, for its own copies alone; None, or an empty text, is what its domain says. ``said``: as in Domain, but
    for what a source says of each account (whether it is there, its password, conditions on its logins).
    """

    id: int
    address: str
    password: str
    enabled: bool = True
    quota: Quota = NO_QUOTA
    scram: str = ""
    home: str = ""
    maildir: str = ""
    nets: str = ""
    nologin: str = ""
    logs_in: bool = True
    receives: bool = True
    sends: bool = True
    suspended: str = ""
    forward: tuple[str, ...] = ()
    keeps: bool = True
    senders: tuple[str, ...] = ()
    role: str = ""
    administers: tuple[str, ...] = ()
    name: str = ""
    language: str = ""
    zone: str = ""
    notes: str = ""
    created: int = 0
    message_size: int = 0
    recipients_per_hour: int = 0
    answer: Answer = NO_ANSWER
    messages_per_hour: int = 0
    placed: str = ""
    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    blocked: str = ""
    junk_score: float | None = None
    refuse_score: float | None = None
    greylist: bool | None = None
    enforce: bool | None = None
    stopped: str = ""
    said: tuple[str, ...] = ()


class Alias(msgspec.Struct, frozen=True, omit_defaults=True):
    """Another address, whose mail goes to ``targets``, here or at other hosts. ``@domain`` is the domain's catch-all.

    ``enabled`` False, or ``expires`` (s since 1970; 0 for never) in the past: nobody gets its mail, not even the
    catch-all. ``internal``: only those who are logged in as an account of the same domain may write to it. ``source``:
    a source that is followed keeps it (directory.external), and changes or removes it; an older fastmail takes no
    notice.
    """

    address: str
    targets: tuple[str, ...]
    enabled: bool = True
    expires: int = 0
    internal: bool = False
    note: str = ""
    source: bool = False


class List(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailing list: what comes to its address goes to its members, each a row of its own (Member).

    ``enabled`` False: nobody gets its mail, not even the catch-all. ``owners``: who hears of it, and gets mail for its
    ``-owner`` address. ``name``, ``description``: for people, and in List-Id.
    ``mode``: who may write to it. PUBLIC: everybody; MEMBERS; ANNOUNCERS: those whom ``announcers`` names; INSIDE: who
    is logged in as an account of its domain; MODERATED: what anybody writes waits until an owner agrees.
    ``logins_only``: only those who are logged in may write, whatever the mode.
    ``joins``: OPEN lets people join by mail, CLOSED leaves that to owners; everybody may leave by mail.
    ``tag``: what its mails have in front of their subjects; ``footer``: text behind them; empty for none.
    ``reply_to``: AUTHOR leaves Reply-To as it is, LIST makes it the list's address.
    ``rewrite_from``: whether the list's address stands in From: NEVER, ALWAYS, or DEMANDED, where the author's domain
    asks receivers to refuse or to set aside what fails DMARC.
    ``bounce_days``: a member is suspended whose mail came back on so many days; 0 for never. ``created``: s since 1970.
    ``formerly``: addresses that it had before, the last one first; tokens made under them count. An older fastmail
    takes no notice of them. ``said``, ``gone``: as in Domain; a list that a source keeps has ``enabled`` in ``said``.
    """

    address: str
    name: str = ""
    enabled: bool = True
    owners: tuple[str, ...] = ()
    description: str = ""
    mode: str = MEMBERS
    announcers: tuple[str, ...] = ()
    logins_only: bool = False
    joins: str = CLOSED
    tag: str = ""
    footer: str = ""
    reply_to: str = AUTHOR
    rewrite_from: str = DEMANDED
    bounce_days: int = BOUNCE_DAYS
    created: int = 0
    formerly: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    gone: bool = False


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member of a mailing list. ``state``: only ACTIVE ones get its mail; SUSPENDED: by an owner (``bounces`` is 0),
    or because mail to it came back, and then it may resume by mail; UNCONFIRMED: it has not agreed yet. ``bounces``:
    days on which mail came back, ``bounced``: the last time; ``joined``; s since 1970, 0 for never. ``source``: a
    source that is followed names it, and removes it by naming it no more. LEFT: such a member left; the row is there
    so that the source does not bring it back, and nobody counts it as a member (an older fastmail shows it, and sends
    it nothing)."""

    address: str
    name: str = ""
    state: str = ACTIVE
    bounces: int = 0
    bounced: int = 0
    joined: int = 0
    source: bool = False


class AppPassword(msgspec.Struct, frozen=True, omit_defaults=True):
    """A password for one program of an account. ``digest``: SHA-256 of it; its first octets are the key of the row.
    ``protocols``: where it counts (imap, pop3, smtp), empty for everywhere; ``nets`` as in Account; ``expires``: s
    since 1970, 0 for never. ``enabled`` False: it counts nowhere; an older fastmail takes no notice of that."""

    digest: bytes
    name: str
    created: int = 0
    protocols: tuple[str, ...] = ()
    nets: str = ""
    expires: int = 0
    enabled: bool = True


class Totp(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one-time codes of somebody who administers (RFC 6238). ``secret``: the key that both sides have; ``made``: s
    since 1970; ``confirmed``: when a first code of it was shown, 0 while no login asks for one. ``step``: the last time
    step whose code was used: no code of it or before counts again. ``recovery``: SHA-256 of the codes for a lost
    device, each of which counts once. ``failed``: wrong codes since the last right one; ``until``: s since 1970 before
    which no code is looked at. ``sealed``: in a stored row, in place of ``secret``, which is empty there: the same,
    sealed (directory.sealing); such a row has version 3. Rows of an older fastmail have the secret as it is, until they
    are written again. A fastmail that knows no version 3 lets nobody in whose row has it; one that is older still takes
    no notice of these rows, nor of passkeys: the password is enough for it."""

    secret: bytes
    made: int = 0
    confirmed: int = 0
    step: int = 0
    recovery: tuple[bytes, ...] = ()
    failed: int = 0
    until: int = 0
    sealed: bytes = b""


class Passkey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A public key of a device of somebody who administers (WebAuthn). ``id``: of the credential; the first octets of
    its SHA-256 are in the key of the row. ``public_key``: COSE_Key (RFC 9052 7). ``sign_count``: what the device
    counted at the last login, 0 where it does not count. ``transports``: how browsers may reach the device; ``made``,
    ``used``: s since 1970, 0 for never."""

    id: bytes
    public_key: bytes
    name: str
    sign_count: int = 0
    transports: tuple[str, ...] = ()
    made: int = 0
    used: int = 0


class Script(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Sieve script of an account (RFC 5228). ``active``: it was run where it comes from; ``stage``: before or behind
    the user's own there ("prefilter", "postfilter"), empty for the user's own."""

    name: str
    text: str
    active: bool = False
    stage: str = ""


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """Accounts that are given rights together, as ``$name`` (RFC 4314 2). ``name``: ``local@domain``; ``members``:
    numbers of accounts (directory.membership). ``source``: whoever keeps the accounts keeps it, too."""

    name: str
    members: tuple[int, ...] = ()
    description: str = ""
    source: bool = False


class Renamed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of name that the mail store has still to follow: addresses, or ``@domain`` for all of a domain."""

    old: str
    new: str


class Used(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last logins of an account or with an app password: s since 1970, by protocol."""

    last: dict[str, int] = {}


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the audit log: when (s since 1970) who did what to which thing. ``text``: the fields that changed, never
    a password."""

    at: int
    who: str
    what: str
    name: str
    text: str = ""
