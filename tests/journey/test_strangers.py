"""Strangers at port 25 of a running server with two workers: what is known of them holds in both (RFC 5321 3.1, 4.2).

A balancer's PROXY header says who the client is, because this machine is no stranger. NSD serves the zones."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_trust import Nsd, delivered
from tests.support.server import Server

HOST = "mx.example.test"
RULES = """
[strangers]
banner_wait = 1.0
early_talkers = "refuse"
hello = "refuse"
sender_domain = "refuse"
unknown_recipients = 6
guessers = "refuse"
tarpit = 0.3
rates = ["connections client 40", "messages recipient 30"]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "dns").mkdir()
    dns = Nsd(
        tmp_path / "dns",
        {
            "far.test": "@ IN MX 10 mail\nmail IN A 192.0.2.1\ndeaf IN MX 0 .\n",
            "2.0.192.in-addr.arpa": "1 IN PTR mail.far.test.\n9 IN PTR 192-0-2-9.dyn.far.test.",
            "dbl.test": "test IN A 127.0.1.2\nevil.test IN A 127.0.1.4\n",
        },
    )
    extra = (
        f'\n[relay]\ndns_servers = ["127.0.0.1:{dns.port}"]\ndnssec = false\n[policy]\nlookup_time = 5\nenforce = true\n'
        f'link_lists = ["dbl.test=127.0.1.[2..99]*20"]\n{RULES}'
    )
    made = Server(tmp_path / "server", extra, workers=2)
    text = made.config.read_text().replace("[listen]", '[listen]\nproxy_protocol = ["127.0.0.0/8"]', 1)
    made.config.write_text(text.replace("[server]", "[server]\ndelivery_workers = 2", 1))
    try:
        yield made
    finally:
        made.stop()
        dns.stop()


class Client:
    """A client at ``ip``, through a balancer."""

    def __init__(self, server: Server, ip: str, first: bytes = b"") -> None:
        self.socket = server.connect("smtp")
        self.stream = self.socket.makefile("rwb")
        self.begun = time.monotonic()
        self.socket.sendall(f"PROXY TCP4 {ip} 203.0.113.1 4711 25\r\n".encode() + first)

    def reply(self) -> str:
        """The last line of the next reply; empty at the end of the session."""
        line = b""
        while not re.match(rb"\d{3} ", line):
            line = self.stream.readline()
            if not line:
                return ""
        return line.decode().rstrip()

    def say(self, line: str) -> str:
        self.stream.write(line.encode() + b"\r\n")
        self.stream.flush()
        return self.reply()

    def send(self, text: str = "hello", sender: str = "joe@far.test", helo: str = "mail.far.test") -> str:
        """The reply to a message, or the first one that is no good."""
        message = f"From: <joe@far.test>\r\nSubject: x\r\n\r\n{text}\r\n."
        for line in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", "RCPT TO:<user@example.test>", "DATA", message):
            got = self.say(line)
            if got[:1] not in "23":
                return got
        return got

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.stream.close()
        self.socket.close()


def test_a_stranger_waits_and_a_known_client_does_not(server: Server) -> None:
    server.start()
    client = Client(server, "192.0.2.1")
    assert client.reply().startswith("220 ") and time.monotonic() - client.begun >= 0.9
    assert client.send().startswith("250 ")
    client.close()
    for _ in range(8):  # by either worker
        client = Client(server, "192.0.2.1", b"EHLO mail.far.test\r\n")
        assert client.reply().startswith("220 ") and client.reply().startswith("250 ")
        assert time.monotonic() - client.begun < 0.9
        client.close()
    assert len(delivered(server)) == 1


def test_early_talkers_and_browsers(server: Server) -> None:
    server.start()
    for first, wanted in (
        (b"EHLO x\r\n", "554 5.5.0 you spoke"),
        (b"GET / HTTP/1.1\r\n\r\n", "421 4.7.0 this is not an HTTP"),
    ):
        client = Client(server, "192.0.2.77", first)
        assert client.reply().startswith(wanted) and client.reply() == ""
        client.close()


def test_what_clients_say_and_what_their_mail_names(server: Server) -> None:
    server.start()
    for more, wanted in (
        ({"helo": HOST}, "550 5.7.1 the name in your EHLO"),
        ({"sender": "joe@deaf.far.test"}, "550 5.7.27 "),
        ({"sender": "joe@none.far.test"}, "550 5.1.8 "),
        ({"text": "see http://www.bank.test@ev%69l.test/"}, "550 5.7.1 this message looks unwanted"),
        ({}, "250 "),
    ):
        client = Client(server, "192.0.2.1")
        client.reply()
        assert client.send(**more).startswith(wanted), more
        client.close()
    server.traced("user@example.test", "refused: 550 5.7.27")


def test_guesses_and_rates_are_those_of_all_workers(server: Server) -> None:
    server.start()
    codes = []
    for _ in range(4):  # connections that the system gives to either worker
        client = Client(server, "192.0.2.50")
        greeted = client.reply()
        if greeted.startswith("421"):
            assert "too many unknown recipients" in greeted
            codes.append("421")
        else:
            client.say("EHLO a.test")
            client.say("MAIL FROM:<joe@far.test>")
            begun = time.monotonic()
            codes += [client.say(f"RCPT TO:<nobody{n}@example.test>")[:3] for n in range(3)]
            assert time.monotonic() - begun >= 0.5, "replies to mistakes wait"
        client.close()
    assert codes == ["550"] * 5 + ["421"] * 3
    refused = 0
    for _ in range(45):
        client = Client(server, "192.0.2.60", b"QUIT\r\n")
        refused += client.reply().startswith(
            "421 4.7.0 mx.example.test at most 40 connections an hour for your address"
        )
        client.close()
    assert refused in (0, 5), "0 where the hour ended meanwhile"
