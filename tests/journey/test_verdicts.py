"""Lists of an account and the quarantine in a running server: a command changes them, and the next message shows it.

The client introduces itself by XCLIENT, because mail of this machine is not judged."""

import json
import smtplib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.journey.test_trust import delivered, send
from tests.support.server import Server
from tests.support.signing import MESSAGE
from tests.unit.cli.test_verdict import NO_DNS, clamd


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, NO_DNS, workers=1)
    made.config.write_text(made.config.read_text().replace("[listen]", '[listen]\nxclient = ["127.0.0.0/8"]', 1))
    try:
        yield made
    finally:
        made.stop()


def test_lists_of_an_account_count_at_once(server: Server) -> None:
    server.start()
    server.cli("account", "set", server.user, "block=ann@else.test", "blocked=junk")
    assert send(server, MESSAGE.replace(b"joe@example.org", b"ann@else.test")).startswith("250")
    assert len(delivered(server)) == 0 and len(delivered(server, ".Junk")) == 1
    server.traced("user@example.test", "junk 0 (blocked: ann@else.test, by the account)")
    server.cli("account", "set", server.user, "block=", "blocked=default")
    assert send(server, MESSAGE.replace(b"joe@example.org", b"ann@else.test")).startswith("250")
    assert len(delivered(server)) == 1
    server.cli("domain", "set", "example.test", "block=192.0.2.0/24")
    with pytest.raises(AssertionError, match=r"550 5\.7\.1 .*postmaster@example\.test"):
        send(server, MESSAGE)
    assert send(server, MESSAGE, "198.51.100.9").startswith("250")


def test_an_infected_message_waits_until_somebody_releases_it(server: Server) -> None:
    with clamd(b"stream: Eicar FOUND\0") as (address, _):
        scanner = f'\n[[scanner]]\nkind = "clamav"\naddress = "{address}"\nvirus = "quarantine"\n'
        server.config.write_text(server.config.read_text() + scanner)
        server.start()
        reply = send(server, MESSAGE)
    assert reply.startswith("250 2.0.0 ") and reply.endswith(" taken\r\n") and delivered(server) == []
    ident = reply.split()[2]
    (row,) = json.loads(server.cli("quarantine", "list", "--json").stdout)
    assert row["id"] == ident and row["recipients"] == [server.user] and "virus" in row["why"]
    server.traced("user@example.test", "quarantined")
    server.kill()  # a message that was taken is still there
    server.start()
    assert f"{ident} {server.user}: 250" in server.cli("quarantine", "release", ident).stdout
    (message,) = delivered(server)
    assert message["Subject"] == "Is dinner ready?" and message["X-Virus-Status"] == "Infected"
    server.traced("user@example.test", "released")
    assert json.loads(server.cli("quarantine", "list", "--json").stdout) == []


@pytest.mark.parametrize("judged", [False, True])
def test_mail_by_lmtp_is_judged_by_setting_with_a_reply_for_each(server: Server, judged: bool) -> None:
    other = "other@example.test"
    server.cli("account", "add", other, "--password-stdin", stdin=server.password + "\n")
    server.cli("account", "set", other, "block=joe@example.org")
    nobody: tuple[str, list[bytes]] = "127.0.0.1:1", []
    with clamd(b"stream: OK\0") if judged else nullcontext(nobody) as (address, heard):
        scanner = f'\n[[scanner]]\nkind = "clamav"\naddress = "{address}"\n'
        text = server.config.read_text().replace("[policy]", "[policy]\njudge_lmtp = true" if judged else "[policy]", 1)
        assert "[policy]" in text
        server.config.write_text(text + scanner)
        server.start()
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
            assert lmtp.docmd("LHLO me.test")[0] == 250
            assert lmtp.mail("joe@example.org")[0] == 250
            assert [lmtp.rcpt(one)[0] for one in (other, server.user)] == [250, 250]
            assert lmtp.docmd("DATA")[0] == 354
            lmtp.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n")
            replies = [lmtp.getreply() for _ in range(2)]
    assert [code for code, _ in replies] == [550 if judged else 250, 250] and bool(heard) == judged
    (message,) = delivered(server)
    assert message["X-Virus-Status"] == ("Clean" if judged else None)
    if judged:
        assert replies[0][1].startswith(b"5.7.1 <other@example.test> mail from this sender")
        server.traced(other, "refused")
