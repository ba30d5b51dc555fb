"""Checks which addresses a login may write under (RFC 6409 6.1): in the envelope, and in From, Sender and the Resent
fields of the header (RFC 5322 3.6.2, 3.6.6).

An address belongs to a login if it is the account's own, with any ``+detail``, or an alias that leads to the account. A
domain is the same with A-labels and with U-labels. The configuration names exceptions (``[auth] send_as``). Every
address in each of these fields has to belong to the login, and a field that cannot be read belongs to nobody. The
reason: mail programs differ in which address they show as the author, and some show a second From, a Sender or a
Resent-From.

The header is checked before the filters see the message, so a refused message costs them nothing and is never signed.
What filters change afterwards is the administrator's decision.
"""

import asyncio

from fastmail.auth.send_as import ANY, OFF, REFUSE, Rules
from fastmail.delivery.envelope import Outcome
from fastmail.delivery.planning import SCAN_ON_LOOP
from fastmail.directory import access
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.message.authors import Author, Unreadable, fields, read
from fastmail.message.header import Octets
from fastmail.model.address import comparable
from fastmail.smtp.envelope import printable
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

SHORT = 2048  # octets of fields that are read without leaving the event loop
HELP = "put an address of this login there, or ask the administrator ([auth] send_as)"


def may(directory: Directory, rules: Rules, account: AccountRecord, address: str) -> bool:
    """True if this login may write under the address."""
    if directory.may_send_as(account, address):
        return True
    if not rules.send_as:
        return False
    login, asked = comparable(account.address), comparable(address)
    forms = {asked, "@" + asked.rpartition("@")[2], ANY}
    return any(forms & rules.send_as.get(one, frozenset()) for one in (login, "@" + login.rpartition("@")[2]))


def barred(directory: Directory, account: AccountRecord, revision: int) -> str:
    """Why this login may not send, for its user; empty where it may. The account is read again only where something
    changed since the login, at that ``revision`` of the directory."""
    if directory.revision != revision:
        account = directory.account(account.address) or account
    return access.sending(account, directory.domain(account.address.rpartition("@")[2]))


async def refusal(
    directory: Directory, rules: Rules, user: AccountRecord | None, host: str, content: Octets
) -> Outcome | None:
    """Why a message (LF) of that user, at the address ``host``, is not sent; None where it may be."""
    if user is None or rules.header == OFF:
        return None
    why = await _why(directory, rules, user, content)
    if not why:
        return None
    refused = rules.header == REFUSE
    count("smtp.senders_refused" if refused else "smtp.senders_foreign")
    log.event("smtp.sender", "warning", account=user.address, peer=host, why=why, refused=refused)
    return Outcome(550, "5.7.1", f"{why}; {HELP}") if refused else None


async def owns(directory: Directory, rules: Rules, user: AccountRecord, content: Octets) -> bool:
    """True if every address in the author fields of a message (LF) belongs to the login, whatever the settings allow
    for others."""
    return not await _why(directory, rules, user, content)


async def _why(directory: Directory, rules: Rules, user: AccountRecord, content: Octets) -> str:
    """Return why the author fields of a message do not belong to this login; empty if they do."""
    large = len(content) > SCAN_ON_LOOP
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(None, fields, content) if large else fields(content)
        long = sum(len(value) for _, value in found) > SHORT
        named = await loop.run_in_executor(None, read, found) if long else read(found)
        known: dict[str, bool] = {}
        for one in named:
            if one.address not in known:
                known[one.address] = may(directory, rules, user, one.address)
        foreign = next((one for one in named if not known[one.address]), None)
        return _foreign(foreign, user) if foreign is not None else ""
    except Unreadable as error:
        return str(error)


def _foreign(one: Author, user: AccountRecord) -> str:
    shown = printable(one.address)[:100]
    shown = shown if shown.isascii() else "an address"
    return f"{one.field} names {shown}, which does not belong to the login {user.address}"
