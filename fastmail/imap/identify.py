"""ID (RFC 2971): what client and server say of themselves. What a client says is logged. A client that says that nobody
waits for it is refused while the machine is busy.
"""

import os

import fastmail
from fastmail.imap.command import Command, Work
from fastmail.imap.state import Session
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MOST_PAIRS = 30  # RFC 2971 3.3
NAME = 30  # octets of a field's name (RFC 2971 3.3), and of its name in the log
VALUE = 60  # octets of its value in the log
MOST_IDS = 5  # ID commands of one session that are logged: a stranger may send any number before its login


def identify(command: Command) -> Work:
    """RFC 2971: at most 30 pairs; those of the client are logged."""
    session, reader = command.session, command.reader
    reader.sp()
    pairs = {}
    if reader.peek() == 40:
        reader.open()
        while reader.peek() != 41:
            name = reader.string()
            reader.sp()
            pairs[name[:NAME]] = reader.nstring()
            if len(pairs) > MOST_PAIRS:
                command.bad(f"at most {MOST_PAIRS} pairs are allowed")
                return None
            if reader.peek() == 32:
                reader.sp()
        reader.close()
    else:
        reader.nstring()
    reader.end()
    account = session.account.address if session.account else None
    if pairs and session.ids < MOST_IDS:
        session.ids += 1
        log.event("imap.id", client=_shown(pairs), account=account, peer=session.conn.host)
    if _background(pairs) and _loaded(session):
        count("imap.background_refused")
        command.answer(b"NO [UNAVAILABLE] the server is busy, work in the background can wait")
        return None
    version = fastmail.__version__.encode()
    session.conn.write(b'* ID ("name" "fastmail" "version" "' + version + b'")\r\n')
    return command.finish(b"OK ID completed")


def _shown(pairs: dict[bytes, bytes | None]) -> str:
    """Return what a client says of itself, for the log: printable, and each value cut, so that none displaces the
    others."""
    said = (f"{_clean(name, NAME)}={_clean(value, VALUE)}" for name, value in pairs.items() if value)
    return " ".join(said)


def _clean(raw: bytes, most: int) -> str:
    return "".join(one if one.isprintable() else "?" for one in raw[:most].decode("utf-8", "replace"))


def _background(pairs: dict[bytes, bytes | None]) -> bool:
    """True if Apple's client says that nobody waits for this connection (TN3189)."""
    event = next((value for name, value in pairs.items() if name.lower() == b"event"), None) or b""
    name = next((value for name, value in pairs.items() if name.lower() == b"name"), None) or b""
    return name.lower().startswith(b"com.apple.") and any(word in event.lower() for word in (b"back-fill", b"indexer"))


def _loaded(session: Session) -> bool:
    most = session.service.limits.background_load
    try:
        return bool(most) and os.getloadavg()[0] > most * (os.cpu_count() or 1)
    except OSError:  # a sandbox without /proc/loadavg
        return False
