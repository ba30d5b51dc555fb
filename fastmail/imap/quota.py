"""QUOTA (RFC 9208): one root for each account with limits, named by its address; STORAGE, MESSAGE and MAILBOX.

Only a login that the configuration names as an administrator may set limits, of any account.
"""

import asyncio

from fastmail._core.imap import ParseError, quote
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.errors import NoSuchRoot
from fastmail.imap.names import read_name, wire
from fastmail.imap.state import Session
from fastmail.model.errors import NoPermission
from fastmail.model.quota import Quota
from fastmail.store.interface import Account
from fastmail.store.quota import usage

RESOURCES = (b"STORAGE", b"MESSAGE", b"MAILBOX")


def get_quota(command: Command) -> Work:
    """RFC 9208 4.1.1."""
    session, reader = command.session, command.reader
    reader.sp()
    root = reader.astring()
    reader.end()
    session.conn.write(_line(session, _owner(session, root)))
    return command.finish(b"OK GETQUOTA completed")


def get_quota_root(command: Command) -> Work:
    """RFC 9208 4.1.2."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    account = places.check(places.locate(session, name), "", "lrswipkxte").account
    root = b" " + quote(account.address.encode()) if account.quota else b""
    session.conn.write(b"* QUOTAROOT " + wire(session, name) + root + b"\r\n")
    if account.quota:
        session.conn.write(_line(session, account))
    return command.finish(b"OK GETQUOTAROOT completed")


def set_quota(command: Command) -> Work:
    """RFC 9208 4.1.3."""
    session, reader = command.session, command.reader
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
    return _set(command, account, Quota(storage * 1024 if storage > 0 else storage, messages, mailboxes))


async def _set(command: Command, account: Account, quota: Quota) -> None:
    session = command.session
    service = session.service
    await asyncio.get_running_loop().run_in_executor(None, service.directory.set_quota, account.address, quota)
    record = service.directory.account(account.address)
    if record is not None:
        session.conn.write(_line(session, service.account(record)))
    await command.complete(b"OK SETQUOTA completed")


def _owner(session: Session, root: bytes) -> Account:
    """Return whose root it is: the session's own account, or anyone's for an administrator."""
    own, service = session.account, session.service
    assert own is not None
    name = root.decode("utf-8", "replace").lower()
    if name == own.address:
        return own
    record = service.directory.account(name) if own.address in service.admins else None
    if record is None:
        raise NoSuchRoot("there is no such quota root")
    return service.account(record)


def _line(session: Session, account: Account) -> bytes:
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
