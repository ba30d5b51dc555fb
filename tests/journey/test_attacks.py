"""Classes of attack on mail servers, each with its number (SECURITY.md has the table), against a whole server."""

import asyncio
import base64
import contextlib
import imaplib
import itertools
import os
import poplib
import pwd
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmail.store.hub import Hub
from tests.support.server import Server
from tests.support.sessions import Bench

OTHER = "other@example.test"
EXTRA = "\n[limits]\nauth_failure_delay = 0.05\nauth_failures = 50\nerrors = 10000\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("attacked"), EXTRA)
    for name in (OTHER, "gone@example.test"):
        server.cli("account", "add", name, "--password-stdin", stdin=server.password + "\n")
    server.start()
    yield server
    server.stop()


class Wire:
    """A session by the line."""

    def __init__(self, server: Server, name: str) -> None:
        self.sock = server.connect(name)
        self.file = self.sock.makefile("rb")
        self.file.readline()

    def say(self, line: bytes) -> bytes:
        """The last line of the reply."""
        self.sock.sendall(line + b"\r\n")
        while True:
            got = self.file.readline()
            if got[3:4] != b"-":
                return got

    def imap(self, line: bytes) -> bytes:
        self.sock.sendall(b"t " + line + b"\r\n")
        out = b""
        while not (got := self.file.readline()).startswith((b"t ", b"+")) and got:
            out += got
        return out + got

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@contextlib.contextmanager
def wire(server: Server, name: str) -> Iterator[Wire]:
    one = Wire(server, name)
    try:
        yield one
    finally:
        one.close()


@contextlib.contextmanager
def mailbox(server: Server, user: str) -> Iterator[Wire]:
    with wire(server, "imap") as one:
        assert b"t OK" in one.imap(f'LOGIN {user} "{server.password}"'.encode())
        yield one


@contextlib.contextmanager
def sender(server: Server, user: str) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        smtp.starttls(context=context)
        smtp.login(user, server.password)
        yield smtp


def kept(server: Server, user: str = "") -> list[Path]:
    return [path for path in server.maildir(user).rglob("*") if path.parent.name in ("new", "cur")]


# ---------------------------------------------------------------- envelopes and headers


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F, 0x80, 0xFF])
def test_s45_odd_octets_in_every_field(server: Server, octet: int) -> None:
    """None gets into an address, a header field or the log; each gets an error, or is harmless where it is allowed."""
    if octet == 10:
        return  # ends the line
    raw = bytes([octet])
    before = len(kept(server))
    with wire(server, "smtp") as one:
        assert one.say(b"EHLO me.test")[:3] == b"250"
        for line in (
            b"MAIL FROM:<a%bb@c.test>" % raw,
            b"MAIL FROM:<ab@c%b.test>" % raw,
            b"MAIL FROM:<ab@c.test> ENVID=a%bb" % raw,
            b"MAIL FROM:<ab@c.test> AUTH=a%bb" % raw,
            b"VRFY" + raw + b"x",
        ):
            assert one.say(line)[:1] == b"5", line
        assert one.say(b"MAIL FROM:<a@b.test>")[:3] == b"250"
        assert one.say(b"RCPT TO:<us%ber@example.test>" % raw)[:1] == b"5"
        assert one.say(b"RCPT TO:<user@example.test> ORCPT=rfc822;a%bb" % raw)[:1] == b"5"
    assert len(kept(server)) == before


def test_s10_nothing_of_a_peer_begins_a_field(server: Server) -> None:
    with wire(server, "smtp") as one:
        assert one.say(b"EHLO evil\tX-Injected:.yes")[:3] in (b"501", b"250")
        assert one.say(b"EHLO (evil)\\<me>")[:3] == b"250"
        one.say(b"MAIL FROM:<a@b.test>")
        one.say(b"RCPT TO:<user@example.test>")
        assert one.say(b"DATA")[:3] == b"354"
        assert one.say(b"Subject: s10\r\n\r\nx\r\n.")[:3] == b"250"
    (path,) = [path for path in kept(server) if b"Subject: s10\n" in path.read_bytes()]
    head = path.read_bytes().partition(b"\n\n")[0]
    assert b"\nX-Injected" not in head and head.count(b"Received:") == 1 and b"from ?evil??<me> ([127.0.0.1])" in head


