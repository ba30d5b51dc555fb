"""Commands of any state and before login: CAPABILITY, NOOP, LOGOUT (RFC 3501 6.1), STARTTLS, AUTHENTICATE, LOGIN (6.2,
SASL-IR RFC 4959), ID (RFC 2971), ENABLE (RFC 5161).
"""

import os
import time
from base64 import b64encode
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import fastmail
from fastmail._core.imap import Reader
from fastmail.auth import sasl
from fastmail.auth.verifier import until_refusal
from fastmail.model.errors import KeptOut, LoginRefused, TemporaryError
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

BASE = b"IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE"
AFTER = BASE + (
    b" UIDPLUS NAMESPACE UNSELECT CHILDREN MOVE SPECIAL-USE CREATE-SPECIAL-USE CONDSTORE QRESYNC ESEARCH SEARCHRES"
    b" MULTIAPPEND LIST-EXTENDED LIST-STATUS STATUS=SIZE WITHIN SAVEDATE PARTIAL SORT SORT=DISPLAY ESORT"
    b" THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS UTF8=ACCEPT BINARY OBJECTID"
    b" PREVIEW REPLACE UNAUTHENTICATE UIDONLY UIDBATCHES INPROGRESS I18NLEVEL=1 SEARCH=FUZZY QUOTA"
    b" QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX METADATA LIST-METADATA CATENATE URLAUTH"
    b" URLAUTH=BINARY CONTEXT=SEARCH CONTEXT=SORT MULTISEARCH NOTIFY ACL RIGHTS=texk LIST-MYRIGHTS"
)
ID_NAME = 30  # octets of a field of ID (RFC 2971 3.3), and of its value in the log
ID_VALUE = 60
MOST_IDS = 5  # of one session that are logged: a stranger may send any number before its login
Work = Coroutine[Any, Any, None] | None


def may_login(session: "ImapSession") -> bool:
    """Are passwords allowed on this connection?"""
    allowed = session.service.plaintext
    return session.conn.tls or allowed is True or (allowed == "loopback" and session.conn.local)


def capabilities(session: "ImapSession") -> bytes:
    """What is done, now."""
    if session.account is not None:
        packed = b"" if session.conn.deflated else b" COMPRESS=DEFLATE"
        admin = b" QUOTASET" if session.account.address in session.service.admins else b""
        limits = session.service.limits
        most = b" MESSAGELIMIT=%d" % limits.messages_per_command if limits.messages_per_command else b""
        return AFTER + packed + admin + most + b" APPENDLIMIT=%d" % limits.message_size
    out = BASE
    if session.conn.tls_available and not session.conn.tls:
        out += b" STARTTLS"
    if not may_login(session):
        return out + b" LOGINDISABLED"
    return out + b"".join(b" AUTH=" + name.encode() for name in session.service.verifier.mechanisms(session.conn))


