"""The capabilities of the server, one in each row: in which states it is advertised, under which condition, and the RFC
that defines it (RFC 3501 6.1.1, 7.2.1; RFC 9051 6.1.1). CAPABILITY, the greeting and the answer to a login use this
table.

Capabilities before login tell a stranger what a login needs; the others are sent with the login (RFC 3501 6.2.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastmail.auth import login
from fastmail.imap.state import ANY, AUTH, INSIDE, NEW, SELECTED, Session


@dataclass(frozen=True, slots=True)
class Capability:
    """One row. ``told``: returns what is advertised now, nothing if its condition is not met; None: the name is always
    advertised."""

    name: bytes
    states: int
    rfc: int
    told: Callable[[Session], bytes] | None = None


def may_login(session: Session) -> bool:
    """True if passwords are allowed on this connection."""
    return login.allowed(session.conn.tls, session.conn.local, session.service.plaintext)


def _start_tls(session: Session) -> bytes:
    return b"STARTTLS" if session.conn.tls_available and not session.conn.tls else b""


def _login_disabled(session: Session) -> bytes:
    return b"" if may_login(session) else b"LOGINDISABLED"


def _mechanisms(session: Session) -> bytes:
    if not may_login(session):
        return b""
    return b" ".join(b"AUTH=" + name.encode() for name in session.service.verifier.mechanisms(session.conn))


def _compress(session: Session) -> bytes:
    return b"" if session.conn.deflated else b"COMPRESS=DEFLATE"


def _set_quota(session: Session) -> bytes:
    assert session.account is not None
    return b"QUOTASET" if session.account.address in session.service.admins else b""


def _message_limit(session: Session) -> bytes:
    most = session.service.limits.messages_per_command
    return b"MESSAGELIMIT=%d" % most if most else b""


def _append_limit(session: Session) -> bytes:
    return b"APPENDLIMIT=%d" % session.service.limits.message_size


# In the order in which they are advertised; those without a condition come first.
CAPABILITIES = (
    Capability(b"IMAP4rev1", ANY, 3501),
    Capability(b"IMAP4rev2", ANY, 9051),
    Capability(b"LITERAL+", ANY, 7888),
    Capability(b"SASL-IR", ANY, 4959),
    Capability(b"ID", ANY, 2971),
    Capability(b"ENABLE", ANY, 5161),
    Capability(b"IDLE", ANY, 2177),
    Capability(b"UIDPLUS", INSIDE, 4315),
    Capability(b"NAMESPACE", INSIDE, 2342),
    Capability(b"UNSELECT", INSIDE, 3691),
    Capability(b"CHILDREN", INSIDE, 3348),
    Capability(b"MOVE", INSIDE, 6851),
    Capability(b"SPECIAL-USE", INSIDE, 6154),
    Capability(b"CREATE-SPECIAL-USE", INSIDE, 6154),
    Capability(b"CONDSTORE", INSIDE, 7162),
    Capability(b"QRESYNC", INSIDE, 7162),
    Capability(b"ESEARCH", INSIDE, 4731),
    Capability(b"SEARCHRES", INSIDE, 5182),
    Capability(b"MULTIAPPEND", INSIDE, 3502),
    Capability(b"LIST-EXTENDED", INSIDE, 5258),
    Capability(b"LIST-STATUS", INSIDE, 5819),
    Capability(b"STATUS=SIZE", INSIDE, 8438),
    Capability(b"WITHIN", INSIDE, 5032),
    Capability(b"SAVEDATE", INSIDE, 8514),
    Capability(b"PARTIAL", INSIDE, 9394),
    Capability(b"SORT", INSIDE, 5256),
    Capability(b"SORT=DISPLAY", INSIDE, 5957),
    Capability(b"ESORT", INSIDE, 5267),
    Capability(b"THREAD=ORDEREDSUBJECT", INSIDE, 5256),
    Capability(b"THREAD=REFERENCES", INSIDE, 5256),
    Capability(b"THREAD=REFS", INSIDE, 5256),  # another algorithm for the THREAD of this RFC
    Capability(b"UTF8=ACCEPT", INSIDE, 6855),
    Capability(b"BINARY", INSIDE, 3516),
    Capability(b"OBJECTID", INSIDE, 8474),
    Capability(b"PREVIEW", INSIDE, 8970),
    Capability(b"REPLACE", INSIDE, 8508),
    Capability(b"UNAUTHENTICATE", INSIDE, 8437),
    Capability(b"UIDONLY", INSIDE, 9586),
    Capability(b"UIDBATCHES", INSIDE, 10022),
    Capability(b"INPROGRESS", INSIDE, 9585),
    Capability(b"I18NLEVEL=1", INSIDE, 5255),
    Capability(b"SEARCH=FUZZY", INSIDE, 6203),
    Capability(b"QUOTA", INSIDE, 9208),
    Capability(b"QUOTA=RES-STORAGE", INSIDE, 9208),
    Capability(b"QUOTA=RES-MESSAGE", INSIDE, 9208),
    Capability(b"QUOTA=RES-MAILBOX", INSIDE, 9208),
    Capability(b"METADATA", INSIDE, 5464),
    Capability(b"LIST-METADATA", INSIDE, 9590),
    Capability(b"CATENATE", INSIDE, 4469),
    Capability(b"URLAUTH", INSIDE, 4467),
    Capability(b"URLAUTH=BINARY", INSIDE, 5524),
    Capability(b"CONTEXT=SEARCH", INSIDE, 5267),
    Capability(b"CONTEXT=SORT", INSIDE, 5267),
    Capability(b"MULTISEARCH", INSIDE, 7377),
    Capability(b"NOTIFY", INSIDE, 5465),
    Capability(b"ACL", INSIDE, 4314),
    Capability(b"RIGHTS=texk", INSIDE, 4314),
    Capability(b"LIST-MYRIGHTS", INSIDE, 8440),
    Capability(b"STARTTLS", NEW, 3501, _start_tls),  # where TLS is configured and not on
    Capability(b"LOGINDISABLED", NEW, 3501, _login_disabled),  # where passwords need TLS first
    Capability(b"AUTH=", NEW, 3501, _mechanisms),  # each mechanism of the verifier, where passwords are allowed
    Capability(b"COMPRESS=DEFLATE", INSIDE, 4978, _compress),  # until it is on
    Capability(b"QUOTASET", INSIDE, 9208, _set_quota),  # for administrators
    Capability(b"MESSAGELIMIT", INSIDE, 9738, _message_limit),  # limits.messages_per_command
    Capability(b"APPENDLIMIT", INSIDE, 7889, _append_limit),  # limits.message_size
)

_FIXED = {
    state: b" ".join(row.name for row in CAPABILITIES if row.states & state and row.told is None)
    for state in (NEW, AUTH, SELECTED)
}
_VARIABLE = {
    state: [row.told for row in CAPABILITIES if row.states & state and row.told is not None]
    for state in (NEW, AUTH, SELECTED)
}


def capabilities(session: Session) -> bytes:
    """Return what this session may use now, as CAPABILITY lists it."""
    state = session.state
    variable = (told(session) for told in _VARIABLE[state])
    return b" ".join([_FIXED[state], *(one for one in variable if one)])