@pytest.mark.parametrize(
    "address",
    [
        b'""@example.test',
        b"user@example.test@evil.test",
        b"user@example.test\\",
        b'"user"@example.test',
        b"user@[127.0.0.1]x",
        b"us er@example.test",
        b"user@example..test",
        b"user@.example.test",
        b"user@example.test.",
        b"<user@example.test>",
        b"user@-example.test",
        b"\xc3\x28@example.test",
        b"user@" + b"a" * 300,
    ],
)
def test_s11_addresses_that_others_read_otherwise(server: Server, address: bytes) -> None:
    """Refused, or read as the one account that the grammar names; never as somebody else's."""
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        one.say(b"MAIL FROM:<a@b.test>")
        got = one.say(b"RCPT TO:<" + address + b">")
        assert got[:1] == b"5" or (address == b'"user"@example.test' and got[:3] == b"250"), got


@pytest.mark.parametrize(
    "path",
    [
        b"<user@example.test",
        b"<user@example.test:",
        b"<user@example.test@",
        b"<user@example.test, NOTIFY=NEVER",
        b"<@far.test:user@example.test;",
    ],
)
def test_s11_the_end_of_a_path_is_not_guessed(server: Server, path: bytes) -> None:
    """RFC 5321 4.1.2: a path ends with ``>``. What stands in its place is not skipped."""
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        assert one.say(b"MAIL FROM:" + path)[:3] == b"501"
        assert one.say(b"MAIL FROM:<a@b.test>")[:3] == b"250"
        assert one.say(b"RCPT TO:" + path)[:3] == b"501"


INJECTIONS = [b"*)(uid=*", b"' or 1=1 --", b"user%00", b"user@example.test' --", b"*", b"user@example.test)(|(a=*"]


@pytest.mark.parametrize("name", INJECTIONS)
def test_s13_names_are_no_queries(server: Server, name: bytes) -> None:
    with wire(server, "imap") as one:
        assert b"t NO" in one.imap(b'LOGIN "%b" "x"' % name)
    with wire(server, "pop3") as one:
        one.say(b"USER " + name)
        assert one.say(b"PASS x").startswith(b"-ERR")
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        one.say(b"MAIL FROM:<a@b.test>")
        assert one.say(b"RCPT TO:<" + name + b"@example.test>")[:1] == b"5"


# ---------------------------------------------------------------- relaying and spoofing

RELAYS = [
    b"<you@far.test>",
    b"<you%far.test@example.test>",
    b"<you%far.test>",
    b"<far.test!you>",
    b"<far.test!you@example.test>",
    b"<@example.test:you@far.test>",
    b"<@far.test,@example.test:you@far.test>",
    b'<"you@far.test">',
    b'<"you@far.test"@example.test>',
    b'<"you%far.test"@example.test>',
    b"<you@[198.51.100.1]>",
    b"<you@[127.0.0.1]>",
    b"<you@[IPv6:::1]>",
    b"<you@127.0.0.1>",
    b"<you@far.test@example.test>",
    b"<you@far.test@[127.0.0.1]>",
    b"<you@example.test.far.test>",
    b"<you@localhost>",
    b"<you@far.test.>",
    b"<you@FAR.TEST>",
    b"<user@example.test@far.test>",
    b"<you@far.test:25>",
    b"you@far.test",
    b"<you@far.test> ORCPT=rfc822;user@example.test",
    b"<you@mx.example.test.>",
    b"<@mx.example.test:you@far.test>",
]
SENDERS = [b"<a@b.test>", b"<>", b"<user@example.test>", b"<postmaster@example.test>", b"<a@mx.example.test>"]


@pytest.mark.parametrize(("mail", "service"), list(itertools.product(SENDERS, ["smtp", "lmtp"])))
def test_s17_no_open_relay(server: Server, mail: bytes, service: str) -> None:
    with wire(server, service) as one:
        one.say(b"EHLO me.test" if service == "smtp" else b"LHLO me.test")
        for rcpt in RELAYS:
            assert one.say(b"MAIL FROM:" + mail)[:3] == b"250"
            assert one.say(b"RCPT TO:" + rcpt)[:1] == b"5", rcpt
            one.say(b"RSET")
    with wire(server, "submission") as one:
        one.say(b"EHLO me.test")
        assert one.say(b"MAIL FROM:" + mail)[:3] == b"530"


def test_s18_a_login_sends_as_itself(server: Server) -> None:
    with sender(server, server.user) as smtp:
        for address in (OTHER, "user@far.test", "USER@example.test.evil.test", "user+x@far.test"):
            assert smtp.mail(address)[0] == 553
            smtp.rset()
        assert smtp.mail(server.user)[0] == 250


