"""URLAUTH (RFC 4467) with URLAUTH=BINARY (RFC 5524), and what BURL (RFC 4468) needs of it: URLs with which others may
fetch a message or a part without its owner's login. The mechanism is INTERNAL: a keyed digest, with a key for each
mailbox that RESETKEY discards.
"""

import calendar
import hmac
import os
import re
import time
from urllib.parse import unquote_to_bytes

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import places
from fastmail.imap import url as urls
from fastmail.imap.aside import aside
from fastmail.imap.command import Command, Work
from fastmail.imap.names import read_name
from fastmail.imap.service import Service
from fastmail.imap.state import Session
from fastmail.message import sections, summary
from fastmail.model.address import comparable
from fastmail.model.errors import CannotDo, DamagedAccount, MailError, NoPermission, NoSuchMailbox
from fastmail.store.interface import Account

KEY = b"/urlauth"
BODY, BINARY, STRUCTURE = b"BODY", b"BINARY", b"BODYPARTSTRUCTURE"
MOST = 100  # URLs of one command
NO_SECRET = os.urandom(32)  # stands for the key of a mailbox without one: no token is valid for it
ACCESS = ";URLAUTH="
_DIGEST = re.compile(r"[0-9a-fA-F]{34,256}")
_ACCESS = re.compile(r";URLAUTH=(submit\+[^:;]+|user\+[^:;]+|authuser|anonymous)", re.IGNORECASE)
_EXPIRE = re.compile(r";EXPIRE=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)


def cut(text: str) -> tuple[str, str] | None:
    """Return (URL without its token, token) of an authorized URL (RFC 4467 4)."""
    rump, _, token = text.rpartition(":")
    rump, _, mechanism = rump.rpartition(":")
    access = rump[rump.upper().rfind(ACCESS) + len(ACCESS) :] if ACCESS in rump.upper() else ""
    good = access and ":" not in access and mechanism.upper() == "INTERNAL" and _DIGEST.fullmatch(token)
    return (rump, token) if good else None


def generate(command: Command) -> Work:
    """GENURLAUTH (RFC 4467 7)."""
    session, reader = command.session, command.reader
    wanted = []
    while True:
        reader.sp()
        at = reader.pos
        text = reader.astring().decode("utf-8", "replace")
        url = urls.parse(text)
        if url is None or not url.mailbox or not _ACCESS.search(text) or cut(text):
            raise ParseError("the URL of a message that ends in ;URLAUTH=access", at)
        if _owner(session.service, session.account, url) != session.account:
            raise CannotDo("the URL is not of this account")
        reader.sp()
        at = reader.pos
        if reader.atom().upper() != b"INTERNAL":
            raise ParseError("INTERNAL", at)
        wanted.append((text, url))
        if len(wanted) > MOST:
            raise ParseError("fewer URLs", at)
        if reader.peek() != 32:
            break
    reader.end()
    return _generate(command, wanted)


async def _generate(command: Command, wanted: list[tuple[str, urls.Url]]) -> None:
    session = command.session
    assert session.account is not None
    made = []
    for text, url in wanted:
        secret = await _secret(session.service, session.account, url, True)
        if secret is None:
            raise NoSuchMailbox("mailbox does not exist")
        made.append(quote_always(f"{text}:internal:{_digest(secret, text)}".encode()))
    session.conn.write(b"* GENURLAUTH " + b" ".join(made) + b"\r\n")
    await command.complete(b"OK GENURLAUTH completed")


def quote_always(text: bytes) -> bytes:
    """As a quoted string, as clients expect URLs."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _digest(secret: bytes, text: str) -> str:
    return "01" + hmac.digest(secret, text.encode(), "sha256").hex()


async def _secret(service: Service, account: Account, url: urls.Url, make: bool) -> bytes | None:
    """The mailbox's key."""
    store = service.store
    key = store.find(account, places.personal(service, url.mailbox))
    if key is None:
        return None
    with store.snapshot(account) as snapshot:
        found = snapshot.note(key, KEY)
    if found is None and make:
        found = os.urandom(32)
        if not await store.annotate(account, key, {KEY: found}, {KEY: None}):
            return await _secret(service, account, url, make)  # another session was first
    return found


def _owner(service: Service, own: Account | None, url: urls.Url) -> Account | None:
    directory = service.directory
    for name in (url.user, f"{url.user}@{url.host}"):
        try:
            record = directory.account(name.lower()) if "@" in name else None
        except DamagedAccount:
            record = None
        if record is not None and record.enabled:
            return service.account(record)
    return own if own is not None and own.address.partition("@")[0] == url.user.lower() else None


def fetch(command: Command) -> Work:
    """URLFETCH (RFC 4467 7, RFC 5524 3)."""
    reader = command.reader
    wanted: list[tuple[str, list[bytes] | None]] = []
    while True:
        reader.sp()
        items: list[bytes] | None = None
        if reader.peek() == 40:
            reader.open()
            text = reader.astring().decode("utf-8", "replace")
            items = _items(reader)
            reader.close()
        else:
            text = reader.astring().decode("utf-8", "replace")
        wanted.append((text, items))
        if len(wanted) > MOST:
            raise ParseError("fewer URLs", reader.pos)
        if reader.peek() != 32:
            break
    reader.end()
    return _fetch(command, wanted)


def _items(reader: Reader) -> list[bytes]:
    """What is asked of one URL: each item once (RFC 5524 3.1), so that a command cannot ask for one message a
    thousand times. A client that wants BODY beside BINARY, which it must not, gets both."""
    items: list[bytes] = []
    while reader.more():
        at = reader.pos
        item = reader.atom().upper()
        if item not in (BODY, BINARY, STRUCTURE) or item in items:
            raise ParseError("BODY, BINARY or BODYPARTSTRUCTURE, each once", at)
        items.append(item)
    return items


async def _fetch(command: Command, wanted: list[tuple[str, list[bytes] | None]]) -> None:
    session = command.session
    for text, items in wanted:
        session.conn.write(b"* URLFETCH " + quote_always(text.encode()))
        try:
            account, url = await _allowed(session.service, session.account, text)
            if not items:
                found = await urls.read(session.service, account, url, None)
                session.conn.write(b" {%d}\r\n%b" % (len(found), found))
            else:
                parts = [await _item(session, account, url, item, items) for item in items]
                session.conn.write(b"".join(parts))
        except (CannotDo, MailError):
            session.conn.write(b" NIL")  # never why (RFC 4467 7)
        session.conn.write(b"\r\n")
        await session.conn.drain()
    await command.complete(b"OK URLFETCH completed")


async def _item(session: Session, account: Account, url: urls.Url, item: bytes, beside: list[bytes]) -> bytes:
    """One element of the response (RFC 5524 3.2)."""
    if item == STRUCTURE:
        whole = await urls.read(session.service, account, urls.Url("", "", url.mailbox, 0, url.uid, "", None, ""), None)
        parsed = await aside(len(whole), summary.of, whole)
        numbers = url.section.split(".") if url.section else []
        plain = all(number.isdigit() and len(number) < 10 and int(number) for number in numbers)
        path = tuple(int(number) for number in numbers) if plain else None
        structure = sections.structure_of(parsed, path) if path is not None else None
        if structure is not None and path and BINARY in beside:
            # The structure is that of the data as they are returned, and those have no transfer encoding any more.
            text = await aside(len(whole), sections.extract, whole, parsed, path, b"BINARY", ())
            structure = sections.decoded_structure(structure, text or b"")
        return b" (BODYPARTSTRUCTURE " + (structure or b"NIL") + b")"
    octets = await urls.read(session.service, account, url, None, item == BINARY)
    tilde = b"~" if item == BINARY and 0 in octets else b""
    return b" (" + item + b" " + tilde + b"{%d}\r\n%b)" % (len(octets), octets)


async def submit(service: Service, login: Account, text: str) -> bytes:
    """What a URL names, with CRLF, for a login of the submission service (RFC 4468 3.3); CannotDo when it is not for
    it."""
    account, url = await _allowed(service, login, text, True)
    await service.store.open(account)
    return await urls.read(service, account, url, None)


async def _allowed(service: Service, who: Account | None, text: str, submits: bool = False) -> tuple[Account, urls.Url]:
    """Whose message it is, when the URL is good for this login; CannotDo otherwise. ``submits``: it is to be sent."""
    token = cut(text)
    url = urls.parse(token[0]) if token is not None else None
    account = _owner(service, who, url) if url is not None else None
    if token is None or url is None or who is None:
        raise CannotDo("not an authorized URL")
    # the same work whether the account, the mailbox or only the key is not there
    secret = await _secret(service, account or places.NOBODY, url, False)
    if not hmac.compare_digest(_digest(secret or NO_SECRET, token[0]), token[1].lower()) or secret is None:
        raise CannotDo("the URL is not authorized")
    if account is None:
        raise CannotDo("the URL is not authorized")
    expire = _EXPIRE.search(text)
    if ";EXPIRE=" in text.upper() and (expire is None or _moment(expire) < time.time()):
        raise CannotDo("the URL has expired")
    access = _ACCESS.search(text)
    kind, _, user = access.group(1).lower().partition("+") if access is not None else ("", "", "")
    own = _is_login(service, user, who)
    if kind in ("anonymous", "authuser") or (own and (kind == "user" or (submits and kind == "submit"))):
        return account, url
    raise CannotDo("the URL is for somebody else")


def _is_login(service: Service, user: str, who: Account) -> bool:
    """Is a user of ``user+`` or ``submit+`` (percent-encoded, RFC 5092 11) this login? By its whole address: a name
    without a domain is one of the default domain, where the configuration has one, or else nobody's."""
    try:
        name = unquote_to_bytes(user).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return service.verifier.address(name) == comparable(who.address)


def _moment(found: re.Match[str]) -> float:
    try:
        base = calendar.timegm(time.strptime(found.group(1), "%Y-%m-%dT%H:%M:%S"))
    except ValueError:  # the 31st of February: long ago
        return 0
    zone = found.group(2)
    if zone in ("Z", "z"):
        return base
    return base - (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)


def reset(command: Command) -> Work:
    """RESETKEY (RFC 4467 7), for one mailbox or for all."""
    session, reader = command.session, command.reader
    name = None
    if reader.more():
        name = read_name(session, reader)
        while reader.more():
            at = reader.pos
            if reader.atom().upper() != b"INTERNAL":
                raise ParseError("INTERNAL", at)
    reader.end()
    return _reset(command, name)


async def _reset(command: Command, name: str | None) -> None:
    session = command.session
    account, store = session.account, session.service.store
    assert account is not None
    if name is not None:
        place = await places.find(session, name)
        if place.account != account or place.key is None:
            raise NoPermission("only the owner of this mailbox may change its keys")
        keys = [place.key]
    else:
        with store.snapshot(account) as snapshot:
            keys = [box.key for box in snapshot.boxes(account.id)]
    for key in keys:
        await store.annotate(account, key, {KEY: os.urandom(32) if name is not None else None})
    code = b"[URLMECH INTERNAL] " if name is not None else b""
    await command.complete(b"OK " + code + b"RESETKEY completed")
