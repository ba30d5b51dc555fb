"""A login that was stolen, at a server that runs: its open session cannot send any more, what it has in the queue is
held, its postmaster is told, and an administrator lets it send again."""

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.bench.load import unverified
from tests.journey.test_forwards import inbox, until
from tests.journey.test_lists import FarHost
from tests.support.hosts import dead_port
from tests.support.server import Server

THIEF = "two@example.test"
TEXT = f"From: <{THIEF}>\r\nSubject: win\r\n\r\nmuch\r\n"


@pytest.fixture
def far() -> Iterator[FarHost]:
    host = FarHost()
    host.refused = {"nobody"}
    host.start()
    assert host.ready.wait(20)
    yield host
    host.close()


@pytest.fixture
def server(tmp_path: Path, far: FarHost) -> Iterator[Server]:
    routes = f'["far.test smtp:127.0.0.1:{far.sink.port}", "down.test smtp:127.0.0.1:{dead_port()}"]'
    settings = 'suspend_after = 5\n\n[policy]\nfeedback_id = "example1"\nreceived_spf = true\n'
    one = Server(tmp_path / "s", f"\n[relay]\nroutes = {routes}\n{settings}")
    one.cli("account", "add", THIEF, "--password-stdin", stdin=one.password + "\n")
    one.start()
    yield one
    one.stop()


def test_a_stolen_login(server: Server, far: FarHost) -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=40) as client:
        client.starttls(context=unverified())
        client.login(THIEF, server.password)
        client.sendmail(THIEF, ["good@far.test"], TEXT)
        assert b"\r\nFeedback-ID: 2:example.test:user:example1\r\n" in far.took(0).content
        client.sendmail(THIEF, ["later@down.test"], TEXT)
        for number in range(5):
            client.sendmail(THIEF, [f"nobody{number}@far.test"], TEXT)
        (told,) = until(lambda: [text for text in inbox(server) if b"Sending was stopped for two@example.test" in text])
        assert b"\n    5 of " in told and b"fastmail queue drop --login two@example.test\n" in told
        with pytest.raises(smtplib.SMTPResponseException, match="switched off"):
            client.sendmail(THIEF, ["good@far.test"], TEXT)
    assert "event=relay.stopped" in server.log.read_text()
    shown = json.loads(server.cli("account", "show", THIEF, "--json").stdout)
    assert shown["state"] == "stopped" and "unknown to their hosts" in shown["stopped"]
    assert "automatic" in server.cli("audit", THIEF).stdout
    (waits,) = json.loads(server.cli("queue", "list", "--login", THIEF, "--json").stdout)
    assert waits["held"] and waits["recipients"] == ["later@down.test"]

    server.cli("queue", "drop", "--login", THIEF)
    server.cli("account", "enable", THIEF)
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=40) as client:
        client.starttls(context=unverified())
        client.login(THIEF, server.password)
        client.sendmail(THIEF, ["good@far.test"], TEXT)
    far.took(1)


def test_a_host_that_was_broken_into(server: Server, far: FarHost) -> None:
    """It sends from a network that needs no login; the client shows its address by XCLIENT."""
    server.stop()
    text = server.config.read_text().replace("[listen]", '[listen]\nxclient = ["127.0.0.0/8"]', 1)
    text = text.replace("\n[relay]\nroutes", '\n[relay]\nnetworks = ["192.0.2.0/24", "127.0.0.0/8"]\nroutes', 1)
    server.config.write_text(text)
    server.start()

    def send(to: str) -> str:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=40) as client:
            client.ehlo()
            assert client.docmd("XCLIENT", "ADDR=192.0.2.5 NAME=app.example.test")[0] == 220
            client.ehlo("app.example.test")
            for command in ("MAIL FROM:<app@example.test>", f"RCPT TO:<{to}>"):
                code, said = client.docmd(command)
                if code != 250:
                    return f"{code} {said.decode()}"
            return str(client.data(TEXT)[0])

    assert send("later@down.test") == "250"
    for number in range(5):
        assert send(f"nobody{number}@far.test") == "250"
    (told,) = until(lambda: [one for one in inbox(server) if b"stopped for the network 192.0.2.0/24" in one])
    assert b"fastmail queue networks --resume 192.0.2.0/24\n" in told
    assert send("good@far.test").startswith("450 4.7.1 mail from this network was stopped")
    near, here = json.loads(server.cli("queue", "networks", "--json").stdout)
    assert "unknown to their hosts" in near["why"] and here["stopped"] == "-"
    (waits,) = json.loads(server.cli("queue", "list", "--peer", "192.0.2.0/24", "--json").stdout)
    assert waits["held"] and waits["recipients"] == ["later@down.test"]

    server.stop()
    server.start()
    assert send("good@far.test").startswith("450"), "a restart changes nothing"
    server.cli("queue", "drop", "--peer", "192.0.2.5")
    server.cli("queue", "networks", "--resume", "192.0.2.0/24")
    assert send("good@far.test") == "250"
    far.took(0)