def test_s18_a_login_writes_as_itself(server: Server) -> None:
    """The header too; the reply says what to do, and the session goes on."""
    with sender(server, server.user) as smtp:
        for fields in (
            f"From: {OTHER}",
            f"From: {server.user}\r\nFrom: {OTHER}",
            f"From: {server.user}\r\nSender: {OTHER}",
        ):
            with pytest.raises(smtplib.SMTPDataError) as refused:
                smtp.sendmail(server.user, [OTHER], fields + "\r\nSubject: s18\r\n\r\nx\r\n")
            assert refused.value.smtp_code == 550 and refused.value.smtp_error.startswith(b"5.7.1 ")
            assert b"[auth] send_as" in refused.value.smtp_error
        smtp.sendmail(server.user, [OTHER], f"From: Me <{server.user.upper()}>\r\nSubject: own\r\n\r\nx\r\n")
    assert not any(b"s18" in path.read_bytes() for path in kept(server, OTHER))
    assert any(b"Subject: own" in path.read_bytes() for path in kept(server, OTHER))


def test_s19_no_backscatter(server: Server) -> None:
    """A thousand forged senders to users that are not there: refused while they are connected, and nobody is written to."""
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        for n in range(1000):
            one.say(b"MAIL FROM:<victim%d@far.test>" % n)
            assert one.say(b"RCPT TO:<nobody%d@example.test>" % n)[:3] == b"550"
            one.say(b"RSET")
    assert "far.test" not in server.cli("queue", "summary").stdout


CHUNKS = [
    (b"BDAT 9223372036854775808", b"501"),
    (b"BDAT 18446744073709551616 LAST", b"501"),
    (b"BDAT +1", b"501"),
    (b"BDAT 00000000000000000000000001", b"501"),
    (b"BDAT -1", b"501"),
    (b"BDAT 1e3", b"501"),
    (b"BDAT 0x10", b"501"),
    (b"BDAT 0 LAST LAST", b"501"),
    (b"BDAT", b"501"),
    (b"BDAT LAST", b"501"),
]


def test_s8_pieces_have_one_state(server: Server) -> None:
    """Sizes that are none, pieces before there is anybody to send them to, a mix with DATA, connections that end in the
    middle: each its error, nothing delivered, and the session (or the next one) of use."""
    before = len(kept(server))
    for size, reply in CHUNKS:
        with wire(server, "smtp") as one:
            one.say(b"EHLO me.test")
            one.say(b"MAIL FROM:<a@b.test>")
            one.say(b"RCPT TO:<user@example.test>")
            assert one.say(size).startswith(reply), size
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        assert one.say(b"BDAT 0 LAST")[:3] == b"503"
        assert one.say(b"BDAT 6\r\nNOOP")[:3] == b"503"  # its octets are no command
        one.say(b"MAIL FROM:<a@b.test>")
        assert one.say(b"BDAT 0 LAST")[:3] == b"554"  # nobody to send it to
        one.say(b"RSET")
        one.say(b"MAIL FROM:<a@b.test>")
        one.say(b"RCPT TO:<user@example.test>")
        one.sock.sendall(b"BDAT 12\r\nSubject: s8\n")
        assert one.file.readline()[:3] == b"250"
        assert one.say(b"DATA")[:3] == b"503"
        assert one.say(b"RSET")[:3] == b"250"
        assert one.say(b"BDAT 0 LAST")[:3] == b"503"
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        one.say(b"MAIL FROM:<a@b.test>")
        one.say(b"RCPT TO:<user@example.test>")
        one.sock.sendall(b"BDAT 1000000 LAST\r\nSubject: s8\r\n")
    assert len(kept(server)) == before
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        smtp.sendmail("a@b.test", [server.user], b"Subject: after s8\r\n\r\nx\r\n")


