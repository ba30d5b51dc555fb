"""Where a mailbox name leads, and what the session may do there: the only layer that checks rights (RFC 4314 4).

There are three namespaces (RFC 2342): the account's own mailboxes without a prefix; ``Other Users/<address>/...`` for
mailboxes that others let it see; ``Shared/<name>/...`` for accounts that the configuration shares with their domain.
All other code of a session works with a Place: the owner's account, the mailbox's name there, and the rights.

A mailbox that the session may not see does not exist for it: the answer is the same, and so is the work, whether it
does not exist, may not be seen, or belongs to an address without an account. Such a name is never one of the session's
own mailboxes, and nothing is opened or searched in an account that shares nothing with it. Who shares something with an
account is noted in that account's own row; the note is a hint, the list of rights decides.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fastmail.imap.service import OFF, SUBSCRIBED, Service
from fastmail.imap.state import Session
from fastmail.model import rights
from fastmail.model.address import comparable
from fastmail.model.errors import CannotDo, DamagedAccount, NoPermission, NoSuchMailbox
from fastmail.model.mailbox_name import INBOX, canonical, is_inbox
from fastmail.store import sharing
from fastmail.store.interface import Account, Listing, Mailbox, Snapshot
from fastmail.telemetry.counters import count

OTHER = "Other Users"
NOBODY = Account(0, "nobody@invalid")  # owner of names with an address without an account; account numbers begin with 1
SHARED = "Shared"


@dataclass(slots=True)
class Place:
    """A mailbox as a session sees it: ``name`` in its owner's ``account``, ``shown`` to this client (with "/")."""

    account: Account
    name: str
    shown: str
    rights: str
    key: bytes | None = None


# -------------------------------------------------------------------- names


def _dots(session: Session, level: str) -> str:
    """Convert an address to a level of a name: if the separator is a dot, dots of addresses are shown as ^."""
    return level.replace(".", "^") if session.service.separator == "." else level


def _plain(session: Session, level: str) -> str:
    """Convert such a level back to an address."""
    return level.replace("^", ".") if session.service.separator == "." else level


def full_name(session: Session, text: str) -> str:
    """Return a client's name as it is stored and compared, with "/" between levels; CannotDo for one that cannot
    exist."""
    sep = session.service.separator
    top, _, rest = text.partition(sep)
    if top in (OTHER, SHARED) and rest:
        user, _, below = rest.partition(sep)
        if below and _is_foreign(session, top, user.lower()):
            return f"{top}/{user.lower()}/{canonical(below, sep, session.service.dotted, new=False)}"
    return own_name(session, personal(session.service, text))


def _prefixed(prefix: str, separator: str) -> str:
    return prefix.replace(separator, "/")


def personal(service: Service, text: str) -> str:
    """Return a client's name for the account's own mailbox as the store has it; INBOX needs no prefix."""
    sep, prefix = service.separator, service.prefix
    if is_inbox(text):
        return INBOX
    if text[: len(prefix)].upper() != prefix.upper():
        raise CannotDo(f"names of mailboxes begin with {prefix}")
    return canonical(text[len(prefix) :], sep, service.dotted, new=False)


def own_name(session: Session, name: str) -> str:
    """Return the account's own mailbox as the client knows it, with "/"."""
    return name if name == INBOX else _prefixed(session.service.prefix, session.service.separator) + name


def shown_name(session: Session, name: str) -> str:
    """Return the same for a subscription, which may be to a mailbox of another account."""
    return name if name.partition("/")[0] in (OTHER, SHARED) else own_name(session, name)


def shared(session: Session) -> Iterator[str]:
    """Yield the addresses of the shared accounts of this session's domain."""
    assert session.account is not None
    domain = rights.domain_of(comparable(session.account.address))
    for address in session.service.shared:
        if rights.domain_of(address) == domain:
            yield address


def _is_foreign(session: Session, top: str, level: str) -> bool:
    """True if a prefix names mailboxes of others, whether or not there is such an account."""
    return bool(_address(session, top, level))


def _address(session: Session, top: str, level: str) -> str:
    """Return whose mailboxes a prefix names; empty if it is no such prefix."""
    name = _plain(session, level)
    if top == OTHER:
        return name if "@" in name else ""
    return next((one for one in shared(session) if one.partition("@")[0] == name), "") if top == SHARED else ""


def _owner(session: Session, top: str, level: str) -> Account | None:
    """Return the same as an account: NOBODY if there is none or it is switched off; None for the session's own
    names."""
    address = _address(session, top, level)
    if not address:
        return None
    try:
        record = session.service.directory.account(address)
    except DamagedAccount:
        record = None
    return session.service.account(record) if record is not None and record.enabled else NOBODY


def _prefix(session: Session, owner: Account) -> str:
    if comparable(owner.address) in shared(session):
        return f"{SHARED}/{_dots(session, owner.address.partition('@')[0])}/"
    return f"{OTHER}/{_dots(session, owner.address)}/"


