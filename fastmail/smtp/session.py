"""One SMTP, submission or LMTP session (RFC 5321, 6409, 2033).

Extensions: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING and BINARYMIME
(RFC 3030), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS (RFC 3207), AUTH (RFC 4954), DSN (RFC 3461), LIMITS (RFC 9422),
FUTURERELEASE (RFC 4865), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710), BURL (RFC 4468). What
users send is completed (RFC 6409 8).

Promise: end of data is CRLF "." CRLF and nothing else; 250 comes after the message is durable in every mailbox it
names (LMTP: one reply for each recipient). No limit is found out after memory was spent. A session that makes
``errors`` mistakes, is slow, or speaks HTTP is ended with 421.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail._core.lines import ContentReader, find_crlf
from fastmail.auth.send_as import Rules
from fastmail.auth.verifier import Entry, Verifier
from fastmail.delivery.deliver import Deliverer, Envelope, Outcome, worst
from fastmail.delivery.outbound import Outbound
from fastmail.directory.interface import AccountRecord
from fastmail.directory.standing import Standing
from fastmail.durable.staging import Budget, Staged
from fastmail.message import trace
from fastmail.message.header import Octets
from fastmail.message.recode import without_binary
from fastmail.model.errors import CannotDo, ClientError, MailError, StorageFull
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from fastmail.net.networks import Network, address_in
from fastmail.smtp import accept, authenticate, recipients, xclient
from fastmail.smtp import envelope as grammar
from fastmail.smtp.milter import Filters, Milter
from fastmail.smtp.senders import barred, may
from fastmail.smtp.table import COMMANDS, EOD_REPLIES, EXTENSIONS, HTTP, LMTP, LMTP_EXTENSIONS, MX, SUBMISSION
from fastmail.smtp.unheard import Unheard, transaction_of
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, extensions add to it
TAKE = 65536


@dataclass(slots=True)
class Service:
    """What all sessions of a listener share. ``kind``: smtp, submission or lmtp; ``tells_strangers``: do those who have
    not logged in hear of deliveries (RFC 3461 5.2.3)?"""

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
    senders: Rules = field(default_factory=Rules)
    tells_strangers: bool = False
    resolve_url: Callable[[AccountRecord, str], Awaitable[bytes]] | None = None
    budget: Budget = field(default_factory=Budget)
    unheard: Unheard = field(default_factory=Unheard)


class SmtpSession:
    """See the module. Commands are methods named in smtp.table."""

    __slots__ = (
        "_bdat",
        "_bdat_last",
        "_bdat_refused",
        "_begun",
        "_binary",
        "_chunked",
        "_deciding",
        "_errors",
        "_hello",
        "_mail",
        "_over",
        "_reader",
        "_received",
        "_skipping",
        "_staged",
        "announced",
        "conn",
        "envelope",
        "failures",
        "filters",
        "host",
        "login",
        "sasl",
        "service",
        "user",
        "utf8",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self.service = service
        self.conn = connection
        self._hello = b""
        self.host = connection.host  # who the peer is; XCLIENT may tell of another
        self.filters: Filters | None = None
        self._errors = 0
        self.failures = 0
        self.user: AccountRecord | None = None
        self.login: Standing | None = None
        self.sasl: Any = None
        self._skipping = ""  # the reply to the line whose octets are passed over
        self._reader: ContentReader | None = None
        self._staged: Staged | None = None
        self._begun, self._received = 0.0, 0  # when content began to come, and how much of it came
        self._reset()

    def _reset(self) -> None:
        """No mail transaction."""
        if self.filters is not None:
            self.filters.abort()
        self.envelope = Envelope()
        self._mail = False
        self.utf8 = False
        self.announced = 0
        self._bdat = 0
        self._bdat_last = False
        self._bdat_refused = False
        self._binary = False
        self._over = False
        self._chunked = False
        self._deciding = False  # has all of a message come, and its answer has not been given?
        self._reader = None
        if self._staged is not None:
            self._staged.drop()
            self._staged = None

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self.conn.touch(self.service.limits.command_timeout)
        if self.service.milters:
            self.conn.run(self._greeting())
        else:
            self._welcome()

    def _welcome(self) -> None:
        word = "LMTP" if self.service.kind == LMTP else "ESMTP"
        self.say(f"220 {self.service.hostname} {word} fastmail")

    async def _greeting(self) -> None:
        """Greet whom the filters let in (RFC 5321 3.1)."""
        if self.filters is not None:
            self.filters.close()
        self.filters = Filters(self.service.milters, self.service.hostname, self.host)
        refusal = await self.filters.connect()
        if refusal is None:
            self._welcome()
            return
        count("milter.refused")
        code = 554 if refusal.code // 100 == 5 else 421
        self.say(f"{code} {refusal.enhanced} {refusal.text}")
        self.conn.close()

    async def consult(
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
        self.bad(f"{refusal.code} {refusal.enhanced} {refusal.text}")

    def tls_started(self) -> None:
        self._hello = b""
        self.user = self.login = None
        self._reset()
        self.conn.touch(self.service.limits.command_timeout)

    def timed_out(self) -> None:
        if self._deciding:  # "try again" would be no true answer: the message may be kept by the time it is read
            self.conn.touch(self.service.limits.command_timeout)
            return
        self.say(f"421 4.4.2 {self.service.hostname} timeout, closing")
        self.conn.close()

    def ended(self) -> str:
        return self.service.verifier.ended(self.login)

    def dismiss(self, why: str) -> None:
        self.say(f"421 4.7.0 {self.service.hostname} {why}")
        self.conn.close()

    def failed(self) -> None:
        self._reset()
        self.sasl = None
        self.say("451 4.3.0 local error, try again later")

    def lost(self) -> None:
        self._reset()
        if self.filters is not None:
            self.filters.close()
            self.filters = None

    def feed(self, data: memoryview) -> int:
        position = 0
        size = len(data)
        conn = self.conn
        while position < size and not conn.busy and not conn.closing and not conn.full:
            if self._reader is not None and (self._bdat or not self._chunked):
                before = position
                position = self._content(data, position)
                self._received += position - before
                conn.progress(self._begun, self._received, self.service.limits.command_timeout)
                continue
            end = find_crlf(data, position, size)
            if end < 0:
                if size - position > self._longest(data, position) + len(b"\r"):
                    self._skipping = self._skipping or self._too_long(data, position)
                    return size
                return position
            if self._skipping:
                reply, self._skipping = self._skipping, ""
                self.sasl = None  # an exchange with a line that was not read is over (RFC 4954 4)
                position = end + 1
                self.bad(reply)
                continue
            line = bytes(data[position : end + 1])
            position = end + 1
            conn.touch(self.service.limits.command_timeout)
            if self.sasl is not None:
                authenticate.line(self, line)
            else:
                self._command(line, position < size)
        return position

    def _longest(self, data: memoryview | bytes, start: int = 0) -> int:
        """Octets that the line may have that begins there, without its line end."""
        is_auth = self.sasl is not None or bytes(data[start : start + 5]).upper() == b"AUTH "
        return authenticate.LONGEST if is_auth else LINE

    def _too_long(self, data: memoryview | bytes, start: int = 0) -> str:
        """The reply to such a line when it is longer than that."""
        if self._longest(data, start) > LINE:
            return "500 5.5.6 line of the login is too long"
        return "500 5.5.2 line is too long"

    # ---------------------------------------------------------------- commands

    def _command(self, line: bytes, more: bool) -> None:
        if not line.endswith(b"\r\n"):
            self.bad("500 5.5.2 line must end in CRLF")
            return
        line = line[:-2]
        if len(line) > self._longest(line):
            self.bad(self._too_long(line))
            return
        if b"\r" in line or b"\0" in line:
            self.bad("500 5.5.2 bare CR or NUL in a command")
            return
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        command = COMMANDS.get(verb)
        if command is None:
            if verb in HTTP:
                self.say("421 4.7.0 this is not an HTTP server")
                self.conn.close()
                return
            self.bad("502 5.5.1 EXPN is not done here" if verb == b"EXPN" else "500 5.5.1 unknown command; try HELP")
            return
        if self.service.kind not in command.services:
            if verb == b"AUTH":
                self.bad("502 5.5.1 no AUTH here: users send on the submission ports")
            else:
                self.bad("500 5.5.1 use LHLO" if self.service.kind == LMTP else "500 5.5.1 unknown command; try HELP")
            return
        if rest.strip() and not command.args:
            self.bad("501 5.5.4 no argument is allowed")
            return
        if command.hello and not self._hello:
            self.bad("503 5.5.1 say EHLO first" if self.service.kind != LMTP else "503 5.5.1 say LHLO first")
            return
        if command.mail and not self._mail and verb != b"BDAT":
            self.bad("503 5.5.1 need MAIL first")
            return
        if command.rcpt and not self.envelope.recipients:
            self.bad(self._no_recipients())
            return
        if verb == b"DATA" and more:
            self.say("554 5.5.0 message was sent before the 354 reply")
            count("smtp.early")
            self.conn.close()
            return
        getattr(self, command.method)(rest)

    def _no_recipients(self) -> str:
        """RFC 5321 3.3 allows both replies to DATA, RFC 2033 4.2 only one of them."""
        return "503 5.5.1 need RCPT first" if self.service.kind == LMTP else "554 5.5.1 no valid recipients"

    def _greet(self, rest: bytes) -> bool:
        name = rest.strip()
        if not name or any(c < 33 or c == 127 for c in name) or len(name) > 255:
            self.bad("501 5.5.4 a host name or address literal is expected")
            return False
        try:
            text = name.decode("utf-8")
        except UnicodeDecodeError:
            self.bad("501 5.5.4 the host name is not UTF-8")
            return False
        self._reset()
        self._hello = name
        self.envelope.helo = text
        return True

    def do_helo(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.1."""
        if self._greet(rest):
            self.envelope.protocol = "SMTP"
            self._greeted(lambda: self.say(f"250 {self.service.hostname}"))

    def _greeted(self, then: Callable[[], None]) -> None:
        if self.filters is None:
            then()
            return
        cipher = self.conn.transport.get_extra_info("cipher") if self.conn.tls else None
        self.conn.run(self.consult(self.filters.hello(self.envelope.helo, cipher or ()), then, self._forget_hello))

    def _cipher(self) -> str:
        """Version and cipher of the connection's TLS, for the trace; empty without."""
        cipher = self.conn.transport.get_extra_info("cipher") if self.conn.tls else None
        return f"{cipher[1]} {cipher[0]}" if cipher else ""

    def _forget_hello(self) -> None:
        self._hello = b""

    def do_ehlo(self, rest: bytes) -> None:
        """EHLO, and LMTP's LHLO."""
        if self._greet(rest):
            self._greeted(self._offer)

    def _offer(self) -> None:
        """What this server can do, here and now."""
        lines = [self.service.hostname.encode(), *(LMTP_EXTENSIONS if self.service.kind == LMTP else EXTENSIONS)]
        lines += [b"SIZE %d" % self.service.limits.message_size]
        if self.service.outbound is not None and self.service.kind == SUBMISSION:
            lines.append(b"FUTURERELEASE %d %b" % (grammar.MOST_HELD, grammar.latest()))
        if self.service.outbound is not None and self.service.kind != LMTP and self.conn.tls:
            lines.append(b"REQUIRETLS")
        if self.service.outbound is not None and self.service.kind != LMTP:
            lines += [b"DELIVERBY", b"MT-PRIORITY"]
        lines.append(b"LIMITS RCPTMAX=%d" % self.service.limits.recipients)
        if self.conn.tls_available and not self.conn.tls:
            lines.append(b"STARTTLS")
        if self.service.kind == SUBMISSION and authenticate.allowed(self):
            lines.append(b"AUTH " + " ".join(self.service.verifier.mechanisms(self.conn)).encode())
        if self.service.kind == SUBMISSION and self.service.resolve_url is not None:
            lines.append(b"BURL imap" if self.user is not None else b"BURL")
        if self._may_xclient():
            lines.append(xclient.OFFER)
        self.conn.write(b"".join(b"250-%s\r\n" % x for x in lines[:-1]) + b"250 %s\r\n" % lines[-1])

    def _may_xclient(self) -> bool:
        return any(address_in(self.conn.host, network) for network in self.service.xclient)

    def do_xclient(self, rest: bytes) -> None:
        """A test, or a proxy in front of us, says who the client is."""
        if not self._may_xclient():
            self.bad("550 5.7.1 XCLIENT is not allowed from your address")
            return
        if self._mail:
            self.bad("503 5.5.1 a mail transaction is under way; RSET ends it")
            return
        try:
            said = xclient.parse(rest)
        except ValueError as error:
            self.bad(f"501 5.5.4 {error}")
            return
        if said.login and self.service.kind == SUBMISSION:
            self.conn.run(xclient.login(self, said))
        else:
            self.begin_again(said, None)

    def begin_again(self, said: xclient.Said, entry: Entry | None) -> None:
        """For somebody else, who has logged in as ``entry`` says or not at all."""
        self.host = said.address or self.host
        self.user = entry.record if entry is not None else None
        self.login = entry.login if entry is not None else None
        self._hello = b""
        self._reset()
        log.event("smtp.xclient", peer=self.conn.host, client=self.host, login=said.login)
        if self.service.milters:
            self.conn.run(self._greeting())
        else:
            self._welcome()

    def do_mail(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.2, with the parameters of smtp.envelope."""
        service = self.service
        if self._mail:
            self.bad("503 5.5.1 a mail transaction is under way; RSET ends it")
            return
        if service.kind == SUBMISSION and self.user is None:
            hint = "STARTTLS, then AUTH" if not self.conn.tls and self.conn.tls_available else "AUTH"
            self.bad(f"530 5.7.0 login needed: {hint}")
            return
        try:
            sender, params = grammar.mail(rest, service.limits.message_size)
        except grammar.Refused as refusal:
            self.bad(str(refusal))
            return
        if params.release and (service.kind != SUBMISSION or service.outbound is None):
            self.bad("555 5.5.4 parameter HOLDFOR or HOLDUNTIL is for users, on the submission ports")
            return
        if params.require_tls and not self.conn.tls:
            self.bad("530 5.7.30 REQUIRETLS needs TLS on this connection too")
            return
        directory = service.deliverer.directory
        if self.user is not None and sender and not may(directory, service.senders, self.user, sender):
            self.bad("553 5.7.1 sender address does not belong to this login")
            return
        if self.user is not None and self.login is not None:
            why = barred(directory, self.user, self.login.revision)
            if why:
                self.bad(f"550 5.7.1 {why}")
                return
        if (params.by or params.priority) and (service.kind == LMTP or service.outbound is None):
            self.bad("555 5.5.4 parameters BY and MT-PRIORITY are not known here")
            return
        lowered = params.priority > 0 and not self.may_relay()
        hello = self._hello.decode("utf-8", "replace")
        self.envelope = Envelope(
            sender=sender,
            utf8=params.utf8,
            ret=params.ret.decode(),
            envid=params.envid.decode(),
            release=params.release,
            require_tls=params.require_tls,
            by=params.by,
            by_mode=params.by_mode,
            priority=0 if lowered else params.priority,
            login=self.user.address if self.user is not None else "",
            helo=hello,
            peer=self.host,
            tls=self._cipher(),
        )
        self.utf8 = params.utf8
        self._binary = params.body == b"BINARYMIME"
        self.envelope.protocol = self._protocol()
        self.announced = params.size
        if self.filters is None:
            self._begin_mail(lowered)
            return
        words = rest.rpartition(b">")[2].split()
        question = self.filters.mail(trace.new_id(), self.envelope, words)
        self.conn.run(self.consult(question, lambda: self._begin_mail(lowered), self._reset))

    def _begin_mail(self, lowered: bool) -> None:
        self._mail = True
        if lowered:
            self.say("250 2.3.6 0 is the priority of this message: a higher one is for users")
        else:
            self.say("250 2.1.0 sender ok")

    def _protocol(self) -> str:
        word = "LMTP" if self.service.kind == LMTP else "SMTP" if self.utf8 else "ESMTP"
        word = "UTF8" + word if self.utf8 else word
        return word + ("S" if self.conn.tls else "") + ("A" if self.user is not None else "")

    def do_rcpt(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.3."""
        recipients.rcpt(self, rest)

    def may_relay(self) -> bool:
        """Users may send anywhere; so may hosts of trusted networks, by port 25."""
        service = self.service
        if service.outbound is None or service.kind == LMTP:
            return False
        if service.kind == SUBMISSION:
            return self.user is not None
        return any(address_in(self.host, network) for network in service.networks)

    def own_domain(self) -> str:
        """For ``<postmaster>`` without a domain (RFC 5321 4.5.1): the host's name, or the nearest domain above it."""
        labels = self.service.hostname.lower().split(".")
        names = [".".join(labels[i:]) for i in range(len(labels))]
        return next((name for name in names if self.service.deliverer.directory.is_local(name)), names[0])

    def do_data(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.4."""
        if self._reader is not None:
            self.bad("503 5.5.1 BDAT was begun; DATA can not follow")
            return
        if self._binary:
            self.bad("503 5.5.1 BODY=BINARYMIME needs BDAT")
            return
        if self.filters is None:
            self._begin_data()
        else:
            self.conn.run(self.consult(self.filters.data(), self._begin_data, self._reset))

    def _begin_data(self) -> None:
        self._begin_content(dots=True)
        self.say("354 end with CRLF . CRLF")

    def do_bdat(self, rest: bytes) -> None:
        """RFC 3030 2."""
        words = rest.split()
        valid = 1 <= len(words) <= 2 and words[0].isdigit() and len(words[0]) <= 18
        if not valid or (len(words) == 2 and words[1].upper() != b"LAST"):
            self.bad("501 5.5.4 BDAT size [LAST] is expected")
            self.conn.close()  # where the next command starts can not be known
            return
        self._bdat = int(words[0])
        self._bdat_last = len(words) == 2
        self._bdat_refused = not self._mail or not self.envelope.recipients
        if self._reader is None:
            self._begin_content(dots=False)
        if not self._bdat:
            self._end_chunk()

    def do_burl(self, rest: bytes) -> None:
        """RFC 4468 3: a message, or a part of it, that lies in a mailbox."""
        words = rest.split()
        if not words or len(words) > 2 or (len(words) == 2 and words[1].upper() != b"LAST"):
            self.bad("501 5.5.4 BURL url [LAST] is expected")
            return
        self._bdat_last = len(words) == 2
        if self.service.resolve_url is None or self.user is None:
            self._no_burl("502 5.5.1 no URLs here")
        elif not self.envelope.recipients:
            self._no_burl("554 5.5.1 no valid recipients")
        else:
            self.conn.run(self._burl(self.service.resolve_url, self.user, words[0].decode("ascii", "replace")))

    def _no_burl(self, line: str) -> None:
        """Whatever of the message was sent is void (RFC 4468 3.3)."""
        self._reset()
        self.bad(line)

    async def _burl(
        self, resolve: Callable[[AccountRecord, str], Awaitable[bytes]], user: AccountRecord, url: str
    ) -> None:
        try:
            found = await resolve(user, url)
        except CannotDo:
            self._no_burl("554 5.6.6 no such content, or not for this login")
            return
        except MailError:
            self._no_burl("451 4.4.1 the content can not be had now, try again later")
            return
        if self._reader is None:
            self._begin_content(dots=False)
        for start in range(0, len(found), TAKE):
            if self._reader is None or self._staged is None:
                return  # the client is gone
            spill = self._add_chunk(memoryview(found)[start : start + TAKE])
            if self._reader.pending() >= TAKE:
                spill = self._staged.add(self._reader.take())
            if spill:
                await self._spill(self._staged)
        if self._bdat_last:
            self._finish_chunks()
            await self._end_of_data()
        else:
            self._end_chunk()

    def do_rset(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.5."""
        self._reset()
        self.say("250 2.0.0 ok")

    def do_noop(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.9."""
        self.say("250 2.0.0 ok")

    def do_quit(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.10."""
        self.say(f"221 2.0.0 {self.service.hostname} closing")
        self.conn.close()

    def do_vrfy(self, rest: bytes) -> None:
        """RFC 5321 3.5.3: never tells who exists."""
        try:
            grammar.vrfy(rest)
        except grammar.Refused as refusal:
            self.bad(str(refusal))
            return
        self.say("252 2.1.5 send mail to find out")

    def do_help(self, rest: bytes) -> None:
        """RFC 5321 4.1.1.8."""
        known = [v.decode() for v, c in COMMANDS.items() if self.service.kind in c.services]
        verbs = " ".join(verb for verb in known if verb != "XCLIENT" or self._may_xclient())
        self.say(f"214 2.0.0 {verbs}")

    def do_starttls(self, rest: bytes) -> None:
        """RFC 3207 4."""
        if self.conn.tls:
            self.bad("503 5.5.1 TLS is on already")
        elif not self.conn.tls_available:
            self.bad("502 5.5.1 TLS is not available")
        elif self._mail:
            self.bad("503 5.5.1 not inside a mail transaction")
        else:
            self.say("220 2.0.0 start TLS now")
            self.conn.start_tls()

    def do_auth(self, rest: bytes) -> None:
        """RFC 4954 4."""
        authenticate.begin(self, rest, self._mail)

    # ---------------------------------------------------------------- content

    def _begin_content(self, dots: bool) -> None:
        self._reader = ContentReader(dots, self.service.limits.message_size)
        self._chunked = not dots
        self._staged = Staged(self.service.staging, self.service.budget)
        self._begun, self._received = time.monotonic(), 0

    def _content(self, data: memoryview, position: int) -> int:
        """Take content; switches back to commands at its end."""
        reader, staged = self._reader, self._staged
        assert reader is not None and staged is not None
        if not self._chunked:
            position = reader.feed(data, position)
            ended = reader.done
        else:
            chunk = data[position : position + self._bdat]
            if not self._bdat_refused and self._add_chunk(chunk):
                self.conn.run_aside(self._spill(staged))
            self._bdat -= len(chunk)
            position += len(chunk)
            ended = not self._bdat
        if reader.pending() >= TAKE or ended:
            spill = staged.add(reader.take()) if reader.pending() else False
            if ended and not self._chunked:
                self.conn.run(self._end_of_data())
            elif ended:
                self._end_chunk()
            elif spill:
                self.conn.run_aside(self._spill(staged))
        return position

    def _add_chunk(self, chunk: memoryview) -> bool:
        """Take a piece of a chunk; is there more now than memory should hold?"""
        reader, staged = self._reader, self._staged
        assert reader is not None and staged is not None
        if not self._binary:
            reader.feed(chunk)
            return False
        self._over = self._over or staged.size + len(chunk) > self.service.limits.message_size
        return not self._over and staged.add(bytes(chunk))

    async def _spill(self, staged: Staged) -> None:
        """To disk with what is too big for memory; on a full disk content is dropped, its end still found."""
        try:
            await staged.spill()
        except OSError as error:
            log.event("smtp.staging", "error", error=error)
            if self._staged is staged:
                self.announced = -1
                staged.drop()
                self._staged = Staged(self.service.staging, self.service.budget)

    def _end_chunk(self) -> None:
        """A BDAT chunk is complete (RFC 3030 2)."""
        if self._bdat_refused:
            if not self.envelope.recipients:
                self._reader = None
                if self._staged is not None:
                    self._staged.drop()
                    self._staged = None
            self.bad("503 5.5.1 need MAIL first" if not self._mail else self._no_recipients())
            return
        assert self._reader is not None
        if not self._bdat_last:
            if self._reader.full or self._over:
                self._refuse_content("full")
            else:
                self.say("250 2.0.0 chunk taken")
            return
        self._finish_chunks()
        self.conn.run(self._end_of_data())

    def _finish_chunks(self) -> None:
        """The last chunk is complete."""
        assert self._reader is not None
        self._reader.finish()
        if self._reader.pending() and self._staged is not None:
            self._staged.add(self._reader.take())

    def _refuse_content(self, why: str) -> None:
        code, enhanced, text = EOD_REPLIES[why]
        times = (
            len(self.envelope.recipients) if self.service.kind == LMTP and (self._bdat_last or not self._chunked) else 1
        )
        count("smtp.refused")
        self._reset()
        for _ in range(times):
            self.bad(f"{code} {enhanced} {text}")

    async def _end_of_data(self) -> None:
        """Decide, deliver, and reply: one reply, or for LMTP one for each recipient (RFC 2033 4.2)."""
        reader, staged, envelope = self._reader, self._staged, self.envelope
        outcomes: Sequence[Outcome]
        assert reader is not None and staged is not None
        for why in ("full", "bare", "nul"):
            if getattr(reader, why) or (why == "full" and self._over):
                self._refuse_content(why)
                return
        self._deciding = True
        if self.announced < 0:
            outcomes = [Outcome(452, "4.3.1", "not enough storage, try again later")] * len(envelope.recipients)
        else:
            try:
                if staged.spilled:
                    await staged.spill()
                    if self._staged is not staged:
                        return  # the client is gone, and its content with it: nothing was decided
                content = staged.content()
                if self._binary:
                    content = await asyncio.get_running_loop().run_in_executor(None, without_binary, bytes(content))
                    if b"\0" in content:
                        self._refuse_content("nul")
                        return
                outcomes = await self._decide(envelope, content)
            except (StorageFull, OSError) as error:
                log.event("smtp.staging", "error", error=error)
                outcomes = [Outcome(452, "4.3.1", "not enough storage, try again later")] * len(envelope.recipients)
            except ClientError as error:
                log.event("smtp.deliver", "warning", error=error)
                outcomes = [Outcome(451, "4.3.0", "local error, try again later")] * len(envelope.recipients)
        count(f"{self.service.kind}.messages")
        if self.service.kind == LMTP:
            for (address, _), outcome in zip(envelope.recipients, outcomes, strict=True):
                self.say(f"{outcome.code} {outcome.enhanced} <{grammar.printable(address)}> {outcome.text}")
        else:
            outcome = worst(outcomes)
            self.say(f"{outcome.code} {outcome.enhanced} {outcome.text}")
        self._reset()

    async def _decide(self, envelope: Envelope, content: Octets) -> Sequence[Outcome]:
        """What becomes of the message, unless that was decided before and the client did not hear it."""
        unheard, known_by, outcomes = self.service.unheard, b"", None
        if unheard.any or self.filters is not None:  # filters may change the envelope
            known_by = transaction_of(envelope)
            outcomes = await unheard.find(known_by, content)
        if outcomes is None:
            outcomes = await accept.take(self, envelope, content)
        if self.conn.transport is None or self.conn.closing:
            await unheard.remember(known_by or transaction_of(envelope), content, outcomes)
        return outcomes

    def blame(self, points: float, why: str) -> None:
        """The peer's mistakes; not those of a host that speaks for many."""
        if self.host == self.conn.host:
            self.conn.blame(points, why)

    # ---------------------------------------------------------------- replies

    def say(self, line: str) -> None:
        self.conn.write(line.encode() + b"\r\n")

    def bad(self, line: str) -> None:
        """An error reply; too many of them end the session."""
        self._errors += 1
        self.say(line)
        if self._errors >= self.service.limits.errors:
            count("smtp.errors")
            self.blame(2, "too many errors")
            self.say("421 4.7.0 too many errors, closing")
            self.conn.close()


def service(kind: str, **shared: Any) -> Service:
    """A Service; ``kind`` is one of smtp, submission and lmtp."""
    assert kind in (MX, SUBMISSION, LMTP)
    return Service(kind, **shared)
