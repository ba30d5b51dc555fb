"""The IMAP command table (RFC 3501 6): for each command its handler and all that the dispatcher needs to know.

``states``: where it is allowed. ``numbers``: it names messages by sequence number, so no EXPUNGE may be told
while it runs or in its answer (7.4.1); its UID form has no such bar. A handler takes (session, tag, reader, by_uid),
reads its arguments, and either finishes or returns a coroutine. The gaps are the errors: see ``refusal``.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastmail.imap import (
    acl,
    append,
    authenticate,
    batches,
    compress,
    context,
    fetch,
    idle,
    listing,
    mailboxes,
    messages,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    select,
    sort,
    status,
    urlauth,
)

if TYPE_CHECKING:
    from fastmail._core.imap import Reader
    from fastmail.imap.session import ImapSession

NEW, AUTH, SELECTED = 1, 2, 4
ANY = NEW | AUTH | SELECTED
Handler = Callable[["ImapSession", bytes, "Reader", bool], Coroutine[Any, Any, None] | None]


@dataclass(frozen=True, slots=True)
class Command:
    """One row; see the module."""

    handler: Handler
    states: int
    numbers: bool = False
    uid: bool = False


COMMANDS: dict[bytes, Command] = {
    # any state (RFC 3501 6.1, RFC 2971)
    b"CAPABILITY": Command(authenticate.capability, ANY),
    b"NOOP": Command(authenticate.noop, ANY),
    b"LOGOUT": Command(authenticate.logout, ANY),
    b"ID": Command(authenticate.identify, ANY),
    # before login (6.2)
    b"STARTTLS": Command(authenticate.starttls, NEW),
    b"AUTHENTICATE": Command(authenticate.authenticate, NEW),
    b"LOGIN": Command(authenticate.login, NEW),
    # after login (6.3, RFC 5161, 2342, 2177)
    b"UNAUTHENTICATE": Command(authenticate.unauthenticate, AUTH | SELECTED),
    b"COMPRESS": Command(compress.compress, AUTH | SELECTED),
    b"ENABLE": Command(authenticate.enable, AUTH | SELECTED),
    b"SELECT": Command(select.select, AUTH | SELECTED),
    b"EXAMINE": Command(select.examine, AUTH | SELECTED),
    b"CREATE": Command(mailboxes.create, AUTH | SELECTED),
    b"DELETE": Command(mailboxes.delete, AUTH | SELECTED),
    b"RENAME": Command(mailboxes.rename, AUTH | SELECTED),
    b"SUBSCRIBE": Command(mailboxes.subscribe, AUTH | SELECTED),
    b"UNSUBSCRIBE": Command(mailboxes.unsubscribe, AUTH | SELECTED),
    b"LIST": Command(listing.list_, AUTH | SELECTED),
    b"LSUB": Command(listing.lsub, AUTH | SELECTED),
    b"NAMESPACE": Command(mailboxes.namespace, AUTH | SELECTED),
    b"STATUS": Command(status.status, AUTH | SELECTED),
    b"ESEARCH": Command(multisearch.esearch, AUTH | SELECTED),
    b"NOTIFY": Command(notify.notify, AUTH | SELECTED),
    b"GENURLAUTH": Command(urlauth.generate, AUTH | SELECTED),
    b"URLFETCH": Command(urlauth.fetch, AUTH | SELECTED),
    b"RESETKEY": Command(urlauth.reset, AUTH | SELECTED),
    b"GETQUOTA": Command(quota.get_quota, AUTH | SELECTED),
    b"GETQUOTAROOT": Command(quota.get_quota_root, AUTH | SELECTED),
    b"SETQUOTA": Command(quota.set_quota, AUTH | SELECTED),
    b"SETACL": Command(acl.set_acl, AUTH | SELECTED),
    b"DELETEACL": Command(acl.delete_acl, AUTH | SELECTED),
    b"GETACL": Command(acl.get_acl, AUTH | SELECTED),
    b"LISTRIGHTS": Command(acl.list_rights, AUTH | SELECTED),
    b"MYRIGHTS": Command(acl.my_rights, AUTH | SELECTED),
    b"GETMETADATA": Command(metadata.get, AUTH | SELECTED),
    b"SETMETADATA": Command(metadata.set_, AUTH | SELECTED),
    b"APPEND": Command(append.append, AUTH | SELECTED),
    b"IDLE": Command(idle.idle, AUTH | SELECTED),
    # in a mailbox (6.4, RFC 3691, 6851)
    b"CHECK": Command(messages.check, SELECTED),
    b"CLOSE": Command(select.close, SELECTED),
    b"UNSELECT": Command(select.unselect, SELECTED),
    b"EXPUNGE": Command(messages.expunge, SELECTED, uid=True),
    b"SEARCH": Command(search.search, SELECTED, numbers=True, uid=True),
    b"SORT": Command(sort.sort, SELECTED, numbers=True, uid=True),
    b"THREAD": Command(sort.thread, SELECTED, numbers=True, uid=True),
    b"CANCELUPDATE": Command(context.cancel, SELECTED),
    b"FETCH": Command(fetch.fetch, SELECTED, numbers=True, uid=True),
    b"STORE": Command(messages.store, SELECTED, numbers=True, uid=True),
    b"REPLACE": Command(append.replace, SELECTED, numbers=True, uid=True),
    b"UIDBATCHES": Command(batches.batches, SELECTED),
    b"COPY": Command(messages.copy, SELECTED, uid=True),
    b"MOVE": Command(messages.move, SELECTED, uid=True),
}


def refusal(command: Command | None, state: int) -> str:
    """Why a command can not be done in this state; empty when it can."""
    if command is None:
        return "unknown command"
    if command.states & state:
        return ""
    if command.states == NEW:
        return "logged in already"
    if state == NEW:
        return "log in first"
    return "select a mailbox first"
