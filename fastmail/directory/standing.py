"""Whether the login that a session goes on with still counts: the account is there, is switched on, may log in from
that address, and has the password, or the app password, that the login was checked with.

The directory keeps a number, ``revision``, that grows with every change that takes logins back: a new password, an
account that is switched off or removed, a condition on logins. For an account it notes the revision of the last such
change; a login that began at an earlier revision has ended. A password that gets a better hash takes nothing back. A
login with an app password ends by itself when that expires.
"""

import time
from dataclasses import dataclass
from typing import Protocol

from fastmail.directory import access, apps
from fastmail.directory.records import Account, AppPassword, Domain
from fastmail.model.errors import DamagedAccount

GONE = "this account was removed"
OFF = "this account was switched off"
RENAMED = "this account has another name now, please log in with that"
CHANGED = "the password was changed, please log in again"
BARRED = "this account may not log in from here any more"
WITHDRAWN = "this app password was withdrawn"
APP_OFF = "this app password was switched off"
RESTRICTED = "this app password counts otherwise now, please log in again"
EXPIRED = "this app password has expired"
MASTER = "this login may not act for this account any more"
OWNER = "the account of the selected mailbox is not there any more"


@dataclass(frozen=True, slots=True)
class Standing:
    """A login. ``host``: where it came from; ``revision``: the directory's, read before anything was checked; ``app``:
    the digest of the app password that was shown, empty for any other proof; ``expires``: s since 1970 when that is
    over, 0 for never. ``acting``: the number of the account that a master user acts for, at the address ``whom``; 0 for
    its own. ``protocol``: as app passwords name it, empty for any."""

    number: int
    address: str
    host: str
    revision: int
    app: bytes = b""
    expires: int = 0
    acting: int = 0
    whom: str = ""
    protocol: str = ""


class Accounts(Protocol):
    """What is asked of a directory."""

    @property
    def revision(self) -> int: ...
    def account(self, address: str) -> Account | None: ...
    def account_by_id(self, number: int) -> Account | None: ...
    def domain(self, name: str) -> Domain | None: ...
    def app_password(self, number: int, digest: bytes) -> AppPassword | None: ...
    def revoked(self, number: int) -> int: ...


def ended(accounts: Accounts, login: Standing) -> str:
    """Why a login has ended, for its user; empty while it counts. Mostly one look: whatever ends logins is counted."""
    if login.expires and login.expires <= time.time():
        return EXPIRED
    if accounts.revision == login.revision:
        return ""
    try:
        record = accounts.account(login.address)
        domain = accounts.domain(login.address.rpartition("@")[2])
        withdrawn = _withdrawn(accounts, login) if login.app else ""
    except DamagedAccount:
        return ""  # nobody can say: it stays until the row is mended
    if record is None or record.id != login.number or record.address != login.address:
        return _other_name(accounts, login.number)
    if not record.enabled:
        return OFF
    if record.nologin or not access.allows(record.nets, login.host):
        return BARRED
    why = access.refusal(record, domain) or withdrawn
    if not why and login.acting:
        why = _acting(accounts, record, login)
    if why:
        return why
    return CHANGED if accounts.revoked(login.number) > login.revision else ""


def _withdrawn(accounts: Accounts, login: Standing) -> str:
    """What became of the app password of a login; empty while it allows the session. Another time of its end has to be
    heard of by whoever watches that."""
    found = accounts.app_password(login.number, login.app)
    if found is None:
        return WITHDRAWN
    if not found.enabled:
        return APP_OFF
    as_before = found.expires == login.expires and apps.counts(found, login.protocol, login.host)
    return "" if as_before else RESTRICTED


def _other_name(accounts: Accounts, number: int) -> str:
    """What became of an account that does not have its name any more."""
    try:
        return RENAMED if accounts.account_by_id(number) is not None else GONE
    except DamagedAccount:
        return GONE


def _acting(accounts: Accounts, master: Account, login: Standing) -> str:
    """Why a master user acts for an account no more; empty while it may."""
    try:
        record = accounts.account(login.whom)
    except DamagedAccount:
        return ""
    if record is None or record.id != login.acting or record.address != login.whom:
        return _other_name(accounts, login.acting)
    if not record.enabled:
        return OFF
    return "" if access.may_act_for(master, record) else MASTER


def is_gone(accounts: Accounts, number: int, address: str) -> bool:
    """Was the account with this number removed, whatever it is called now? Its number is never given again."""
    try:
        record = accounts.account_by_id(number) or accounts.account(address)
    except DamagedAccount:
        return False
    return record is None or record.id != number


def is_off(accounts: Accounts, number: int, address: str) -> bool:
    """The same, or switched off, or is it called otherwise?"""
    try:
        record = accounts.account_by_id(number)
    except DamagedAccount:
        return False
    return record is None or record.address != address or not record.enabled