def split(session: Session, name: str) -> tuple[Account, str]:
    """Return (owner, the owner's name for the mailbox) of a full name."""
    assert session.account is not None
    top, _, rest = name.partition("/")
    if top in (OTHER, SHARED):
        user, _, below = rest.partition("/")
        owner = _owner(session, top, user) if below else None
        if owner is not None:
            return owner, below
    prefix = _prefixed(session.service.prefix, session.service.separator)
    return session.account, name if name == INBOX else name.removeprefix(prefix)


def subscription(session: Session, name: str) -> str:
    """Return a full name as it is stored among the subscriptions."""
    owner, inner = split(session, name)
    return inner if owner == session.account else name


# -------------------------------------------------------------------- rights


def _anyone_counts(session: Session, owner: Account) -> bool:
    """True if rights that the owner granted to ``anyone`` count. Those of shared accounts always do."""
    return session.service.anyone != OFF or owner.address in session.service.shared


def refuse_anyone(session: Session, who: str, owner: Account) -> None:
    """Raise NoPermission if the owner may not grant rights to this identifier."""
    if who == rights.ANYONE and not _anyone_counts(session, owner):
        raise NoPermission("rights for anyone are switched off here")


def _groups(session: Session) -> frozenset[str]:
    """The groups that the session's account is in now."""
    assert session.account is not None
    return session.service.directory.groups_of(session.account.id)


def _sharing(session: Session) -> set[str]:
    """Addresses of accounts that may share something with this one, beside the shared ones."""
    assert session.account is not None
    return sharing.givers(session.service.store, session.account, _groups(session))


def _named(session: Session, snapshot: Snapshot, owner: Account, key: bytes) -> bool:
    """True if the session may see a mailbox by its own entry in the list, not as anyone."""
    assert session.account is not None
    acl = rights.load(snapshot.note(key, sharing.ACL))
    return "l" in rights.evaluate(acl, owner.address, session.account.address, False, _groups(session))


def granted(session: Session, snapshot: Snapshot, owner: Account, key: bytes) -> str:
    """Return the session's rights on a mailbox."""
    assert session.account is not None
    stored = snapshot.note(key, sharing.ACL)
    if stored is None and owner is session.account:
        found = rights.ALL
    else:
        counts = _anyone_counts(session, owner)
        acl = rights.load(stored)
        found = rights.evaluate(acl, owner.address, session.account.address, counts, _groups(session))
        if session.account.address in session.service.admins:
            found = rights.union(found, rights.OWNERS)
    return found if not session.service.store.read_only else rights.minus(found, rights.CHANGES)


def locate(session: Session, name: str) -> Place:
    """Return where a full name leads now; the place has no key if there is nothing."""
    owner, inner = split(session, name)
    store = session.service.store
    place = Place(owner, inner, name, "", store.find(owner, inner))
    if place.key is not None:
        with store.snapshot(owner) as snapshot:
            place.rights = granted(session, snapshot, owner, place.key)
    elif owner is not session.account:
        _nothing(session)
    return place


def _nothing(session: Session) -> None:
    """Do for a mailbox that does not exist the work that finding it hidden would cost, so that timing tells nothing."""
    assert session.account is not None
    store = session.service.store
    key = store.find(session.account, INBOX) or b""
    with store.snapshot(session.account) as snapshot:
        snapshot.mailbox(key)
        granted(session, snapshot, NOBODY, key)


def _shares(session: Session, owner: Account) -> bool:
    """True if the owner of a mailbox may share something with this session; only then are its folders looked at."""
    assert session.account is not None
    if owner == session.account or session.account.address in session.service.admins:
        return owner is not NOBODY
    return owner.address in shared(session) or owner.address in _sharing(session)


async def find(session: Session, name: str, needs: str = "") -> Place:
    """Return the mailbox. NoSuchMailbox if there is none for this session, NoPermission without one of ``needs``."""
    place = locate(session, name)
    if not place.rights and _shares(session, place.account):
        await session.service.store.listing(place.account)  # perhaps another program has just created its folder
        place = locate(session, name)
    return check(place, needs)


def glance(session: Session, name: str) -> tuple[Place, Mailbox, Mailbox | None] | None:
    """The same with the mailbox's row, where it is there, may be read and needs no look at what other programs did;
    else None. Behind them the row of the selected mailbox at that moment, when it is of the same account."""
    owner, inner = split(session, name)
    store = session.service.store
    key = store.find(owner, inner)
    if key is None:
        if owner is not session.account:
            _nothing(session)
        return None
    with store.snapshot(owner) as snapshot:
        box = snapshot.mailbox(key)
        letters = granted(session, snapshot, owner, key)
        own, selected = None, session.selected
        if selected is not None and selected.account == owner:
            own = box if selected.key == key else snapshot.mailbox(selected.key)
    if box is None or "r" not in letters or not store.is_up_to_date(owner, box):
        return None
    return Place(owner, inner, name, letters, key), box, own


def check(place: Place, needs: str = "", some: str = "") -> Place:
    """Check a place that was looked up: all of ``needs``, and one of ``some``. Raises as ``find`` does."""
    if place.key is None or not place.rights:
        raise NoSuchMailbox("mailbox does not exist")
    if all(one in place.rights for one in needs) and (not some or set(some) & set(place.rights)):
        return place
    if "l" not in place.rights:
        raise NoSuchMailbox("mailbox does not exist")
    raise NoPermission("this account has no right to do that here")