@pytest.mark.parametrize("behind", [b"", b"x", b"\r\nx", b"QUIT\r\n", b"y" * 83])
def test_s8_tls_that_ends_in_a_piece(server: Server, behind: bytes) -> None:
    """close_notify in the middle of a piece, then plain octets: nothing of them is taken, the connection ends, nothing is
    kept, and the worker lives on."""
    before, workers = len(kept(server)), server.workers()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="x")
    with server.connect("submissions") as sock:

        def pump(work: Callable[[], object]) -> object:
            while True:
                try:
                    done = work()
                    sock.sendall(outgoing.read())
                    return done
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))

        def say(line: bytes) -> bytes:
            pump(lambda: tls.write(line + b"\r\n"))
            got = b""
            while not re.search(rb"(?m)^\d\d\d [^\n]*\n\Z", got):
                got += pump(lambda: tls.read(4096))  # type: ignore[operator]
            return got

        pump(tls.do_handshake)
        pump(lambda: tls.read(4096))
        say(b"EHLO me.test")
        token = base64.b64encode(f"\0{server.user}\0{server.password}".encode())
        assert say(b"AUTH PLAIN " + token).startswith(b"235")
        assert say(b"MAIL FROM:<user@example.test>").startswith(b"250")
        assert say(b"RCPT TO:<user@example.test>").startswith(b"250")
        pump(lambda: tls.write(b"BDAT 100 LAST\r\nSubject: s8 in TLS"))  # 17 of 100
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        with contextlib.suppress(OSError):
            sock.sendall(outgoing.read() + behind)  # close_notify, and what is plain, in one segment
            while piece := sock.recv(65536):
                incoming.write(piece)
        with contextlib.suppress(ssl.SSLError):
            assert not (said := tls.read(4096)), said
    assert len(kept(server)) == before and server.workers() == workers
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        smtp.sendmail("a@b.test", [OTHER], b"Subject: after s8\r\n\r\nx\r\n")


def test_s8_a_piece_that_is_too_big_is_counted_and_dropped(tmp_path: Path) -> None:
    """Its octets are no commands and cost no memory; those behind it are commands again; later pieces are refused."""

    async def main() -> None:
        bench = Bench(str(tmp_path), message_size=1000)
        client = bench.open("smtp")
        await client.send(b"EHLO me.test\r\n")
        for step in (0, 1):  # one that is refused because nobody is to have it, in one piece and octet by octet
            got = await client.send(b"BDAT 12\r\nNOOP\r\nRSET\r\nNOOP\r\n", step)
            assert [line[:3] for line in got.splitlines()] == [b"503", b"250"], got
        for body in (b"", b" BODY=BINARYMIME"):
            begin = b"MAIL FROM:<a@b.test>%b\r\nRCPT TO:<user@example.test>\r\n" % body
            await client.send(begin)
            got = await client.send(b"BDAT 3000\r\n" + b"VRFY x\r\n" * 375 + b"NOOP\r\n")
            assert [line[:3] for line in got.splitlines()] == [b"552", b"250"], got
            assert (await client.send(b"BDAT 5 LAST\r\nabcde")).startswith(b"503")
            await client.send(b"RSET\r\n" + begin)
            for _ in range(2):  # two that are too big only together
                got = await client.send(b"BDAT 600\r\n" + b"X-A: b\r\n" * 75)
            assert got.startswith(b"552"), got
            await client.send(b"RSET\r\n")
        assert (await client.send(b"NOOP\r\n")).startswith(b"250")

    asyncio.run(main())


PATTERNS = [b"(a+)+$", b"%s%s%n", b"*" * 200, b"[" * 200, b"\\x00(?:", b"a" * 5000]


def test_s30_searches_take_no_patterns(server: Server) -> None:
    """What looks like a pattern is a text; HTML of megabytes, nested without end, is searched like any other."""
    deep = b"<div><b a='" * 200_000 + b"a" * 50_000 + b"needle"
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=60) as smtp:
        smtp.sendmail(
            "a@b.test",
            [OTHER],
            b"Subject: s30\r\nContent-Type: text/html\r\n\r\n"
            + b"\r\n".join(deep[at : at + 900] for at in range(0, len(deep), 900))
            + b"\r\n",
        )
    with mailbox(server, OTHER) as one:
        one.sock.settimeout(60)
        assert b"t OK" in one.imap(b"SELECT INBOX")
        for text in PATTERNS:
            for key in (b"BODY", b"TEXT", b"SUBJECT", b"HEADER X-None"):
                one.sock.sendall(b"t SEARCH %b {%d+}\r\n%b\r\n" % (key, len(text), text))
                found = one.file.readline()
                assert found == b"* SEARCH\r\n" and b"t OK" in one.file.readline(), (key, text, found)


LOOKUPS = [
    "${lookup{x}}",
    "%(asctime)s %n",
    "{0.__class__.__init__.__globals__}",
    "$(id)`id`",
    '{"a": [[[[',
    "../../etc/passwd",
]


