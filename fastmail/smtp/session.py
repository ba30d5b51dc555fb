"""One SMTP, submission or LMTP session (RFC 5321, 6409, 2033).

Extensions: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING and BINARYMIME
(RFC 3030), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS (RFC 3207), AUTH (RFC 4954), DSN (RFC 3461), LIMITS (RFC 9422),
FUTURERELEASE (RFC 4865), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710). What users send is
completed (RFC 6409 8).

Promise: end of data is CRLF "." CRLF and nothing else; 250 comes after the message is durable in every mailbox it
names (LMTP: one reply for each recipient). No limit is found out after memory was spent. A session that makes
``errors`` mistakes, is slow, or speaks HTTP is ended with 421.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastmail._core.lines import ContentReader, find_crlf
from fastmail.auth import sasl
from fastmail.auth.verifier import Verifier
from fastmail.delivery.deliver import Deliverer, Envelope, Outcome
from fastmail.delivery.outbound import Outbound
from fastmail.directory.interface import AccountRecord
from fastmail.durable.staging import Staged
from fastmail.message import submitted, trace
from fastmail.message.recode import without_binary
from fastmail.model.errors import ClientError, StorageFull, TemporaryError
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from fastmail.net.networks import Network, address_in
from fastmail.queue.model import Rcpt
from fastmail.smtp import envelope as grammar
from fastmail.smtp import xclient
from fastmail.smtp.milter import Filters, Milter, Verdict
from fastmail.smtp.table import COMMANDS, EOD_REPLIES, EXTENSIONS, HTTP, LMTP, MX, SUBMISSION
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, extensions add to it
AUTH_LINE = 12288  # RFC 4954 4.3
TAKE = 65536


@dataclass(slots=True)
class Service:
    """What all sessions of a listener share. ``kind``: smtp, submission or lmtp."""

    kind: str
    hostname: str
    limits: Limits
    deliverer: Deliverer
    verifier: Verifier
    staging: str
    plaintext: bool | str = False
    outbound: Outbound | None = None
    networks: Sequence[Network] = ()
    milters: Sequence[Milter] = ()
    xclient: Sequence[Network] = ()


class SmtpSession:
    """See the module. Commands are methods named in smtp.table."""

    __slots__ = (
        "_announced",
        "_bdat",
        "_bdat_last",
        "_bdat_refused",
        "_binary",
        "_chunked",
        "_conn",
        "_envelope",
        "_errors",
        "_failures",
        "_filters",
        "_hello",
        "_host",
        "_mail",
        "_over",
        "_reader",
        "_sasl",
        "_service",
        "_skipping",
        "_staged",
        "_user",
        "_utf8",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self._service = service
        self._conn = connection
        self._hello = b""
        self._host = connection.host  # who the peer is; XCLIENT may tell of another
        self._filters: Filters | None = None
        self._errors = 0
        self._failures = 0
        self._user: AccountRecord | None = None
        self._sasl: Any = None
        self._skipping = False
        self._reader: ContentReader | None = None
        self._staged: Staged | None = None
        self._reset()

    def _reset(self) -> None:
        """No mail transaction."""
        if self._filters is not None:
            self._filters.abort()
        self._envelope = Envelope()
        self._mail = False
        self._utf8 = False
        self._announced = 0
        self._bdat = 0
        self._bdat_last = False
        self._bdat_refused = False
        self._binary = False
        self._over = False
        self._chunked = False
        self._reader = None
        if self._staged is not None:
            self._staged.drop()
            self._staged = None

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self._conn.touch(self._service.limits.command_timeout)
        if self._service.milters:
            self._conn.run(self._greeting())
        else:
            self._welcome()

    def _welcome(self) -> None:
        word = "LMTP" if self._service.kind == LMTP else "ESMTP"
        self._say(f"220 {self._service.hostname} {word} fastmail")

    async def _greeting(self) -> None:
        """Greet whom the filters let in (RFC 5321 3.1)."""
        if self._filters is not None:
            self._filters.close()
        self._filters = Filters(self._service.milters, self._service.hostname, self._host)
        refusal = await self._filters.connect()
        if refusal is None:
            self._welcome()
            return
        count("milter.refused")
        code = 554 if refusal.code // 100 == 5 else 421
        self._say(f"{code} {refusal.enhanced} {refusal.text}")
        self._conn.close()

    async def _consult(
        self, question: Awaitable[Outcome | None], then: Callable[[], None], otherwise: Callable[[], None] | None = None
    ) -> None:
        """Ask the filters, and go on, or refuse."""
        refusal = await question
        if refusal is None:
            then()
            return
        count("milter.refused")
        if otherwise is not None:
            otherwise()
        self._bad(f"{refusal.code} {refusal.enhanced} {refusal.text}")

    def tls_started(self) -> None:
        self._hello = b""
        self._user = None
        self._reset()
        self._conn.touch(self._service.limits.command_timeout)

    def timed_out(self) -> None:
        self._say(f"421 4.4.2 {self._service.hostname} timeout, closing")
        self._conn.close()

    def failed(self) -> None:
        self._reset()
        self._sasl = None
        self._say("451 4.3.0 local error, try again later")

    def lost(self) -> None:
        self._reset()
        if self._filters is not None:
            self._filters.close()
            self._filters = None

    def feed(self, data: memoryview) -> int:
        position = 0
        size = len(data)
        conn = self._conn
        self._conn.touch(self._service.limits.command_timeout)
        while position < size and not conn.busy and not conn.closing:
            if self._reader is not None and (self._bdat or not self._chunked):
                position = self._content(data, position)
                continue
            end = find_crlf(data, position, size)
            if end < 0:
                most = AUTH_LINE if self._sasl is not None else LINE
                if size - position > most:
                    self._skipping = True
                    return size
                return position
            if self._skipping:
                self._skipping = False
                self._bad("500 5.5.2 line is too long")
                position = end + 1
                continue
            line = bytes(data[position : end + 1])
            position = end + 1
            if self._sasl is not None:
                self._sasl_line(line)
            else:
                self._command(line, position < size)
        return position

    # ---------------------------------------------------------------- commands

    def _command(self, line: bytes, more: bool) -> None:
        if not line.endswith(b"\r\n"):
            self._bad("500 5.5.2 line must end in CRLF")
            return
        line = line[:-2]
        if len(line) > LINE:
            self._bad("500 5.5.2 line is too long")
            return
        if b"\r" in line or b"\0" in line:
            self._bad("500 5.5.2 bare CR or NUL in a command")
            return
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        command = COMMANDS.get(verb)
        if command is None:
            if verb in HTTP:
                self._say("421 4.7.0 this is not an HTTP server")
                self._conn.close()
                return
            self._bad("502 5.5.1 EXPN is not done here" if verb == b"EXPN" else "500 5.5.1 unknown command; try HELP")
            return
        if self._service.kind not in command.services:
            if verb == b"AUTH":
                self._bad("502 5.5.1 no AUTH here: users send on the submission ports")
            else:
                self._bad("500 5.5.1 use LHLO" if self._service.kind == LMTP else "500 5.5.1 unknown command; try HELP")
            return
        if rest.strip() and not command.args:
            self._bad("501 5.5.4 no argument is allowed")
            return
        if command.hello and not self._hello:
            self._bad("503 5.5.1 say EHLO first" if self._service.kind != LMTP else "503 5.5.1 say LHLO first")
            return
        if command.mail and not self._mail and verb != b"BDAT":
            self._bad("503 5.5.1 need MAIL first")
            return
        if command.rcpt and not self._envelope.recipients:
            self._bad("503 5.5.1 need RCPT first" if verb != b"DATA" else "554 5.5.1 no valid recipients")
            return
        if verb == b"DATA" and more:
            self._say("554 5.5.0 message was sent before the 354 reply")
            count("smtp.early")
            self._conn.close()
            return
        getattr(self, command.method)(rest)

    def _greet(self, rest: bytes) -> bool:
        name = rest.strip()
        if not name or any(c < 33 or c == 127 for c in name) or len(name) > 255:
            self._bad("501 5.5.4 a host name or address literal is expected")
            return False
        self._reset()
        self._hello = name
        self._envelope.helo = name.decode("utf-8", "replace")
        return True

    def do_helo(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.1."""
        if self._greet(rest):
            self._envelope.protocol = "SMTP"
            self._greeted(lambda: self._say(f"250 {self._service.hostname}"))

    def _greeted(self, then: Callable[[], None]) -> None:
        if self._filters is None:
            then()
            return
        cipher = self._conn.transport.get_extra_info("cipher") if self._conn.tls else None
        self._conn.run(self._consult(self._filters.hello(self._envelope.helo, cipher or ()), then, self._forget_hello))

    def _forget_hello(self) -> None:
        self._hello = b""

    def do_ehlo(self, rest: bytes) -> None:
        """EHLO, and LMTP's LHLO."""
        if self._greet(rest):
            self._greeted(self._offer)

    def _offer(self) -> None:
        """What this server can do, here and now."""
        lines = [self._service.hostname.encode(), *EXTENSIONS, b"SIZE %d" % self._service.limits.message_size]
        if self._service.outbound is not None and self._service.kind == SUBMISSION:
            lines.append(b"FUTURERELEASE %d %b" % (grammar.MOST_HELD, grammar.latest()))
        if self._service.outbound is not None and self._service.kind != LMTP and self._conn.tls:
            lines.append(b"REQUIRETLS")
        if self._service.outbound is not None and self._service.kind != LMTP:
            lines += [b"DELIVERBY", b"MT-PRIORITY"]
        lines.append(b"LIMITS RCPTMAX=%d" % self._service.limits.recipients)
        if self._conn.tls_available and not self._conn.tls:
            lines.append(b"STARTTLS")
        if self._service.kind == SUBMISSION and self._may_authenticate():
            lines.append(b"AUTH " + " ".join(self._service.verifier.mechanisms(self._conn)).encode())
        if self._may_xclient():
            lines.append(xclient.OFFER)
        self._conn.write(b"".join(b"250-%s\r\n" % x for x in lines[:-1]) + b"250 %s\r\n" % lines[-1])

    def _may_xclient(self) -> bool:
        return any(address_in(self._conn.host, network) for network in self._service.xclient)

    def do_xclient(self, rest: bytes) -> None:
        """A test, or a proxy in front of us, says who the client is."""
        if not self._may_xclient():
            self._bad("550 5.7.1 XCLIENT is not allowed from your address")
            return
        if self._mail:
            self._bad("503 5.5.1 a mail transaction is under way; RSET ends it")
            return
        try:
            said = xclient.parse(rest)
        except ValueError as error:
            self._bad(f"501 5.5.4 {error}")
            return
        account = None
        if said.login and self._service.kind == SUBMISSION:
            account = self._service.deliverer.directory.account(said.login.lower())
            if account is None:
                self._bad("501 5.5.4 LOGIN names no account")
                return
        self._host = said.address or self._host
        self._user = account
        self._hello = b""
        self._reset()
        log.event("smtp.xclient", peer=self._conn.host, client=self._host, login=said.login)
        if self._service.milters:
            self._conn.run(self._greeting())
        else:
            self._welcome()

    def do_mail(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.2, with the parameters of smtp.envelope."""
        service = self._service
        if self._mail:
            self._bad("503 5.5.1 a mail transaction is under way; RSET ends it")
            return
        if service.kind == SUBMISSION and self._user is None:
            hint = "STARTTLS, then AUTH" if not self._conn.tls and self._conn.tls_available else "AUTH"
            self._bad(f"530 5.7.0 login needed: {hint}")
            return
        try:
            sender, params = grammar.mail(rest, service.limits.message_size)
        except grammar.Refused as refusal:
            self._bad(str(refusal))
            return
        if params.release and (service.kind != SUBMISSION or service.outbound is None):
            self._bad("555 5.5.4 parameter HOLDFOR or HOLDUNTIL is for users, on the submission ports")
            return
        if params.require_tls and not self._conn.tls:
            self._bad("530 5.7.30 REQUIRETLS needs TLS on this connection too")
            return
        if self._user is not None and sender and not service.deliverer.directory.may_send_as(self._user, sender):
            self._bad("553 5.7.1 sender address does not belong to this login")
            return
        if (params.by or params.priority) and (service.kind == LMTP or service.outbound is None):
            self._bad("555 5.5.4 parameters BY and MT-PRIORITY are not known here")
            return
        lowered = params.priority > 0 and not self._may_relay()
        hello = self._hello.decode("utf-8", "replace")
        self._envelope = Envelope(
            sender=sender,
            utf8=params.utf8,
            ret=params.ret.decode(),
            envid=params.envid.decode(),
            release=params.release,
            require_tls=params.require_tls,
            by=params.by,
            by_mode=params.by_mode,
            priority=0 if lowered else params.priority,
            login=self._user.address if self._user is not None else "",
            helo=hello,
            peer=self._host,
        )
        self._utf8 = params.utf8
        self._binary = params.body == b"BINARYMIME"
        self._envelope.protocol = self._protocol()
        self._announced = params.size
        if self._filters is None:
            self._begin_mail(lowered)
            return
        words = rest.rpartition(b">")[2].split()
        question = self._filters.mail(trace.new_id(), self._envelope, words)
        self._conn.run(self._consult(question, lambda: self._begin_mail(lowered), self._reset))

    def _begin_mail(self, lowered: bool) -> None:
        self._mail = True
        if lowered:
            self._say("250 2.3.6 0 is the priority of this message: a higher one is for users")
        else:
            self._say("250 2.1.0 sender ok")

    def _protocol(self) -> str:
        word = "LMTP" if self._service.kind == LMTP else "UTF8SMTP" if self._utf8 else "ESMTP"
        return word + ("S" if self._conn.tls else "") + ("A" if self._user is not None else "")

    def do_rcpt(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.3; other servers' addresses only for users and trusted networks, so never an open relay."""
        service = self._service
        if len(self._envelope.recipients) >= service.limits.recipients:
            self._bad("452 4.5.3 too many recipients")
            return
        try:
            local, domain, params = grammar.rcpt(rest, self._utf8)
        except grammar.Refused as refusal:
            self._bad(str(refusal))
            return
        directory = service.deliverer.directory
        if domain is None:
            domain = self._own_domain()
        address = f"{local}@{domain}"
        asked = Rcpt(address, params.orcpt, params.notify)
        if not directory.is_local(domain):
            if not self._may_relay():
                if service.kind == SUBMISSION:
                    self._bad("550 5.7.1 sending to other servers is switched off here")
                else:
                    self._bad("550 5.7.1 relaying denied: the domain is not of this server")
                return
            self._add_rcpt(rest, asked, [])
            return
        records = directory.resolve(address)
        if not records:
            count("smtp.unknown")
            if directory.uncertain:
                self._say("451 4.3.0 accounts cannot be looked up now, try again later")
                return
            self._bad("550 5.1.1 no such user here")
            return
        if service.deliverer.full(records, self._announced):
            self._bad("552 5.2.2 mailbox is full")
            return
        self._add_rcpt(rest, asked, records)

    def _add_rcpt(self, rest: bytes, asked: Rcpt, records: list[AccountRecord]) -> None:
        if self._filters is None:
            self._take_rcpt(asked, records)
            return
        question = self._filters.rcpt(asked.address, rest.rpartition(b">")[2].split())
        self._conn.run(self._consult(question, lambda: self._take_rcpt(asked, records)))

    def _take_rcpt(self, asked: Rcpt, records: list[AccountRecord]) -> None:
        self._envelope.recipients.append((asked.address, records))
        self._envelope.asked.append(asked)
        self._say("250 2.1.5 recipient ok")

    def _may_relay(self) -> bool:
        """Users may send anywhere; so may hosts of trusted networks, by port 25."""
        service = self._service
        if service.outbound is None or service.kind == LMTP:
            return False
        if service.kind == SUBMISSION:
            return self._user is not None
        return any(address_in(self._host, network) for network in service.networks)

    def _own_domain(self) -> str:
        """For ``<postmaster>`` without a domain (RFC 5321 4.5.1): the host's name, or the nearest domain above it."""
        labels = self._service.hostname.lower().split(".")
        names = [".".join(labels[i:]) for i in range(len(labels))]
        return next((name for name in names if self._service.deliverer.directory.is_local(name)), names[0])

    def do_data(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.4."""
        if self._reader is not None:
            self._bad("503 5.5.1 BDAT was begun; DATA can not follow")
            return
        if self._binary:
            self._bad("503 5.5.1 BODY=BINARYMIME needs BDAT")
            return
        if self._filters is None:
            self._begin_data()
        else:
            self._conn.run(self._consult(self._filters.data(), self._begin_data, self._reset))

    def _begin_data(self) -> None:
        self._begin_content(dots=True)
        self._say("354 end with CRLF . CRLF")

    def do_bdat(self, rest: bytes) -> None:
        """RFC 3030 2."""
        words = rest.split()
        valid = 1 <= len(words) <= 2 and words[0].isdigit() and len(words[0]) <= 18
        if not valid or (len(words) == 2 and words[1].upper() != b"LAST"):
            self._bad("501 5.5.4 BDAT size [LAST] is expected")
            self._conn.close()  # where the next command starts can not be known
            return
        self._bdat = int(words[0])
        self._bdat_last = len(words) == 2
        self._bdat_refused = not self._mail or not self._envelope.recipients
        if self._reader is None:
            self._begin_content(dots=False)
        if not self._bdat:
            self._end_chunk()

    def do_rset(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.5."""
        self._reset()
        self._say("250 2.0.0 ok")

    def do_noop(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.9."""
        self._say("250 2.0.0 ok")

    def do_quit(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.10."""
        self._say(f"221 2.0.0 {self._service.hostname} closing")
        self._conn.close()

    def do_vrfy(self, rest: bytes) -> None:
        """RFC 5321 3.5.3: never tells who exists."""
        if not rest.strip():
            self._bad("501 5.5.4 an address is expected")
            return
        self._say("252 2.1.5 send mail to find out")

    def do_help(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.8."""
        known = [v.decode() for v, c in COMMANDS.items() if self._service.kind in c.services]
        verbs = " ".join(verb for verb in known if verb != "XCLIENT" or self._may_xclient())
        self._say(f"214 2.0.0 {verbs}")

    def do_starttls(self, rest: bytes) -> None:
        """RFC 3207 4."""
        if self._conn.tls:
            self._bad("503 5.5.1 TLS is on already")
        elif not self._conn.tls_available:
            self._bad("502 5.5.1 TLS is not available")
        elif self._mail:
            self._bad("503 5.5.1 not inside a mail transaction")
        else:
            self._say("220 2.0.0 start TLS now")
            self._conn.start_tls()

    # ---------------------------------------------------------------- AUTH (RFC 4954)

    def _may_authenticate(self) -> bool:
        allowed = self._service.plaintext
        near = self._conn.local and self._host == self._conn.host
        return self._conn.tls or allowed is True or (allowed == "loopback" and near)

    def do_auth(self, rest: bytes) -> None:
        """RFC 4954 4."""
        words = rest.split()
        if self._user is not None:
            self._bad("503 5.5.1 logged in already")
        elif self._mail:
            self._bad("503 5.5.1 not inside a mail transaction")
        elif not self._may_authenticate():
            self._bad("538 5.7.11 TLS is needed first: STARTTLS")
        elif not 1 <= len(words) <= 2:
            self._bad("501 5.5.4 AUTH mechanism [initial response] is expected")
        elif (mechanism := self._mechanism(words[0])) is None:
            known = ", ".join(self._service.verifier.mechanisms(self._conn))
            self._bad(f"504 5.5.4 mechanism is not known; known are {known}")
        else:
            self._sasl = mechanism
            self._sasl_step(words[1] if len(words) == 2 else None)

    def _mechanism(self, name: bytes) -> sasl.Mechanism | None:
        return self._service.verifier.begin(name.decode("ascii", "replace").upper(), self._conn)

    def _sasl_line(self, line: bytes) -> None:
        text = line.rstrip(b"\r\n")
        if text == b"*":
            self._sasl = None
            self._bad("501 5.7.0 login cancelled")
            return
        self._sasl_step(text)

    def _sasl_step(self, line: bytes | None) -> None:
        try:
            answer = self._sasl.step(None if line is None else sasl.decode(line))
        except sasl.SaslError as error:
            self._sasl = None
            self._bad(f"501 5.5.2 {error}")
            return
        if isinstance(answer, bytes):
            self._conn.write(b"334 " + b64encode(answer) + b"\r\n")
            return
        self._sasl = None
        self._conn.run(self._login(answer))

    async def _login(self, claim: sasl.Claim) -> None:
        limits = self._service.limits
        try:
            record = await self._service.verifier.admit(claim)
        except TemporaryError:
            self._say("454 4.7.0 logins cannot be checked now, try again later")
            return
        if record is None and isinstance(claim, sasl.Token):
            self._sasl = claim.mechanism  # told why, before the exchange fails (RFC 7628 3.2.3)
            self._conn.write(b"334 " + b64encode(claim.mechanism.refusal) + b"\r\n")
            return
        if record is None:
            self._failures += 1
            self._blame(1, "failed logins")
            log.event("login.failed", "warning", protocol="submission", login=claim.login, peer=self._host)
            await asyncio.sleep(limits.auth_failure_delay)
            self._say("535 5.7.8 login failed")
            if self._failures >= limits.auth_failures:
                self._say("421 4.7.0 too many failed logins")
                self._conn.close()
            return
        self._user = record
        log.event("login", protocol="submission", account=record.address, peer=self._host)
        self._say("235 2.7.0 logged in")

    # ---------------------------------------------------------------- content

    def _begin_content(self, dots: bool) -> None:
        self._reader = ContentReader(dots, self._service.limits.message_size)
        self._chunked = not dots
        self._staged = Staged(self._service.staging)

    def _content(self, data: memoryview, position: int) -> int:
        """Take content; switches back to commands at its end."""
        reader, staged = self._reader, self._staged
        assert reader is not None and staged is not None
        if not self._chunked:
            position = reader.feed(data, position)
            ended = reader.done
        else:
            chunk = data[position : position + self._bdat]
            if self._binary and not self._bdat_refused:
                self._over = self._over or staged.size + len(chunk) > self._service.limits.message_size
                if not self._over and staged.add(bytes(chunk)):
                    self._conn.run(self._spill(staged))
            elif not self._bdat_refused:
                reader.feed(chunk)
            self._bdat -= len(chunk)
            position += len(chunk)
            ended = not self._bdat
        if reader.pending() >= TAKE or ended:
            spill = staged.add(reader.take()) if reader.pending() else False
            if ended and not self._chunked:
                self._conn.run(self._end_of_data())
            elif ended:
                self._end_chunk()
            elif spill:
                self._conn.run(self._spill(staged))
        return position

    async def _spill(self, staged: Staged) -> None:
        """To disk with what is too big for memory; on a full disk content is dropped, its end still found."""
        try:
            await staged.spill()
        except OSError as error:
            log.event("smtp.staging", "error", error=error)
            if self._staged is staged:
                self._announced = -1
                staged.drop()
                self._staged = Staged(self._service.staging)

    def _end_chunk(self) -> None:
        """A BDAT chunk is complete (RFC 3030 2)."""
        if self._bdat_refused:
            if not self._envelope.recipients:
                self._reader = None
                if self._staged is not None:
                    self._staged.drop()
                    self._staged = None
            self._bad("503 5.5.1 need MAIL first" if not self._mail else "554 5.5.1 no valid recipients")
            return
        assert self._reader is not None
        if not self._bdat_last:
            if self._reader.full or self._over:
                self._refuse_content("full")
            else:
                self._say("250 2.0.0 chunk taken")
            return
        self._reader.finish()
        if self._reader.pending() and self._staged is not None:
            self._staged.add(self._reader.take())
        self._conn.run(self._end_of_data())

    def _refuse_content(self, why: str) -> None:
        code, enhanced, text = EOD_REPLIES[why]
        times = (
            len(self._envelope.recipients)
            if self._service.kind == LMTP and (self._bdat_last or not self._chunked)
            else 1
        )
        count("smtp.refused")
        self._reset()
        for _ in range(times):
            self._bad(f"{code} {enhanced} {text}")

    async def _end_of_data(self) -> None:
        """Decide, deliver, and reply: one reply, or for LMTP one for each recipient (RFC 2033 4.2)."""
        reader, staged, envelope = self._reader, self._staged, self._envelope
        assert reader is not None and staged is not None
        for why in ("full", "bare", "nul"):
            if getattr(reader, why) or (why == "full" and self._over):
                self._refuse_content(why)
                return
        if self._announced < 0:
            outcomes = [Outcome(452, "4.3.1", "not enough storage, try again later")] * len(envelope.recipients)
        else:
            try:
                if staged.spilled:
                    await staged.spill()
                content = staged.content()
                if self._binary:
                    content = await asyncio.get_running_loop().run_in_executor(None, without_binary, bytes(content))
                    if b"\0" in content:
                        self._refuse_content("nul")
                        return
                outcomes = await self._take(envelope, content)
            except (StorageFull, OSError) as error:
                log.event("smtp.staging", "error", error=error)
                outcomes = [Outcome(452, "4.3.1", "not enough storage, try again later")] * len(envelope.recipients)
            except ClientError as error:
                log.event("smtp.deliver", "warning", error=error)
                outcomes = [Outcome(451, "4.3.0", "local error, try again later")] * len(envelope.recipients)
        count(f"{self._service.kind}.messages")
        if self._service.kind == LMTP:
            for (address, _), outcome in zip(envelope.recipients, outcomes, strict=True):
                self._say(f"{outcome.code} {outcome.enhanced} <{grammar.printable(address)}> {outcome.text}")
        else:
            worst = max(outcomes, key=lambda outcome: (outcome.code // 100 == 4, outcome.code))
            self._say(f"{worst.code} {worst.enhanced} {worst.text}")
        self._reset()

    async def _take(self, envelope: Envelope, content: bytes | memoryview) -> list[Outcome]:
        """Deliver a message, or queue it when a recipient is elsewhere."""
        service = self._service
        submitted_here = service.kind == SUBMISSION
        mailbox = "INBOX"
        if self._filters is not None:
            verdict = await self._filters.message(bytes(content))
            taken = Outcome(250, "2.0.0", "message taken")
            if verdict.refusal is not None or verdict.discard:
                outcome = verdict.refusal or taken
                log.event("milter.verdict", sender=envelope.sender, reply=f"{outcome.code} {outcome.text}")
                return [outcome] * len(envelope.recipients)
            content = verdict.content
            self._apply(envelope, verdict)
            if not envelope.recipients:
                return [taken]
            mailbox = "Junk" if verdict.quarantine else mailbox
        elsewhere = not all(records for _, records in envelope.recipients)
        if service.outbound is not None and (elsewhere or envelope.release):
            outcome = await service.outbound.submit(envelope, content, submitted_here)
            return [outcome] * len(envelope.recipients)
        if submitted_here:
            pieces = submitted.complete(content, envelope.sender, service.hostname)
            content = pieces[0] if len(pieces) == 1 else b"".join(pieces)  # type: ignore[assignment]
        outcomes = await service.deliverer.deliver(envelope, content, mailbox)
        if service.outbound is not None and any("SUCCESS" in one.notify for one in envelope.asked):
            await service.outbound.tell_delivered(envelope, content, [outcome.ok for outcome in outcomes])
        return outcomes

    def _apply(self, envelope: Envelope, verdict: Verdict) -> None:
        """What filters changed of the envelope, as far as this session may do it."""
        if verdict.sender is not None:
            envelope.sender = verdict.sender
        if self._service.kind == LMTP:
            return  # one reply for each recipient: they stay who they are
        gone = {address.lower() for address in verdict.removed}
        kept = [at for at, (address, _) in enumerate(envelope.recipients) if address.lower() not in gone]
        envelope.recipients = [envelope.recipients[at] for at in kept]
        envelope.asked = [envelope.asked[at] for at in kept]
        for address in verdict.added:
            records = self._service.deliverer.directory.resolve(address.lower())
            if records or self._may_relay():
                envelope.recipients.append((address, records))
                envelope.asked.append(Rcpt(address))

    def _blame(self, points: float, why: str) -> None:
        """The peer's mistakes; not those of a host that speaks for many."""
        if self._host == self._conn.host:
            self._conn.blame(points, why)

    # ---------------------------------------------------------------- replies

    def _say(self, line: str) -> None:
        self._conn.write(line.encode() + b"\r\n")

    def _bad(self, line: str) -> None:
        """An error reply; too many of them end the session."""
        self._errors += 1
        self._say(line)
        if self._errors >= self._service.limits.errors:
            count("smtp.errors")
            self._blame(2, "too many errors")
            self._say("421 4.7.0 too many errors, closing")
            self._conn.close()


def service(kind: str, **shared: Any) -> Service:
    """A Service; ``kind`` is one of smtp, submission and lmtp."""
    assert kind in (MX, SUBMISSION, LMTP)
    return Service(kind, **shared)
