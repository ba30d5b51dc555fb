"""The IMAP command table (RFC 3501 6): for each command its handler, and all that the dispatcher needs to know.

``states``: where it is allowed. ``numbers``: it names messages by sequence number, so no EXPUNGE may be sent while it
runs or in its answer (7.4.1); its UID form has no such restriction. What is not in the table is an error: see
``refusal``.
"""

from fastmail.imap import (
    acl,
    append,
    authenticate,
    basic,
    batches,
    cancel,
    compress,
    copy,
    enable,
    expunge,
    fetch,
    identify,
    idle,
    listing,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    select,
    sort,
    status,
    store,
    urlauth,
)
from fastmail.imap.command import Row
from fastmail.imap.state import ANY, INSIDE, NEW, SELECTED

COMMANDS: dict[bytes, Row] = {
    # any state (RFC 3501 6.1, RFC 2971)
    b"CAPABILITY": Row(basic.capability, ANY),
    b"NOOP": Row(basic.noop, ANY),
    b"LOGOUT": Row(basic.logout, ANY),
    b"ID": Row(identify.identify, ANY),
    # before login (6.2)
    b"STARTTLS": Row(basic.starttls, NEW),
    b"AUTHENTICATE": Row(authenticate.authenticate, NEW),
    b"LOGIN": Row(authenticate.login, NEW),
    # after login (6.3, RFC 5161, 2342, 2177)
    b"UNAUTHENTICATE": Row(authenticate.unauthenticate, INSIDE),
    b"COMPRESS": Row(compress.compress, INSIDE),
    b"ENABLE": Row(enable.enable, INSIDE),
    b"SELECT": Row(select.select, INSIDE),
    b"EXAMINE": Row(select.examine, INSIDE),
    b"CREATE": Row(mailboxes.create, INSIDE),
    b"DELETE": Row(mailboxes.delete, INSIDE),
    b"RENAME": Row(mailboxes.rename, INSIDE),
    b"SUBSCRIBE": Row(mailboxes.subscribe, INSIDE),
    b"UNSUBSCRIBE": Row(mailboxes.unsubscribe, INSIDE),
    b"LIST": Row(listing.list_, INSIDE),
    b"LSUB": Row(listing.lsub, INSIDE),
    b"NAMESPACE": Row(mailboxes.namespace, INSIDE),
    b"STATUS": Row(status.status, INSIDE),
    b"ESEARCH": Row(multisearch.esearch, INSIDE),
    b"NOTIFY": Row(notify.notify, INSIDE),
    b"GENURLAUTH": Row(urlauth.generate, INSIDE),
    b"URLFETCH": Row(urlauth.fetch, INSIDE),
    b"RESETKEY": Row(urlauth.reset, INSIDE),
    b"GETQUOTA": Row(quota.get_quota, INSIDE),
    b"GETQUOTAROOT": Row(quota.get_quota_root, INSIDE),
    b"SETQUOTA": Row(quota.set_quota, INSIDE),
    b"SETACL": Row(acl.set_acl, INSIDE),
    b"DELETEACL": Row(acl.delete_acl, INSIDE),
    b"GETACL": Row(acl.get_acl, INSIDE),
    b"LISTRIGHTS": Row(acl.list_rights, INSIDE),
    b"MYRIGHTS": Row(acl.my_rights, INSIDE),
    b"GETMETADATA": Row(metadata.get, INSIDE),
    b"SETMETADATA": Row(metadata.set_, INSIDE),
    b"APPEND": Row(append.append, INSIDE),
    b"IDLE": Row(idle.idle, INSIDE),
    # in a mailbox (6.4, RFC 3691, 6851)
    b"CHECK": Row(expunge.check, SELECTED),
    b"CLOSE": Row(select.close, SELECTED),
    b"UNSELECT": Row(select.unselect, SELECTED),
    b"EXPUNGE": Row(expunge.expunge, SELECTED, uid=True, plain=True, brief=True),
    b"SEARCH": Row(search.search, SELECTED, numbers=True, uid=True),
    b"SORT": Row(sort.sort, SELECTED, numbers=True, uid=True),
    b"THREAD": Row(sort.thread, SELECTED, numbers=True, uid=True),
    b"CANCELUPDATE": Row(cancel.cancel, SELECTED),
    b"FETCH": Row(fetch.fetch, SELECTED, numbers=True, uid=True, keeps_section=True, brief=True),
    b"STORE": Row(store.store, SELECTED, numbers=True, uid=True, brief=True),
    b"REPLACE": Row(append.replace, SELECTED, numbers=True, uid=True),
    b"UIDBATCHES": Row(batches.batches, SELECTED),
    b"COPY": Row(copy.copy, SELECTED, uid=True, brief=True),
    b"MOVE": Row(copy.move, SELECTED, uid=True, brief=True),
}


def refusal(row: Row | None, state: int) -> str:
    """Return why a command cannot be done in this state; empty if it can."""
    if row is None:
        return "unknown command"
    if row.states & state:
        return ""
    if row.states == NEW:
        return "logged in already"
    if state == NEW:
        return "log in first"
    return "select a mailbox first"