async def may_create(session: Session, name: str) -> Place:
    """Return where a new mailbox would be. The right to create it is its parent's (RFC 4314 4)."""
    owner, inner = split(session, name)
    if owner != session.account:
        store = session.service.store
        if _shares(session, owner):
            await store.listing(owner)
        parent = inner.rpartition("/")[0]
        while parent and store.find(owner, parent) is None:
            parent = parent.rpartition("/")[0]
        prefix = name[: len(name) - len(inner)]
        check(locate(session, prefix + (parent or INBOX)), "k")
    return Place(owner, inner, name, rights.ALL)


async def inherit(session: Session, place: Place) -> None:
    """Give a new mailbox the list of the one above it (RFC 4314 2)."""
    store = session.service.store
    parent = place.name.rpartition("/")[0]
    above, key = (store.find(place.account, name) if name else None for name in (parent, place.name))
    if above is not None and key is not None:
        with store.snapshot(place.account) as snapshot:
            acl = snapshot.note(above, sharing.ACL)
        if acl:
            await store.annotate(place.account, key, {sharing.ACL: acl})


async def change_acl(session: Session, place: Place, change: Callable[[rights.Acl], object]) -> None:
    """Change the mailbox's list; what others change in it meanwhile stays."""
    assert place.key is not None
    service = session.service

    def find(name: str) -> Account | None:
        record = service.directory.account(name)
        return service.account(record) if record is not None else None

    done = False
    while not done:
        with service.store.snapshot(place.account) as snapshot:
            before = snapshot.note(place.key, sharing.ACL)
        acl = rights.load(before)
        change(acl)
        done = await sharing.set_list(service.store, find, place.account, place.key, acl, {sharing.ACL: before})


# -------------------------------------------------------------------- all of them


def _givers(session: Session) -> list[Account]:
    """Return the accounts that may share something with this one."""
    assert session.account is not None
    service = session.service
    found = set(shared(session)) | _sharing(session)
    found.discard(session.account.address)
    out = []
    for address in sorted(found):
        with suppress(DamagedAccount):  # a damaged account shows nothing until it is repaired
            record = service.directory.account(address)
            if record is not None and record.enabled:
                out.append(service.account(record))
    return out


async def foreign(session: Session, subscribed: Collection[str]) -> list[tuple[Place, Mailbox]]:
    """Return the mailboxes of others that the session is shown.

    Anybody may share any number of mailboxes with everybody. So at most ``limits.shared_mailboxes`` of one account are
    shown; and mailboxes that only ``anyone`` may see are shown as ``[store] anyone`` says, always or once
    ``subscribed``. Shared accounts are the administrator's and have no such bounds. A mailbox that is not shown may
    still be opened by name."""
    out = []
    service, store = session.service, session.service.store
    for owner in _givers(session):
        listing = await store.listing(owner)
        prefix = _prefix(session, owner)
        trusted = owner.address in service.shared
        left = 0 if trusted else service.limits.shared_mailboxes
        bounded = bool(left)
        with store.snapshot(owner) as snapshot:
            for box in listing.mailboxes:
                letters = granted(session, snapshot, owner, box.key)
                if "l" not in letters:
                    continue
                name = prefix + box.name
                hides = service.anyone == SUBSCRIBED and not trusted and name not in subscribed
                if hides and not _named(session, snapshot, owner, box.key):
                    continue
                out.append((Place(owner, box.name, name, letters, box.key), box))
                left -= 1
                if bounded and not left:
                    count("imap.shared_too_many")
                    break
    return out


def _can_be_named(session: Session, name: str) -> bool:
    """True if the name that is shown for the account's own mailbox leads to it. A directory may be named like a mailbox
    of others, or have the separator within a level."""
    if session.service.separator != "/" and session.service.separator in name:
        return False
    return split(session, own_name(session, name)) == (session.account, name)


async def everything(session: Session) -> tuple[Listing, list[tuple[Place, Mailbox]]]:
    """Return (the account's own listing with its subscriptions as shown, all mailboxes that the session sees)."""
    assert session.account is not None
    listing = await session.service.store.listing(session.account)
    own = [
        (Place(session.account, box.name, own_name(session, box.name), rights.ALL, box.key), box)
        for box in listing.mailboxes
        if _can_be_named(session, box.name)
    ]
    subscribed = {shown_name(session, name) for name in listing.subscribed}
    return Listing(listing.mailboxes, subscribed), own + await foreign(session, subscribed)


def refresh(session: Session) -> None:
    """Look up the rights on the selected mailbox of another account again; CannotDo if it may not be read any more."""
    selected = session.selected
    assert selected is not None
    with session.service.store.snapshot(selected.account) as snapshot:
        selected.rights = granted(session, snapshot, selected.account, selected.key)
    if "r" not in selected.rights:
        session.deselect()
        raise CannotDo("the right to read the selected mailbox was taken back: it is closed")
