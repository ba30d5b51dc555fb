"""QUOTA (RFC 9208): one root for each account with limits, named by its address; STORAGE, MESSAGE and MAILBOX.

Only a login that the configuration names as an administrator may set limits, of any account.
"""

import asyncio
from typing import TYPE_CHECKING

from fastmail._core.imap import ParseError, Reader, quote
from fastmail.imap import places
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name, wire
from fastmail.model.errors import CannotDo, NoPermission
from fastmail.model.quota import Quota
from fastmail.store.interface import Account
from fastmail.store.quota import usage

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

RESOURCES = (b"STORAGE", b"MESSAGE", b"MAILBOX")


class NoSuchRoot(CannotDo):
    """NO [NONEXISTENT]."""


def get_quota(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 9208 4.1.1."""
    reader.sp()
    root = reader.astring()
    reader.end()
    session.conn.write(_line(session, _owner(session, root)))
    return session.finish(tag, b"OK GETQUOTA completed")  # type: ignore[no-any-return]


def get_quota_root(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 9208 4.1.2."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    account = places.check(places.locate(session, name), "", "lrswipkxte").account
    root = b" " + quote(account.address.encode()) if account.quota else b""
    session.conn.write(b"* QUOTAROOT " + wire(session, name) + root + b"\r\n")
    if account.quota:
        session.conn.write(_line(session, account))
    return session.finish(tag, b"OK GETQUOTAROOT completed")  # type: ignore[no-any-return]


def set_quota(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 9208 4.1.3."""
    reader.sp()
    root = reader.astring()
    reader.sp()
    reader.open()
    limits: dict[bytes, int] = {}
    while reader.peek() != 41:
        at = reader.pos
        name = reader.atom().upper()
        if name not in RESOURCES:
            raise ParseError("STORAGE, MESSAGE or MAILBOX", at)
        reader.sp()
        limits[name] = reader.number(False, (1 << 63) - 1)
        if not reader.more():
            break
    reader.close()
    reader.end()
    assert session.account is not None
    if session.account.address not in session.service.admins:
        raise NoPermission("only an administrator may set quotas")
    account = _owner(session, root)
    # a resource that is not named has no limit (RFC 9208 4.1.3)
    storage, messages, mailboxes = (limits.get(name, -1) for name in RESOURCES)
    return _set(session, tag, account, Quota(storage * 1024 if storage > 0 else storage, messages, mailboxes))


async def _set(session: "ImapSession", tag: bytes, account: Account, quota: Quota) -> None:
    service = session.service
    await asyncio.get_running_loop().run_in_executor(None, service.directory.set_quota, account.address, quota)
    record = service.directory.account(account.address)
    if record is not None:
        session.conn.write(_line(session, service.account(record)))
    work = session.finish(tag, b"OK SETQUOTA completed")
    if work is not None:
        await work


def _owner(session: "ImapSession", root: bytes) -> Account:
    """Whose root it is; its own account, or anyone's for an administrator."""
    own, service = session.account, session.service
    assert own is not None
    name = root.decode("utf-8", "replace").lower()
    if name == own.address:
        return own
    record = service.directory.account(name) if own.address in service.admins else None
    if record is None:
        raise NoSuchRoot("there is no such quota root")
    return service.account(record)


def _line(session: "ImapSession", account: Account) -> bytes:
    held = usage(session.service.store, account)
    quota = account.quota
    parts = []
    if quota.octets:
        parts.append(b"STORAGE %d %d" % (-(-held.octets // 1024), -(-quota.octets // 1024)))
    if quota.messages:
        parts.append(b"MESSAGE %d %d" % (held.messages, quota.messages))
    if quota.mailboxes:
        parts.append(b"MAILBOX %d %d" % (held.mailboxes, quota.mailboxes))
    return b"* QUOTA " + quote(account.address.encode()) + b" (" + b" ".join(parts) + b")\r\n"
