"""One POP3 session (RFC 1939; CAPA RFC 2449, STLS RFC 2595, SASL RFC 5034, AUTH-RESP-CODE RFC 3206).

The view of INBOX is frozen at login, and what others remove stays readable for a while (store.views). DELE only marks;
QUIT removes all that is marked in one durable step, and its +OK comes after that. A connection that is lost deletes
nothing. UIDL is Dovecot's default form, so that clients which come from there download nothing twice.
"""

import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import fastmail
from fastmail._core import pages
from fastmail._core.lines import dot_stuffed, find_crlf, top_end
from fastmail._core.uidset import UidSet
from fastmail.auth import sasl
from fastmail.auth.verifier import Verifier, until_refusal
from fastmail.directory.interface import AccountRecord
from fastmail.directory.standing import Standing
from fastmail.model.errors import KeptOut, LoginRefused, MailError, TemporaryError
from fastmail.model.flags import SEEN
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from fastmail.pop3.table import AUTHORIZATION, COMMANDS, EXTRAS, TRANSACTION
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LINE = 512
AUTH_LINE = 12288  # of AUTH with its initial response, and of responses (RFC 5034 4, RFC 4954 4)
BLOCK = 65536  # octets of a long answer that are written at once
LINES = 2000  # of a listing that are made at once


@dataclass(slots=True)
class Service:
    """What all POP3 sessions of a worker share."""

    hostname: str
    limits: Limits
    store: Store
    verifier: Verifier
    account: Callable[[AccountRecord], Account]
    plaintext: bool | str = False


