"""Bad input over real sockets: smuggling (S1), injection at STARTTLS (S4), limits (S28), slow and rude clients."""

import base64
import contextlib
import smtplib
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.support.server import Server

ENDINGS = [
    b"\n.\n",
    b"\r.\r",
    b"\r.\n",
    b"\n.\r",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
]
# others that one server or another was seen to take for the end of a message, or to send on
MORE_ENDINGS = [
    *(b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\n.\r\r\n", b"\r\r\n.\n", b"\n\n.\n\n", b"\r\n. \r\n", b"\r\n.\t\r\n"),
    *(b"\r.\n\r", b"\n\r.\r\n", b"\r\n\x2e\x00\r\n", b"\xc2\x85.\xc2\x85", b"\x0b.\x0b", b"\x0c.\x0c", b"\r\n..\r\n"),
]


def talk(sock: socket.socket, data: bytes, until: bytes = b"\r\n") -> bytes:
    sock.sendall(data)
    got = b""
    while not got.endswith(until):
        more = sock.recv(65536)
        if not more:
            break
        got += more
    return got


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda e: e.hex())
def test_s1_no_smuggling(server: Server, ending: bytes) -> None:
    sock = server.connect("smtp")
    talk(sock, b"")
    assert talk(sock, b"HELO x\r\n").startswith(b"250")
    talk(sock, f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{server.user}>\r\n".encode(), b"recipient ok\r\n")
    assert talk(sock, b"DATA\r\n").startswith(b"354")
    inner = f"MAIL FROM:<evil@b.example>\r\nRCPT TO:<{server.user}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
    reply = talk(sock, b"Subject: outer\r\n\r\nx" + ending + inner.encode())
    assert reply.startswith(b"550 5.6"), reply
    assert talk(sock, b"NOOP\r\n") == b"250 2.0.0 ok\r\n"
    sock.close()


def stored(server: Server) -> list[bytes]:
    """All messages of the account."""
    return [path.read_bytes() for path in server.maildir().rglob("*") if path.parent.name in ("new", "cur")]


@pytest.mark.parametrize("name", ["smtp", "lmtp", "submissions"])
def test_s1_no_ending_makes_two_messages(server: Server, name: str) -> None:
    """Each ending in every protocol that takes mail: the message is refused or kept once, with all that followed the
    ending in it; never is what followed a message of its own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for number, ending in enumerate([*ENDINGS, *MORE_ENDINGS]):
        before = len(stored(server))
        plain = server.connect(name)
        with context.wrap_socket(plain) if name == "submissions" else plain as sock:
            talk(sock, b"")
            talk(sock, b"LHLO x\r\n" if name == "lmtp" else b"EHLO x\r\n")
            if name == "submissions":
                token = base64.b64encode(f"\0{server.user}\0{server.password}".encode())
                assert talk(sock, b"AUTH PLAIN " + token + b"\r\n").startswith(b"235")
            inner = (
                f"MAIL FROM:<{server.user}>\r\nRCPT TO:<{server.user}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
            )
            talk(sock, f"MAIL FROM:<{server.user}>\r\nRCPT TO:<{server.user}>\r\n".encode(), b"recipient ok\r\n")
            assert talk(sock, b"DATA\r\n").startswith(b"354")
            sock.sendall(f"Subject: outer-{name}-{number}\r\n\r\nx".encode() + ending + inner.encode() + b"QUIT\r\n")
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass
        kept = stored(server)
        assert len(kept) - before <= 1, ending
        mine = [one for one in kept if b"Subject: outer-%b-%d\n" % (name.encode(), number) in one]
        assert len(mine) == len(kept) - before, ending
        assert all(b"\nSubject: smuggled\n" in one.partition(b"\n\n")[2] for one in mine), ending
        assert not [one for one in kept if b"\nSubject: smuggled\n" in one.partition(b"\n\n")[0]], ending


def test_s1_what_looks_like_an_end_is_content_in_a_piece(server: Server) -> None:
    """BDAT counts octets: nothing in them ends the message."""
    inner = (
        b"\r\n.\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<user@example.test>\r\nDATA\r\nSubject: in\r\n\r\nx\r\n.\r\n"
    )
    text = b"Subject: in a piece\r\n\r\nx" + inner
    before = len(stored(server))
    sock = server.connect("smtp")
    talk(sock, b"")
    talk(sock, b"EHLO x\r\n")
    talk(sock, f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{server.user}>\r\n".encode(), b"recipient ok\r\n")
    assert talk(sock, b"BDAT %d LAST\r\n%b" % (len(text), text)).startswith(b"250 2.0.0")
    assert talk(sock, b"QUIT\r\n").startswith(b"221")
    (mine,) = [one for one in stored(server) if b"Subject: in a piece\n" in one]
    assert len(stored(server)) == before + 1 and mine.endswith(text.partition(b"\r\n")[2].replace(b"\r\n", b"\n"))


@pytest.mark.parametrize(
    ("name", "before", "command", "injected"),
    [
        ("smtp", b"EHLO x\r\n", b"STARTTLS\r\n", b"NOOP injected\r\n"),
        ("submission", b"EHLO x\r\n", b"STARTTLS\r\n", b"NOOP injected\r\n"),
        ("lmtp", b"LHLO x\r\n", b"STARTTLS\r\n", b"NOOP injected\r\n"),
        ("imap", b"", b"a STARTTLS\r\n", b"b NOOP\r\n"),
        ("pop3", b"", b"STLS\r\n", b"CAPA\r\n"),
    ],
)
def test_s4_nothing_before_tls_survives_it(
    server: Server, name: str, before: bytes, command: bytes, injected: bytes
) -> None:
    sock = server.connect(name)
    talk(sock, b"")
    if before:
        talk(sock, before)
        time.sleep(0.05)
        sock.setblocking(False)
        try:
            sock.recv(65536)
        except BlockingIOError:
            pass
        sock.settimeout(10)
    talk(sock, command + injected)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_socket(sock, server_hostname="x")
    tls.settimeout(0.5)
    with pytest.raises(TimeoutError):
        tls.recv(100)
    tls.settimeout(10)
    if name == "imap":
        assert talk(tls, b"c NOOP\r\n") == b"c OK NOOP completed\r\n"
    elif name == "pop3":
        assert b"STLS" not in talk(tls, b"CAPA\r\n", b".\r\n")
    else:
        assert talk(tls, b"MAIL FROM:<a@b.example>\r\n").startswith(b"503")
    tls.close()


def test_s3_message_before_354_is_refused(server: Server) -> None:
    sock = server.connect("smtp")
    talk(sock, b"")
    talk(sock, b"HELO x\r\n")
    start = f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{server.user}>\r\nDATA\r\nSubject: early\r\n\r\n.\r\n"
    assert b"554 5.5.0" in talk(sock, start.encode(), b"reply\r\n")
    assert sock.recv(10) == b""


@pytest.mark.parametrize("name", ["smtp", "imap", "pop3", "lmtp"])
def test_a_long_line_is_refused_and_the_session_goes_on(server: Server, name: str) -> None:
    sock = server.connect(name)
    talk(sock, b"")
    reply = talk(sock, b"A" * 200_000 + b"\r\n")
    assert b"line is too long" in reply
    good = {"smtp": b"NOOP\r\n", "lmtp": b"NOOP\r\n", "imap": b"a NOOP\r\n", "pop3": b"CAPA\r\n"}[name]
    assert talk(sock, good).startswith((b"250", b"a OK", b"+OK"))
    sock.close()


def test_s28_literals_are_refused_on_their_size(server: Server) -> None:
    sock = server.connect("imap")
    talk(sock, b"")
    assert talk(sock, b"a LOGIN {4294967295}\r\n").startswith(b"a BAD literal is too big")
    assert talk(sock, b"b LOGIN {20000+}\r\n" + b"x" * 20000 + b" {3+}\r\nabc\r\n").startswith(b"b BAD")
    assert talk(sock, b"c NOOP\r\n") == b"c OK NOOP completed\r\n"
    assert talk(sock, b"d LOGIN {999999999999+}\r\n").startswith(b"* BYE")
    assert sock.recv(10) == b""


def test_deep_and_broken_mime_is_served(server: Server) -> None:
    deep = b""
    for n in range(300):
        deep += b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n)
    broken = [
        deep,
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"\r\n\r\n",
        b"no header at all",
        b"Subject: ok\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n" * 200,
    ]
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp:
        for body in broken:
            lmtp.sendmail("a@b.example", [server.user], body)
    import imaplib

    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as client:
        client.login(server.user, server.password)
        count = int(client.select()[1][0])
        kind, found = client.fetch(f"{count - 4}:{count}", "(UID ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE)")
        assert kind == "OK" and len([f for f in found if f]) >= 5


def test_s20_loops_end_at_fifty_hops(server: Server) -> None:
    hops = b"".join(b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n" for _ in range(51))
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        with pytest.raises(smtplib.SMTPDataError) as caught:
            smtp.sendmail("a@b.example", [server.user], hops + b"\r\n")
        assert caught.value.smtp_code == 554
        smtp.sendmail("a@b.example", [server.user], hops[: len(hops) // 51 * 49] + b"\r\n")


def test_slow_and_wrong_clients_are_ended(tmp_path: Path) -> None:
    server = Server(
        tmp_path / "s",
        extra="\n[limits]\nlogin_timeout = 1\ncommand_timeout = 1\nmessage_size = 1000\nrecipients = 2\nerrors = 3\n"
        "auth_failures = 2\nauth_failure_delay = 0\n",
        workers=1,
    )
    server.start()
    try:
        for name, word in (("imap", b"* BYE"), ("pop3", b"-ERR"), ("smtp", b"421")):
            sock = server.connect(name)
            talk(sock, b"")
            assert talk(sock, b"").startswith(word)
            assert sock.recv(10) == b""
        for begin in (b"", b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n"):
            sock = server.connect("smtp")  # one that drips: each octet is in time, a line or a message never is
            talk(sock, b"")
            sock.sendall(begin)
            sock.settimeout(0.2)
            said = b""
            deadline = time.monotonic() + 6
            while b"421" not in said:
                assert time.monotonic() < deadline, said
                with contextlib.suppress(TimeoutError):
                    said += sock.recv(1000)
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"x")
        smtp = smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20)
        smtp.ehlo()
        assert smtp.mail("a@b.example", ["SIZE=2000"])[0] == 552
        assert smtp.mail("a@b.example")[0] == 250
        assert [smtp.rcpt(server.user)[0] for _ in range(3)] == [250, 250, 452]
        assert smtp.data(b"x" * 2000)[0] == 552
        sock = server.connect("imap")
        talk(sock, b"")
        for _ in range(2):
            assert b"NO [AUTHENTICATIONFAILED]" in talk(sock, b"a LOGIN user@example.test wrong\r\n")
        assert b"BYE" in talk(sock, b"") or sock.recv(10) == b""
    finally:
        server.stop()
    assert "event=bug" not in server.log.read_text()
