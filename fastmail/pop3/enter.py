"""Commands before the login: CAPA (RFC 2449 5), STLS (RFC 2595 4), USER and PASS (RFC 1939 7), AUTH (RFC 5034), and
what a login opens. auth.login has the SASL dialogue and the check."""

import fastmail
from fastmail.auth import login, sasl
from fastmail.auth.verifier import Entry
from fastmail.model.errors import MailError, TemporaryError
from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View, taken
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

EXTRAS = (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER", b"UTF8 USER", b"LANG")


def _may_login(session: Dialogue) -> bool:
    return login.allowed(session.conn.tls, session.conn.local, session.service.plaintext)


def _mechanisms(session: Dialogue, between: str) -> bytes:
    return between.join(session.service.verifier.mechanisms(session.conn)).encode()


def capa(session: Dialogue, rest: bytes) -> None:
    """RFC 2449 5. Each of these is announced in both states, and differs in none (6, RFC 2595 4, RFC 6856 2, 3)."""
    lines = list(EXTRAS)
    if _may_login(session):
        lines += [b"USER", b"SASL " + _mechanisms(session, " ")]
    if session.conn.tls_available and not session.conn.tls:
        lines.append(b"STLS")
    lines.append(b"IMPLEMENTATION fastmail " + fastmail.__version__.encode())
    session.conn.write(b"+OK what is done here\r\n" + b"".join(x + b"\r\n" for x in lines) + b".\r\n")


def stls(session: Dialogue, rest: bytes) -> None:
    """RFC 2595 4."""
    if session.conn.tls:
        session.bad("TLS is on already")
    elif not session.conn.tls_available:
        session.bad("TLS is not available")
    elif session.utf8:  # somebody in between may have sent UTF8 (RFC 6856 2.1)
        session.bad("STLS comes before UTF8")
    else:
        session.ok("begin TLS now")
        session.conn.start_tls()


def user(session: Dialogue, rest: bytes) -> None:
    """RFC 1939 7: the reply is the same for every name."""
    if not _may_login(session):
        session.bad("[AUTH] TLS is needed first: STLS")
    elif not rest:
        session.bad("USER name is expected")
    else:
        named = sasl.Login()  # the same two steps, with the same idea of a name
        try:
            named.step(rest)
        except sasl.SaslError as error:
            session.bad(str(error))
            return
        session.user = named
        session.ok("send PASS")


def pass_(session: Dialogue, rest: bytes) -> None:
    """RFC 1939 7; the password is the rest of the line."""
    named, session.user = session.user, None
    if named is None:
        session.bad("USER comes first")
        return
    if session.utf8 and not _is_utf8(rest):
        session.bad("[AUTH] password is not UTF-8")
        return
    claim = named.step(rest)
    assert isinstance(claim, sasl.Credentials)
    session.conn.run(_check(session, claim))


def _is_utf8(text: bytes) -> bool:
    """RFC 6856 2.2. A client that has not said UTF8 may send a password as another server kept it (auth.schemes)."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def auth(session: Dialogue, rest: bytes) -> None:
    """RFC 5034 4; without an argument the mechanisms, as old clients ask."""
    words = rest.split()
    if not words:
        known = _mechanisms(session, "\r\n") + b"\r\n" if _may_login(session) else b""
        session.conn.write(b"+OK mechanisms\r\n" + known + b".\r\n")
    elif not _may_login(session):
        session.bad("[AUTH] TLS is needed first: STLS")
    elif len(words) > 2:
        session.bad("AUTH mechanism [initial response] is expected")
    elif not session.logging_in.begin(words[0]):
        session.bad(session.logging_in.unknown)
    else:
        try:
            _go_on(session, session.logging_in.answer(words[1] if len(words) == 2 else None))
        except sasl.SaslError as error:
            session.bad(str(error))


def line(session: Dialogue, text: bytes) -> None:
    """A line of a SASL exchange."""
    try:
        _go_on(session, session.logging_in.line(text))
    except sasl.SaslError as error:
        session.bad(str(error))


def _go_on(session: Dialogue, answer: bytes | sasl.Claim) -> None:
    if isinstance(answer, bytes):
        session.conn.write(b"+ " + answer + b"\r\n")
    else:
        session.conn.run(_check(session, answer))


async def _check(session: Dialogue, claim: sasl.Claim) -> None:
    match await session.logging_in.attempt(claim):
        case Entry() as entry:
            await _open(session, entry)
        case login.Denied(why):
            session.err(f"[AUTH] {why}")
        case login.Banned(why):
            session.err(f"[SYS/TEMP] {why}")
            session.conn.close()
        case login.NotNow():
            session.err(f"[SYS/TEMP] {login.NOT_NOW}")
        case login.Again(challenge):
            session.conn.write(b"+ " + challenge + b"\r\n")
        case login.Failed(last):
            session.err("[AUTH] login failed")
            if last:
                session.conn.close()


async def _open(session: Dialogue, entry: Entry) -> None:
    """Take the view of INBOX, and let the client in."""
    service = session.service
    try:
        view = await _view(session, entry)
    except (MailError, OSError) as error:
        log.event("pop3.open", "error", account=entry.record.address, error=repr(error))
        session.err("[SYS/TEMP] mailbox is not available, try again later")
        session.conn.close()
        return
    if view is None:
        return
    if service.verifier.ended(entry.login):  # while the mailbox was opened
        session.err("[AUTH] login failed")
        session.conn.close()
        return
    session.view, session.login = view, entry.login
    session.conn.touch(service.limits.pop3_timeout)
    count("pop3.logins")
    session.logging_in.entered(entry)
    session.ok(f"{len(view.sizes)} messages")


async def _view(session: Dialogue, entry: Entry) -> View | None:
    """Return the view of INBOX; None if the client has gone meanwhile."""
    store, account = session.service.store, session.service.account(entry.record)
    await store.open(account)
    key = store.find(account, "INBOX") or b""
    try:
        await store.sync(account, key)
    except TemporaryError as error:
        log.event("pop3.sync", "warning", error=error)  # no room to take it in; the rest can be read
    if not await session.begin_view(key):
        return None
    return taken(store, account, key)