class Pop3Session:
    """See the module; commands are methods named in pop3.table."""

    __slots__ = (
        "_account",
        "_conn",
        "_deleted",
        "_errors",
        "_failures",
        "_key",
        "_login_of",
        "_read",
        "_sasl",
        "_service",
        "_sizes",
        "_skipping",
        "_uidls",
        "_uids",
        "_user",
        "_validity",
        "_viewed",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self._service = service
        self._conn = connection
        self._account: Account | None = None
        self._login_of: Standing | None = None
        self._key = b""
        self._viewed = b""  # the same while the session has a view of it
        self._uids: UidSet | Sequence[int] = []
        self._uidls: dict[int, bytes] = {}  # other than our own form
        self._sizes: list[int] = []
        self._validity = 0
        self._deleted: set[int] = set()
        self._read: set[int] = set()
        self._user: sasl.Login | None = None
        self._sasl: Any = None
        self._errors = 0
        self._failures = 0
        self._skipping = False

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self._ok("fastmail ready")
        self._conn.touch(self._service.limits.login_timeout, fixed=True)

    def tls_started(self) -> None:
        self._user = None
        self._conn.touch(self._service.limits.login_timeout, fixed=True)

    def timed_out(self) -> None:
        self._err("[SYS/TEMP] timeout, nothing was deleted")
        self._conn.close()

    def ended(self) -> str:
        return self._service.verifier.ended(self._login_of)

    def dismiss(self, why: str) -> None:
        """What was marked is not deleted (RFC 1939 6)."""
        self._err(f"[AUTH] {why}; nothing was deleted")
        self._conn.close()

    def failed(self) -> None:
        self._err("[SYS/TEMP] internal error, nothing was deleted")
        self._conn.close()

    def lost(self) -> None:
        self._sizes = []
        self._leave()

    def _leave(self) -> None:
        """There is no view any more."""
        if self._viewed:
            self._service.store.views.end(self._viewed)
        self._viewed = b""

    def feed(self, data: memoryview) -> int:
        position, size = 0, len(data)
        conn = self._conn
        if self._account is not None:
            conn.touch(self._service.limits.command_timeout)
        while position < size and not conn.busy and not conn.closing and not conn.full:
            end = find_crlf(data, position, size)
            long = self._sasl is not None or bytes(data[position : position + 5]).upper() == b"AUTH "
            most = AUTH_LINE if long else LINE
            if end < 0:
                if size - position > most + len(b"\r"):
                    self._skipping = True
                    return size
                return position
            line = bytes(data[position:end]).removesuffix(b"\r")
            position = end + 1
            if self._skipping or len(line) > most:
                self._skipping = False
                self._sasl = None  # an exchange with a line that could not be read is over
                self._bad("line is too long")
            elif self._sasl is not None:
                self._sasl_line(line)
            else:
                self._command(line)
        return position

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        command = COMMANDS.get(verb.upper())
        state = AUTHORIZATION if self._account is None else TRANSACTION
        if command is None:
            self._bad("unknown command")
        elif not command.states & state:
            self._bad("log in first" if self._account is None else "logged in already")
        else:
            getattr(self, command.method)(rest)

    # ---------------------------------------------------------------- before login

    def _may_login(self) -> bool:
        allowed = self._service.plaintext
        return self._conn.tls or allowed is True or (allowed == "loopback" and self._conn.local)

    def _mechanisms(self, between: str) -> bytes:
        return between.join(self._service.verifier.mechanisms(self._conn)).encode()

    def do_capa(self, rest: bytes) -> None:
        """RFC 2449 5."""
        lines = list(EXTRAS)
        if self._account is None:
            if self._may_login():
                lines += [b"USER", b"SASL " + self._mechanisms(" ")]
            if self._conn.tls_available and not self._conn.tls:
                lines.append(b"STLS")
        lines.append(b"IMPLEMENTATION fastmail " + fastmail.__version__.encode())
        self._conn.write(b"+OK what is done here\r\n" + b"".join(x + b"\r\n" for x in lines) + b".\r\n")

    def do_stls(self, rest: bytes) -> None:
        """RFC 2595 4."""
        if self._conn.tls:
            self._bad("TLS is on already")
        elif not self._conn.tls_available:
            self._bad("TLS is not available")
        else:
            self._ok("begin TLS now")
            self._conn.start_tls()

    def do_user(self, rest: bytes) -> None:
        """RFC 1939 7: says the same for every name."""
        if not self._may_login():
            self._bad("[AUTH] TLS is needed first: STLS")
        elif not rest:
            self._bad("USER name is expected")
        else:
            user = sasl.Login()  # the same two steps, with the same idea of a name
            try:
                user.step(rest)
            except sasl.SaslError as error:
                self._bad(str(error))
                return
            self._user = user
            self._ok("send PASS")

    def do_pass(self, rest: bytes) -> None:
        """RFC 1939 7; the password is the rest of the line."""
        user, self._user = self._user, None
        if user is None:
            self._bad("USER comes first")
            return
        claim = user.step(rest)
        assert isinstance(claim, sasl.Credentials)
        self._conn.run(self._login(claim))

    def do_auth(self, rest: bytes) -> None:
        """RFC 5034 4; without an argument the mechanisms, as old clients ask."""
        words = rest.split()
        if not words:
            self._conn.write(
                b"+OK mechanisms\r\n" + (self._mechanisms("\r\n") + b"\r\n" if self._may_login() else b"") + b".\r\n"
            )
            return
        name = words[0].decode("ascii", "replace").upper()
        if not self._may_login():
            self._bad("[AUTH] TLS is needed first: STLS")
        elif len(words) > 2 or (mechanism := self._service.verifier.begin(name, self._conn)) is None:
            self._bad("mechanism is not known; known are " + self._mechanisms(", ").decode())
        else:
            self._sasl = mechanism
            self._sasl_step(words[1] if len(words) == 2 else None)

    def _sasl_line(self, line: bytes) -> None:
        if line == b"*":
            self._sasl = None
            self._bad("login cancelled")
        else:
            self._sasl_step(line)

    def _sasl_step(self, line: bytes | None) -> None:
        try:
            answer = self._sasl.step(None if line is None else sasl.decode(line))
        except sasl.SaslError as error:
            self._sasl = None
            self._bad(str(error))
            return
        if isinstance(answer, bytes):
            self._conn.write(b"+ " + b64encode(answer) + b"\r\n")
            return
        self._sasl = None
        self._conn.run(self._login(answer))

    async def _login(self, claim: sasl.Claim) -> None:
        service, begun = self._service, time.monotonic()
        try:
            entry = await service.verifier.admit(claim, self._conn.host, "pop3")
        except LoginRefused as error:
            self._err(f"[AUTH] {error}")
            return
        except KeptOut as error:
            self._err(f"[SYS/TEMP] {error}")
            self._conn.close()
            return
        except TemporaryError:
            self._err("[SYS/TEMP] logins cannot be checked now, try again later")
            return
        if entry is None:
            if not isinstance(claim, sasl.Spent):
                self._failures += 1
                self._conn.blame(1, "failed logins")
                log.event("login.failed", "warning", protocol="pop3", login=claim.login, peer=self._conn.host)
                await until_refusal(begun, service.limits.auth_failure_delay)
            if isinstance(claim, sasl.Token) and self._failures < service.limits.auth_failures:
                self._sasl = claim.mechanism  # told why, before the exchange fails (RFC 7628 3.2.3)
                self._conn.write(b"+ " + b64encode(claim.mechanism.refusal) + b"\r\n")
                return
            self._err("[AUTH] login failed")
            if self._failures >= service.limits.auth_failures:
                self._conn.close()
            return
        account = service.account(entry.record)
        try:
            await service.store.open(account)
            key = service.store.find(account, "INBOX") or b""
            try:
                await service.store.sync(account, key)
            except TemporaryError as error:
                log.event("pop3.sync", "warning", error=error)  # no room to take it in; the rest can be read
            await service.store.views.begin(key)
            self._viewed = key
            if self._conn.closing:
                self._leave()  # the client went meanwhile, and ``lost`` will not come again
                return
            with service.store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                assert box is not None
                self._validity = box.uidvalidity
                uids = UidSet().plus_pages(snapshot.presence(key), 0)
                for page in snapshot.pages(key):
                    self._sizes += pages.sizes(page, uids)
                self._uids = uids
                self._take_over(snapshot.pop3(key))
        except (MailError, OSError) as error:
            log.event("pop3.open", "error", account=account.address, error=repr(error))
            self._err("[SYS/TEMP] mailbox is not available, try again later")
            self._conn.close()
            return
        if service.verifier.ended(entry.login):  # meanwhile
            self._err("[AUTH] login failed")
            self._conn.close()
            return
        self._account, self._key, self._login_of = account, key, entry.login
        self._conn.touch(service.limits.command_timeout)
        count("pop3.logins")
        log.event("login", protocol="pop3", account=account.address, peer=self._conn.host)
        self._ok(f"{len(self._sizes)} messages")

    def _take_over(self, known: dict[int, tuple[int, bytes]]) -> None:
        """Show messages as the server before did: its order first, and its UIDLs."""
        if not known:
            return
        places = {uid: order for uid, (order, _) in known.items() if order}
        rows = list(zip(self._uids, self._sizes, strict=True))
        rows.sort(key=lambda row: (row[0] not in places, places.get(row[0], row[0])))
        self._uids = [uid for uid, _ in rows]
        self._sizes = [size for _, size in rows]
        self._uidls = {uid: uidl for uid, (_, uidl) in known.items() if uidl}

    def _uid(self, number: int) -> int:
        uids = self._uids
        return uids.uid(number) if isinstance(uids, UidSet) else uids[number - 1]

    def _uidl(self, uid: int) -> str:
        known = self._uidls.get(uid) if self._uidls else None
        return f"{uid:08x}{self._validity:08x}" if known is None else known.decode("ascii", "replace")

    # ---------------------------------------------------------------- in the mailbox (RFC 1939 5, 7)

    def _number(self, word: bytes) -> int:
        """A message number that is there and not deleted; 0 after an error reply."""
        number = int(word) if word.isdigit() and len(word) < 10 else 0
        if not 0 < number <= len(self._sizes):
            self._bad("no such message")
            return 0
        if number in self._deleted:
            self._bad("message is deleted")
            return 0
        return number

    def do_stat(self, rest: bytes) -> None:
        total = sum(self._sizes)
        if self._deleted:
            total -= sum(self._sizes[n - 1] for n in self._deleted)
        self._ok(f"{len(self._sizes) - len(self._deleted)} {total}")

    def do_list(self, rest: bytes) -> None:
        if rest.strip():
            number = self._number(rest.strip())
            if number:
                self._ok(f"{number} {self._sizes[number - 1]}")
            return
        gone, sizes = self._deleted, self._sizes
        lines = (f"{n} {size}" for n, size in enumerate(sizes, 1) if n not in gone)
        self._multi(f"{len(sizes) - len(gone)} messages", lines)

    def do_uidl(self, rest: bytes) -> None:
        if rest.strip():
            number = self._number(rest.strip())
            if number:
                self._ok(f"{number} {self._uidl(self._uid(number))}")
            return
        gone, validity = self._deleted, f"{self._validity:08x}"
        if self._uidls:
            lines = (f"{n} {self._uidl(uid)}" for n, uid in enumerate(self._uids, 1) if n not in gone)
        else:
            lines = (f"{n} {uid:08x}{validity}" for n, uid in enumerate(self._uids, 1) if n not in gone)
        self._multi("unique ids", lines)

    def do_retr(self, rest: bytes) -> None:
        number = self._number(rest.strip())
        if number:
            self._conn.run_now(self._send(number, -1))

    def do_top(self, rest: bytes) -> None:
        words = rest.split()
        if len(words) != 2 or not words[1].isdigit() or len(words[1]) > 9:
            self._bad("TOP message lines is expected")
            return
        number = self._number(words[0])
        if number:
            self._conn.run_now(self._send(number, int(words[1])))

    async def _send(self, number: int, lines: int) -> None:
        assert self._account is not None
        try:
            content = await self._service.store.content(self._account, self._key, self._uid(number))
        except MailError as error:
            log.event("pop3.unreadable", "error", account=self._account.address, error=error)
            self._err("[SYS/TEMP] message can not be read now")
            return
        if content is None:
            self._err("message was removed by another program")
            return
        if lines < 0:
            self._read.add(number)
        self._ok(f"{self._sizes[number - 1]} octets")
        for piece in sent_pieces(content if lines < 0 else content[: top_end(content, lines)]):
            self._conn.write(piece)
            if self._conn.full:
                await self._conn.drain()

    def do_dele(self, rest: bytes) -> None:
        number = self._number(rest.strip())
        if number:
            self._deleted.add(number)
            self._ok("marked")

    def do_noop(self, rest: bytes) -> None:
        self._ok("")

    def do_rset(self, rest: bytes) -> None:
        self._deleted.clear()
        self._ok("nothing is marked")

    def do_quit(self, rest: bytes) -> None:
        """RFC 1939 6: the UPDATE state."""
        if self._account is None:
            self._ok("bye")
            self._conn.close()
        else:
            self._conn.run(self._update(self._account))

    async def _update(self, account: Account) -> None:
        store = self._service.store
        try:
            seen = UidSet.of(sorted(self._uid(n) for n in self._read - self._deleted))
            if seen:
                await store.store(account, self._key, seen, 1, SEEN, [])
            if self._deleted:
                marked = UidSet.of(sorted(self._uid(n) for n in self._deleted))
                await store.expunge(account, self._key, marked, 0, mine=1 if self._viewed else 0)
            self._ok("bye")
        except (MailError, OSError) as error:
            log.event("pop3.update", "error", account=account.address, error=repr(error))
            self._err("[SYS/TEMP] some messages were not removed")
        self._conn.close()

    # ---------------------------------------------------------------- replies

    def _ok(self, text: str) -> None:
        self._conn.write(f"+OK {text}".rstrip().encode() + b"\r\n")

    def _err(self, text: str) -> None:
        self._conn.write(f"-ERR {text}".encode() + b"\r\n")

    def _bad(self, text: str) -> None:
        """An error of the client; too many end the session."""
        self._errors += 1
        self._err(text)
        if self._errors >= self._service.limits.errors * (1 if self._account is None else 50):
            count("pop3.errors")
            self._conn.blame(2, "too many errors")
            self._conn.close()

    def _multi(self, title: str, lines: Iterable[str]) -> None:
        self._ok(title)
        self._conn.run_now(self._listing(iter(lines)))

    async def _listing(self, lines: Iterator[str]) -> None:
        """A line for each message, some at a time; the peer reads them before there are more."""
        while part := list(islice(lines, LINES)):
            self._conn.write("\r\n".join([*part, ""]).encode())
            if self._conn.full:
                await self._conn.drain()
        self._conn.write(b".\r\n")


def sent_pieces(content: bytes, block: int = BLOCK) -> Iterator[bytes]:
    """A message as RETR sends it, with its final dot, in pieces that are not much longer than ``block``, whatever its
    lines are like."""
    view, start, size = memoryview(content), 0, len(content)
    inside = False  # of a line that is longer than a piece
    while size - start > block:
        if inside or (end := content.rfind(b"\n", start, start + block) + 1) == 0:
            end = content.find(b"\n", start, start + block) + 1
            if end:
                yield content[start : end - 1].removesuffix(b"\r") + b"\r\n"
            else:
                end = start + block
                end -= content[end - 1] == 13 and block > 1  # it may belong to the line's end
                yield (b"." if not inside and content[start] == 46 else b"") + content[start:end]
            inside = content[end - 1] != 10
        else:
            yield dot_stuffed(view[start:end], False)
        start = end
    if inside:
        end = content.find(b"\n", start) + 1
        yield (content[start : end - 1].removesuffix(b"\r") if end else content[start:]) + b"\r\n"
        start = end or size
    yield dot_stuffed(view[start:])
