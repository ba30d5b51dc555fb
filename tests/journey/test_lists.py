"""A mailing list at a server that runs: three members here and one elsewhere, an envelope sender of its own, bounces, a
stranger who joins."""

import asyncio
import re
import smtplib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import SUSPENDED, Member
from tests.journey.test_forwards import inbox, until
from tests.support.hosts import Sink, Taken
from tests.support.server import Server

CREW = "crew@example.test"
HERE = (Server.user, "two@example.test", "three@example.test")
YOU = "you@far.test"


class FarHost(threading.Thread):
    """The mail host of far.test, in a thread of its own. It refuses whom ``refused`` names."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.loop = asyncio.new_event_loop()
        self.refused: set[str] = set()
        self.sink = Sink(answers={"RCPT": self._rcpt})
        self.ready = threading.Event()

    def _rcpt(self, sink: Sink, line: str) -> str:
        return "550 5.1.1 nobody" if any(one in line for one in self.refused) else "250 ok"

    def run(self) -> None:
        self.loop.run_until_complete(self.sink.start())
        self.ready.set()
        self.loop.run_forever()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()

    def took(self, number: int) -> Taken:
        """The message with that number, once it is there."""
        until(lambda: len(self.sink.taken) > number)
        return self.sink.taken[number]


@pytest.fixture
def far() -> Iterator[FarHost]:
    host = FarHost()
    host.start()
    assert host.ready.wait(20)
    yield host
    host.close()


@pytest.fixture
def server(tmp_path: Path, far: FarHost) -> Iterator[Server]:
    one = Server(tmp_path / "s", f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{far.sink.port}"]\n')
    for address in HERE[1:]:
        one.cli("account", "add", address, "--password-stdin", stdin=one.password + "\n")
    settings = ("mode=public", "rewrite_from=never", "joins=open", "bounce_days=2", f"owners={HERE[2]}")
    one.cli("list", "add", CREW, *settings)
    one.cli("list", "member", "add", CREW, *HERE, YOU)
    one.start()
    yield one
    one.stop()


def send(server: Server, to: str, subject: str, sender: str = "some.one@else.test") -> None:
    text = f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nbody\r\n"
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=40) as client:
        client.sendmail(sender, [to], text)


def member(server: Server, address: str) -> Member | None:
    place = LocalDirectory(str(server.directory / "data"))
    try:
        return place.member(CREW, address)
    finally:
        place.close()


def test_a_list(server: Server, far: FarHost) -> None:
    send(server, CREW, "one")
    taken = far.took(0)
    assert re.search(r"<crew-bounces\+[a-z2-7]{8}=[a-z2-7]{2}=far\.test=you@example\.test>", taken.mail)
    assert b"List-Id: <crew.example.test>\r\n" in taken.content and taken.content.endswith(b"\r\n\r\nbody\r\n")
    for address in HERE:
        until(lambda address=address: len(inbox(server, address)) == 1)
        assert b"Return-Path: <crew-bounces@example.test>\n" in inbox(server, address)[0]

    # mail to it comes back on two days
    far.refused = {YOU}
    send(server, CREW, "two")
    until(lambda: (found := member(server, YOU)) is not None and found.bounces == 1)
    place = LocalDirectory(str(server.directory / "data"))
    place.change_member(CREW, YOU, lambda old: replace(old, bounced=old.bounced - 86400))
    place.close()
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=40) as client:  # its host thinks about it first
        back = re.search(r"<(.*)>", taken.mail)
        assert back is not None
        client.sendmail("", [back[1]], "From: MAILER-DAEMON@far.test\r\nSubject: no\r\n\r\nno such user\r\n")
    until(lambda: (found := member(server, YOU)) is not None and found.state == SUSPENDED)
    until(lambda: any(b"was suspended" in text for text in inbox(server, HERE[2])))
    far.refused = set()
    before = len(far.sink.taken)
    send(server, CREW, "three")
    until(lambda: len(inbox(server)) == 3)

    # it joins again, with a question in between
    send(server, "crew-subscribe@example.test", "please", YOU)
    asked = far.took(before)
    assert "MAIL FROM:<>" in asked.mail, "and nothing of the list came"
    token = re.search(rb"(?m)^Subject: (confirm \S+)", asked.content)
    assert token is not None
    send(server, "crew-request@example.test", "Re: " + token[1].decode(), YOU)
    assert b"You joined" in far.took(before + 1).content
    send(server, CREW, "four")
    assert b"Subject: four" in far.took(before + 2).content
    server.traced(CREW, "expanded")