def capability(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.1.1."""
    reader.end()
    session.conn.write(b"* CAPABILITY " + capabilities(session) + b"\r\n")
    return session.finish(tag, b"OK CAPABILITY completed")  # type: ignore[no-any-return]


def noop(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.1.2."""
    reader.end()
    return session.finish(tag, b"OK NOOP completed")  # type: ignore[no-any-return]


def logout(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.1.3."""
    reader.end()
    session.conn.write(b"* BYE logging out\r\n" + tag + b" OK LOGOUT completed\r\n")
    session.deselect()
    session.conn.close()
    return None


def identify(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 2971: at most 30 pairs; the client's are logged."""
    reader.sp()
    pairs = {}
    if reader.peek() == 40:
        reader.open()
        while reader.peek() != 41:
            name = reader.string()
            reader.sp()
            pairs[name[:ID_NAME]] = reader.nstring()
            if len(pairs) > 30:
                session.bad(tag, "at most 30 pairs are allowed")
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
        session.conn.write(tag + b" NO [UNAVAILABLE] the server is busy, work in the background can wait\r\n")
        return None
    version = fastmail.__version__.encode()
    session.conn.write(b'* ID ("name" "fastmail" "version" "' + version + b'")\r\n')
    return session.finish(tag, b"OK ID completed")  # type: ignore[no-any-return]


def _shown(pairs: dict[bytes, bytes | None]) -> str:
    """What a client says of itself, for the log: printable, each value cut, so that none crowds out the others."""
    said = (f"{_clean(name, ID_NAME)}={_clean(value, ID_VALUE)}" for name, value in pairs.items() if value)
    return " ".join(said)


def _clean(raw: bytes, most: int) -> str:
    return "".join(one if one.isprintable() else "?" for one in raw[:most].decode("utf-8", "replace"))


def _background(pairs: dict[bytes, bytes | None]) -> bool:
    """Does Apple's client say that nobody waits for this connection (TN3189)?"""
    event = next((value for name, value in pairs.items() if name.lower() == b"event"), None) or b""
    name = next((value for name, value in pairs.items() if name.lower() == b"name"), None) or b""
    return name.lower().startswith(b"com.apple.") and any(word in event.lower() for word in (b"back-fill", b"indexer"))


def _loaded(session: "ImapSession") -> bool:
    most = session.service.limits.background_load
    try:
        return bool(most) and os.getloadavg()[0] > most * (os.cpu_count() or 1)
    except OSError:  # a sandbox without /proc/loadavg
        return False


def enable(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 5161: CONDSTORE, and QRESYNC, which brings it along (RFC 7162 3.2.3); IMAP4rev2 (RFC 9051 6.3.1), UTF8=ACCEPT
    (RFC 6855 3), UIDONLY (RFC 9586 3)."""
    reader.sp()
    asked = [reader.atom().upper()]
    while reader.more():
        asked.append(reader.atom().upper())
    reader.end()
    done = []
    if b"QRESYNC" in asked and not session.qresync:
        session.learn_modseq()
        session.qresync = True
        done.append(b"QRESYNC")
    if b"CONDSTORE" in asked:
        session.learn_modseq()
        done.append(b"CONDSTORE")
    if b"IMAP4REV2" in asked:
        session.rev2 = session.utf8 = True
        done.append(b"IMAP4rev2")
    if b"UTF8=ACCEPT" in asked:
        session.utf8 = True
        done.append(b"UTF8=ACCEPT")
    if b"UIDONLY" in asked:
        session.uidonly = True
        done.append(b"UIDONLY")
    session.conn.write(b"".join([b"* ENABLED", *(b" " + name for name in done), b"\r\n"]))
    return session.finish(tag, b"OK ENABLE completed")  # type: ignore[no-any-return]


def unauthenticate(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 8437: back to the state before login; TLS and compression stay."""
    reader.end()
    session.leave()
    session.record = session.account = session.login = None
    session.condstore = session.qresync = session.rev2 = session.utf8 = session.uidonly = False
    session.conn.touch(session.service.limits.login_timeout, fixed=True)
    session.conn.write(tag + b" OK UNAUTHENTICATE completed\r\n")
    return None


def starttls(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.2.1."""
    reader.end()
    if session.conn.tls:
        session.bad(tag, "TLS is on already")
    elif not session.conn.tls_available:
        session.bad(tag, "TLS is not available")
    else:
        session.conn.write(tag + b" OK begin TLS now\r\n")
        session.conn.start_tls()
    return None


def login(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.2.3."""
    reader.sp()
    name = reader.astring()
    reader.sp()
    password = reader.astring()
    reader.end()
    if not may_login(session):
        session.conn.write(tag + b" NO [PRIVACYREQUIRED] TLS is needed first: STARTTLS\r\n")
        return None
    try:
        claim = sasl.Credentials(sasl.login_name(name), password)
    except sasl.SaslError as error:
        session.bad(tag, str(error))
        return None
    return _login(session, tag, claim)


async def _login(session: "ImapSession", tag: bytes, claim: sasl.Credentials) -> None:
    await enter(session, tag, claim)


def authenticate(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.2.2 with the initial response of RFC 4959."""
    reader.sp()
    name = reader.atom().upper().decode("ascii", "replace")
    initial = None
    if reader.more():
        initial = b"=" if reader.skip(b"=") else reader.astring() if reader.peek() == 34 else _rest(reader)
    reader.end()
    verifier = session.service.verifier
    mechanism = verifier.begin(name, session.conn)
    if mechanism is None:
        known = ", ".join(verifier.mechanisms(session.conn)).encode()
        session.conn.write(tag + b" NO [CANNOT] mechanism is not known; known are " + known + b"\r\n")
        return None
    if not may_login(session):
        session.conn.write(tag + b" NO [PRIVACYREQUIRED] TLS is needed first: STARTTLS\r\n")
        return None
    return Exchange(session, tag, mechanism).step(initial)


def _rest(reader: Reader) -> bytes:
    out = bytearray()
    while reader.peek() not in (-1, 32):
        out.append(reader.peek())
        reader.pos += 1
    return bytes(out)


class Exchange:
    """A SASL exchange under way."""

    def __init__(self, session: "ImapSession", tag: bytes, mechanism: Any) -> None:
        self._session = session
        self.tag = tag
        self._mechanism = mechanism

    def line(self, line: bytes) -> None:
        """One response from the client."""
        self._session.set_sasl(None)
        if line == b"*":
            self._session.bad(self.tag, "login cancelled")
            return
        work = self.step(line)
        if work is not None:
            self._session.conn.run(work)

    def step(self, line: bytes | None) -> Work:
        session = self._session
        try:
            answer = self._mechanism.step(None if line is None else sasl.decode(line))
        except sasl.SaslError as error:
            session.bad(self.tag, str(error))
            return None
        if isinstance(answer, bytes):
            session.set_sasl(self)
            session.conn.write(b"+ " + b64encode(answer) + b"\r\n")
            return None
        return self._enter(answer)

    async def _enter(self, claim: sasl.Claim) -> None:
        """A token that is refused is told why before the exchange fails (RFC 7628 3.2.3)."""
        if not await enter(self._session, self.tag, claim) and isinstance(claim, sasl.Token):
            self._session.set_sasl(self)
            self._session.conn.write(b"+ " + b64encode(claim.mechanism.refusal) + b"\r\n")


async def enter(session: "ImapSession", tag: bytes, claim: sasl.Claim) -> bool:
    """Check a login and open the account; one text for every failure (RFC 5530 AUTHENTICATIONFAILED). False when that
    is still to be said, of a token."""
    service, begun = session.service, time.monotonic()
    try:
        entry = await service.verifier.admit(claim, session.conn.host, "imap")
    except LoginRefused as error:  # RFC 5530 3
        session.conn.write(tag + b" NO [AUTHORIZATIONFAILED] " + str(error).encode() + b"\r\n")
        return True
    except KeptOut as error:
        said = str(error).encode()
        session.conn.write(b"* BYE " + said + b"\r\n" + tag + b" NO [UNAVAILABLE] " + said + b"\r\n")
        session.conn.close()
        return True
    except TemporaryError:
        session.conn.write(tag + b" NO [UNAVAILABLE] logins cannot be checked now, try again later\r\n")
        return True
    account = service.account(entry.record) if entry is not None else None
    if account is not None and entry is not None:
        await service.store.open(account)
        if service.verifier.ended(entry.login):  # meanwhile
            entry = None
    if account is None or entry is None:
        if not isinstance(claim, sasl.Spent):
            session.failures += 1
            session.conn.blame(1, "failed logins")
            log.event("login.failed", "warning", protocol="imap", login=claim.login, peer=session.conn.host)
            await until_refusal(begun, service.limits.auth_failure_delay)
        if isinstance(claim, sasl.Token) and session.failures < service.limits.auth_failures:
            return False
        session.conn.write(tag + b" NO [AUTHENTICATIONFAILED] login failed\r\n")
        if session.failures >= service.limits.auth_failures:
            session.conn.write(b"* BYE too many failed logins\r\n")
            session.conn.close()
        return True
    session.record, session.account, session.login = entry.record, account, entry.login
    session.conn.touch(service.limits.idle_timeout)
    count("imap.logins")
    log.event("login", protocol="imap", account=account.address, peer=session.conn.host)
    session.conn.write(tag + b" OK [CAPABILITY " + capabilities(session) + b"] logged in\r\n")
    return True