@pytest.mark.parametrize("value", LOOKUPS)
def test_s39_what_a_message_says_is_looked_up_nowhere(server: Server, value: str) -> None:
    """Kept and served as it came, in every field that is read for something."""
    fields = ("Subject", "Message-ID", "X-Spam", "List-Id", "Content-Type", "In-Reply-To", "Authentication-Results")
    text = "".join(f"{name}: {value}\r\n" for name in fields) + "\r\nbody\r\n"
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        smtp.sendmail("a@b.test", [OTHER], text.encode())
    with mailbox(server, OTHER) as one:
        one.imap(b"SELECT INBOX")
        got = one.imap(b"FETCH * (ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
        assert text.encode() in got and b"t OK" in got
    assert "Traceback" not in server.log.read_text() and "root:" not in server.log.read_text()


# ---------------------------------------------------------------- logins


def test_s21_unknown_users_look_like_wrong_passwords(server: Server) -> None:
    answers: dict[str, set[bytes]] = {}
    for user in (server.user, "nobody@example.test", "user@far.test", "no such"):
        with wire(server, "imap") as one:
            answers.setdefault("imap", set()).add(one.imap(f'LOGIN "{user}" wrong'.encode()))
        with wire(server, "pop3") as one:
            answers.setdefault("user", set()).add(one.say(f"USER {user}".encode()))
            answers.setdefault("pop3", set()).add(one.say(b"PASS wrong"))
        with wire(server, "submission") as one:
            one.say(b"EHLO me.test")
            token = base64.b64encode(f"\0{user}\0wrong".encode())
            answers.setdefault("smtp", set()).add(one.say(b"AUTH PLAIN " + token))
    assert {name: len(said) for name, said in answers.items()} == dict.fromkeys(answers, 1), answers
    with wire(server, "smtp") as one:
        one.say(b"EHLO me.test")
        assert one.say(b"VRFY user") == one.say(b"VRFY nobody")


BAD_SASL = [b"", b"=", b"====", b"AA", b"AAAA", b"A" * 9000, b"!!!!", b"AHVzZXI=", b"AAA=AAA=", b"*", b"\xff"]


@pytest.mark.parametrize("mechanism", [b"PLAIN", b"LOGIN", b"CRAM-MD5", b"NTLM", b"SCRAM-SHA-256", b"X" * 100])
def test_s25_exchanges_that_are_none(server: Server, mechanism: bytes) -> None:
    """Each ends in a refusal, and the session is of use."""
    for bad in BAD_SASL:
        with wire(server, "submission") as one:
            one.say(b"EHLO me.test")
            got = one.say(b"AUTH " + mechanism)
            for _ in range(3):
                if got[:3] != b"334":
                    break
                got = one.say(bad)
            assert got[:1] == b"5", (mechanism, bad, got)
            assert one.say(b"NOOP")[:3] == b"250"
        with wire(server, "imap") as one:
            got = one.imap(b"AUTHENTICATE " + mechanism)
            for _ in range(3):
                if not got.startswith(b"+"):
                    break
                one.sock.sendall(bad + b"\r\n")
                got = one.file.readline()
            assert got.startswith((b"t NO", b"t BAD")), (mechanism, bad, got)
            assert b"t OK" in one.imap(b"NOOP")


def test_s47_an_account_that_is_gone_logs_in_nowhere(server: Server) -> None:
    user = "gone@example.test"
    with mailbox(server, user):
        pass
    server.cli("account", "remove", user)
    listed = server.cli("account", "list").stdout
    assert user not in listed
    with wire(server, "imap") as one:
        assert b"t NO" in one.imap(f'LOGIN {user} "{server.password}"'.encode())
    client = poplib.POP3("127.0.0.1", server.ports["pop3"])
    client.user(user)
    with pytest.raises(poplib.error_proto):
        client.pass_(server.password)
    client.close()
    with pytest.raises(smtplib.SMTPAuthenticationError), sender(server, user):
        pass


def test_s34_sessions_never_mix(server: Server) -> None:
    """Logins of two users, again and again, interleaved: each sees its own mail."""
    for user in (server.user, OTHER):
        with mailbox(server, user) as one:
            one.imap(b"CREATE Mine")
            text = f"Subject: of {user}\r\n\r\nx\r\n".encode()
            one.sock.sendall(b"t APPEND Mine {%d+}\r\n%b\r\n" % (len(text), text))
            while not (got := one.file.readline()).startswith(b"t "):
                pass
            assert got.startswith(b"t OK")
    for _ in range(30):
        with mailbox(server, server.user) as one, mailbox(server, OTHER) as two:
            for session, user in ((one, server.user), (two, OTHER), (one, server.user)):
                session.imap(b"SELECT Mine")
                got = session.imap(b"FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
                assert f"Subject: of {user}".encode() in got
            one.imap(b"UNAUTHENTICATE")
            assert b"t OK" in one.imap(f'LOGIN {OTHER} "{server.password}"'.encode())
            one.imap(b"SELECT Mine")
            assert f"Subject: of {OTHER}".encode() in one.imap(b"FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")


# ---------------------------------------------------------------- names and verbs

NAMES = [
    *(b"../other", b"a/../../b", b"/etc/passwd", b"..", b".", b"a//b", b"&AC8-etc", b"&-&", b"a&", b"&AAA-x"),
    *(b"a/.", b"..&AC8-..&AC8-x", b"~root", b"#shared", b"con", b"a" * 1000, b"Other Users/other@example.test/INBOX"),
]


@pytest.mark.parametrize("name", NAMES)
def test_s32_names_are_not_paths(server: Server, name: bytes) -> None:
    """Whatever is created lies inside the user's own Maildir, and nothing of others is touched."""
    root = server.directory / "data" / "mail"

    def outside() -> set[str]:
        """Without what follows the flags in a while: new/ or cur/, and the letters."""
        found = [path for path in root.parent.rglob("*") if server.maildir() not in path.parents]
        names = [str(path).partition(":2,")[0] for path in found if "mail" in path.parts]
        return {name.replace("/new/", "/cur/") for name in names}

    with mailbox(server, server.user) as one:
        before = outside()  # the user's Maildir is there, too, which the first login makes
        for command in (b"CREATE", b"SELECT", b"STATUS", b"DELETE", b"SUBSCRIBE"):
            rest = b" (MESSAGES)" if command == b"STATUS" else b""
            assert re.search(rb"(?m)^t (OK|NO|BAD)", one.imap(b'%b "%b"%b' % (command, name, rest)))
        assert b"t OK" in one.imap(b"NOOP")
    assert outside() == before


VERBS = [
    *(b"SELECT %b", b"EXAMINE %b", b"STATUS %b (MESSAGES)", b"DELETE %b", b"RENAME %b Mine2", b"RENAME INBOX %b"),
    *(b"CREATE %b/x", b"SETACL %b other@example.test lrswipkxtea", b"GETACL %b", b"DELETEACL %b user@example.test"),
    *(b"LISTRIGHTS %b other@example.test", b"MYRIGHTS %b", b"GETMETADATA %b /private/comment", b"GETQUOTAROOT %b"),
    *(b'SETMETADATA %b (/private/comment "x")', b"UID COPY 1 %b", b"UID MOVE 1 %b", b"APPEND %b {3+}\r\nA: "),
    b"ESEARCH IN (mailboxes %b) RETURN (ALL) ALL",
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda v: v.split(b" ")[0].decode() + str(len(v)))
def test_s33_no_verb_reaches_others_mailboxes(server: Server, verb: bytes) -> None:
    with mailbox(server, server.user) as one:
        one.imap(b"CREATE Secret")
    with mailbox(server, OTHER) as one:
        one.imap(b"SELECT INBOX")
        for name in (b'"Other Users/user@example.test/Secret"', b'"Other Users/user@example.test"'):
            got = one.imap(verb % name)
            last = got.splitlines()[-1]
            assert last.startswith((b"t NO", b"t BAD")) or verb.startswith((b"ESEARCH", b"UID")), (verb, got)
            assert b"Secret" not in got
        assert b"Secret" not in one.imap(b'LIST "" *')
    with mailbox(server, server.user) as one:
        assert b"t OK" in one.imap(b"STATUS Secret (MESSAGES)")


# ---------------------------------------------------------------- other protocols, logs, defaults


def hello(server: Server, name: str, asked: list[str]) -> tuple[str | None, bytes]:
    """TLS from the first octet, or behind STARTTLS: (protocol that was chosen, first octets of the answer to CAPA)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if asked:
        context.set_alpn_protocols(asked)
    sock = server.connect(name)
    begin = {"imap": b"a STARTTLS\r\n", "pop3": b"STLS\r\n", "smtp": b"EHLO me\r\nSTARTTLS\r\n"}.get(name)
    if begin is not None:
        sock.recv(1000)
        sock.sendall(begin)
        heard = b""
        while not any(mark in heard for mark in (b"a OK", b"+OK", b"220 2.0.0")):
            heard += sock.recv(4000)
    with context.wrap_socket(sock, server_hostname="x") as tls:
        try:
            tls.sendall({"imap": b"b NOOP\r\n", "pop3": b"CAPA\r\n", "smtp": b"EHLO me\r\n"}.get(name, b""))
            return tls.selected_alpn_protocol(), tls.recv(20)
        except (ConnectionError, ssl.SSLError):  # not TimeoutError: the server ends it
            return tls.selected_alpn_protocol(), b""


@pytest.mark.parametrize("name", ["imaps", "pop3s", "submissions", "imap", "pop3", "smtp"])
def test_s36_tls_for_another_protocol_is_ended(server: Server, name: str) -> None:
    own = {"imap": "imap", "pop3": "pop3"}.get(name.removesuffix("s"), "smtp")
    for good in ([], [own], ["h2", own], ["something-new"]):
        chosen, said = hello(server, name, good)
        assert said and chosen == (own if own in good else None), good
    for foreign in (["h2", "http/1.1"], ["http/1.1"], ["ftp"], ["pop3" if own == "imap" else "imap"]):
        assert hello(server, name, foreign)[1] == b"", foreign
    with pytest.raises(ssl.SSLError):
        hello(server, name, ["x" * 255 for _ in range(300)])


def test_s36_names_in_the_handshake_cost_nothing(server: Server) -> None:
    """SNI with a thousand names: one certificate for all, nothing is kept."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def memory() -> int:
        return sum(
            int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]
            for pid in server.workers()
        )

    def knock(first: int) -> None:
        for number in range(first, first + 500):
            with context.wrap_socket(server.connect("imaps"), server_hostname=f"n{number}.example.test") as tls:
                assert tls.recv(4) == b"* OK"

    knock(0)
    before = memory()
    knock(500)
    assert memory() - before < 2000, "KiB"


@pytest.mark.parametrize("verb", [b"GET / HTTP/1.1", b"POST /x HTTP/1.1", b"CONNECT a:25 HTTP/1.1"])
def test_s37_a_browser_is_sent_away(server: Server, verb: bytes) -> None:
    inner = b"Host: x\r\n\r\nEHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n"
    for name in ("smtp", "submission"):
        with wire(server, name) as one:
            one.sock.sendall(verb + b"\r\n" + inner)
            assert one.file.readline().startswith(b"421")
            assert one.file.read() == b""


@pytest.mark.root
def test_s40_local_sockets_know_who_speaks(tmp_path: Path) -> None:
    """LMTP on a socket in a directory: the users who were named, nobody else; and garbage harms nothing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        path = f"{place}/lmtp"
        server = Server(tmp_path / "s")
        text = server.config.read_text()
        lines = [line for line in text.splitlines() if line.startswith("lmtp = ")]
        both = f'lmtp = ["127.0.0.1:{server.ports["lmtp"]}", "unix:{path}"]\nunix_users = ["daemon"]'
        server.config.write_text(text.replace(lines[0], both))
        server.start()
        knock = (
            "import os, socket, sys; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2])); "
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
            "s.settimeout(5); print(s.recv(400)[:3].decode()); s.sendall(b'LHLO me\\r\\n\\0\\xff garbage\\r\\n')"
        )
        try:
            said = {
                user: subprocess.run(
                    [sys.executable, "-c", knock, path, str(number)], capture_output=True, text=True, timeout=20
                ).stdout.strip()
                for user, number in (("root", 0), ("daemon", pwd.getpwnam("daemon").pw_uid), ("nobody", 65534))
            }
            assert said == {"root": "220", "daemon": "220", "nobody": "421"}
            assert "event=local.refused" in server.log.read_text()
            with smtplib.LMTP(path) as client:
                client.sendmail("a@b.test", [server.user], "Subject: x\r\n\r\nx\r\n")
        finally:
            server.stop()


@pytest.mark.root
def test_s40_nobody_else_rings_the_doorbell(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:

        async def main() -> list[str]:
            heard: list[str] = []
            hub = Hub(place)
            hub.start(asyncio.get_running_loop(), 1)
            os.chmod(place, 0o755)
            os.chmod(f"{place}/doorbell.0", 0o666)
            ring = (
                "import os, socket, sys; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2])); "
                "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'k' * 12, sys.argv[1]); "
                "s.sendto(b'', sys.argv[1])"
            )
            for name, number in (("nobody", "65534"), ("root", "0")):
                hub.watch(b"k" * 12, lambda name=name: heard.append(name))  # type: ignore[misc]
                done = await asyncio.create_subprocess_exec(sys.executable, "-c", ring, f"{place}/doorbell.0", number)
                assert await done.wait() == 0
                await asyncio.sleep(0.1)
                if name == "nobody":
                    assert heard == []
            hub.close()
            return heard

        assert sorted(asyncio.run(main())) == ["nobody", "root"], "both callbacks, once, for root's datagram"


def test_s42_the_log_is_one_line_an_event(server: Server) -> None:
    evil = "\x1b[31mred level=error event=forged"
    with wire(server, "imap") as one:
        one.imap(b'LOGIN "%b" x' % evil.encode().replace(b"\x1b", b""))
    with wire(server, "pop3") as one:
        one.say(b"USER " + evil.encode())
        one.say(b"PASS x")
    with wire(server, "smtp") as one:
        one.say(b"EHLO " + b"x" * 250)
    text = server.log.read_bytes()
    assert b"\x1b" not in text and not re.search(rb"(?m)^(?!time=)", text.rstrip(b"\n"))
    assert not re.search(rb"(?m) event=forged( |$)", re.sub(rb'"[^"]*"', b"", text))


def colliding(count: int, one: str, two: str) -> list[str]:
    """Names of the same length made of two blocks: under a hash for which the blocks are equal, all of them are."""
    bits = count.bit_length()
    return ["X-" + "".join(two if n >> at & 1 else one for at in range(bits)) for n in range(count)]


@pytest.mark.alone
def test_s46_names_that_collide_cost_no_more(server: Server) -> None:
    """Twenty thousand field names, keywords and message ids that are equal under hashes without a seed (times 31, times
    33) cost what other names of that length cost: kept, searched and threaded."""
    count = 20_000
    kinds = {
        "other": colliding(count, "Qx", "7k"),
        "times 31": colliding(count, "Aa", "BB"),
        "times 33": colliding(count, "Ez", "FY"),
    }
    assert len({sum(ord(c) * 31 ** (len(k) - at) for at, c in enumerate(k)) for k in kinds["times 31"]}) == 1
    assert len({sum(ord(c) * 33 ** (len(k) - at) for at, c in enumerate(k)) for k in kinds["times 33"]}) == 1
    took: dict[str, float] = {}
    with mailbox(server, server.user) as one:
        one.sock.settimeout(60)
        for _ in range(2):
            for kind, names in kinds.items():
                ids = " ".join(f"<{name}@x>" for name in names[:2000])
                head = f"Subject: s46\r\nReferences: {ids}\r\n" + "\r\n".join(f"{name}: x" for name in names)
                text = f"{head}\r\n\r\nbody\r\n".encode()
                one.imap(b"CREATE Collide")
                begun = time.perf_counter()
                one.sock.sendall(b"t APPEND Collide {%d+}\r\n%b\r\n" % (len(text), text))
                while not (got := one.file.readline()).startswith(b"t "):
                    pass
                assert got.startswith(b"t OK")
                one.imap(b"SELECT Collide")
                assert one.imap(b"SEARCH HEADER %b x" % names[-1].encode()).startswith(b"* SEARCH 1\r\n")
                assert one.imap(b"THREAD REFERENCES UTF-8 ALL").startswith(b"* THREAD (1)")
                some = " ".join(names[:200])
                assert b"t OK" in one.imap(f"FETCH 1 (BODY.PEEK[HEADER.FIELDS ({some})])".encode())
                assert b"t OK" in one.imap(f"STORE 1 +FLAGS ({' '.join(name[2:] for name in names[:40])})".encode())
                took[kind] = min(took.get(kind, 99.0), time.perf_counter() - begun)
                one.imap(b"CLOSE")
                assert b"t OK" in one.imap(b"DELETE Collide")
    assert max(took.values()) < 4 * took["other"] + 0.2, took


def test_s48_a_fresh_server_is_closed(tmp_path: Path, server: Server) -> None:
    """No account but the one that was asked for, no plain login from afar, old TLS refused."""
    text = (server.directory / "fastmail.toml").read_text()
    assert 'plaintext_without_tls = "loopback"' in text
    assert oct((server.directory / "key.pem").stat().st_mode)[-3:] == "600"
    assert oct((server.directory / "data").stat().st_mode)[-3:] in ("700", "750")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(socket.create_connection(("127.0.0.1", server.ports["imaps"]), 5))
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        assert "STARTTLS" in imap.capabilities
