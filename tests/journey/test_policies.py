"""Each policy about mail from others, set in the configuration of a real server, as its client sees it: greylisting, DNS
lists, quarantine by score, trusted sealers and seals of our own, Received-SPF, DMARC's wishes, subjects, forwards.

NSD serves the zones. The client introduces itself by XCLIENT, because mail of this machine is not checked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmail.dns.memory import MemoryResolver
from tests.journey.test_dkim import FarHost, until
from tests.journey.test_trust import Nsd, delivered, send, text
from tests.support.server import Server
from tests.support.signing import MESSAGE, key, published, signed
from tests.unit.policy.test_arc import passed_on
from tests.unit.policy.test_arc import verify as chain_of

FORWARDER = key("forward.test")
ELSE = MESSAGE.replace(b"joe@example.org", b"ann@quiet.test")
FAR, LISTED = "198.51.100.9", "198.51.100.66"
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server with these lines in [policy], and these behind everything."""
    (tmp_path / "dns").mkdir()
    zones = {
        "example.org": f'@ IN TXT "v=spf1 ip4:192.0.2.1 -all"\n_dmarc IN TXT "v=DMARC1; p=reject"\n'
        f"one._domainkey IN TXT {text(key().record())}\nmail IN A 192.0.2.1\n",
        "quiet.test": '@ IN TXT "v=spf1 ip4:192.0.2.1 ~all"\n_dmarc IN TXT "v=DMARC1; p=quarantine"\n',
        "forward.test": f'@ IN TXT "v=spf1 ip4:{FAR} -all"\none._domainkey IN TXT {text(FORWARDER.record())}\n',
        "bl.test": "2.0.0.127 IN A 127.0.0.2\n66.100.51.198 IN A 127.0.0.4\n",
        "dbl.test": "test IN A 127.0.1.2\nquiet.test IN A 127.0.1.2\n",
        "broken.test": "* IN A 127.0.0.2\n",  # it lists everything
        "2.0.192.in-addr.arpa": "1 IN PTR mail.example.org.",
        "100.51.198.in-addr.arpa": "",
        "test": "",
        "org": "",
    }
    dns = Nsd(tmp_path / "dns", zones)
    made: list[Server] = []

    def start(policy: str, more: str = "", relay: str = "") -> Server:
        extra = (
            f'\n[relay]\ndns_servers = ["127.0.0.1:{dns.port}"]\ndnssec = false\n{relay}\n[policy]\nlookup_time = 5\n{policy}\n'
            f"[limits]\nauth_failure_delay = 0.05\n{more}"
        )
        one = Server(tmp_path / "server", extra, workers=1)
        one.config.write_text(one.config.read_text().replace("[listen]", '[listen]\nxclient = ["127.0.0.0/8"]', 1))
        made.append(one)
        one.start()
        return one

    try:
        yield start
    finally:
        for one in made:
            one.stop()
        dns.stop()


def test_dmarc_that_asks_for_quarantine(start: Start) -> None:
    server = start("enforce = true")
    assert send(server, ELSE, FAR, sender="ann@quiet.test").startswith("250")
    assert delivered(server) == []
    (message,) = delivered(server, ".Junk")
    assert "dmarc=fail" in message["Authentication-Results"] and message["X-Spam-Flag"] == "YES"
    assert message["X-Spam-Level"] == "***" and message["X-Spam-Score"] == "3.5", "SPF 1, DMARC 1.5, reverse DNS 1"
    server.traced("user@example.test", "dmarc=fail: junk")


def test_greylisting(start: Start) -> None:
    """Who comes back after the delay is taken, and then at once."""
    server = start('enforce = true\ngreylist_score = 0.5\ngreylist_delay = "2s"')
    open_ = MESSAGE.replace(b"joe@example.org", b"ann@nowhere.org")
    who = {"ip": FAR, "helo": "far.test", "sender": "ann@nowhere.org"}
    first = send(server, open_, **who)
    assert first.startswith("450 4.7.1 not known here yet: try again in "), first
    assert send(server, signed()).startswith("250"), "a pass of DMARC has no such score"
    assert until(lambda: send(server, open_, **who).startswith("250"))
    assert send(server, open_, **(who | {"sender": "other@nowhere.org"})).startswith("250"), "it is known now"
    assert len(delivered(server)) == 3


def test_dns_lists(start: Start) -> None:
    """Of addresses and of domains; one that lists everything counts for nothing."""
    server = start(
        'enforce = true\nlists = ["bl.test=127.0.0.[2..9]*6", "broken.test*9"]\ndomain_lists = ["dbl.test=127.0.1.[2..99]*20"]'
    )
    assert send(server, signed()).startswith("250") and len(delivered(server)) == 1
    assert send(server, signed(), LISTED).startswith("250")
    (message,) = delivered(server, ".Junk")
    assert "list.bl.test" in message["X-Spam-Status"] and "broken" not in message["X-Spam-Status"]
    assert send(server, ELSE, sender="ann@quiet.test").startswith("550 5.7.1 this message looks unwanted")
    server.traced("user@example.test", "refused: 550 5.7.1")
    assert "event=policy.list" in server.log.read_text() and "zone=broken.test" in server.log.read_text()


def test_quarantine_by_score(start: Start) -> None:
    server = start("enforce = true\nquarantine_score = 3.5")
    reply = send(server, ELSE, FAR, sender="ann@quiet.test")
    assert reply.startswith("250") and delivered(server) == delivered(server, ".Junk") == []
    (row,) = json.loads(server.cli("quarantine", "list", "--json").stdout)
    assert row["id"] == reply.split()[2] and row["recipients"] == ["user@example.test"]
    server.cli("quarantine", "release", row["id"])
    assert len(delivered(server)) == 1


def sealed(results: str) -> bytes:
    """Mail of example.org that a forwarder changed, with the results that it saw."""
    changed = signed().replace(b"Subject: Is", b"Subject: [list] Is")
    return passed_on(changed, FORWARDER, f";\n\t{results}")


def test_a_trusted_sealer(start: Start) -> None:
    """RFC 8617 7.2: what it saw counts, and not only that it sealed."""
    server = start('enforce = true\ntrusted_sealers = ["forward.test"]')
    good, bad = "dmarc=pass header.from=example.org", "dmarc=fail header.from=example.org"
    via = {"ip": FAR, "helo": "far.test", "sender": "list@forward.test"}
    assert send(server, sealed(good), **via).startswith("250")
    (message,) = delivered(server)
    said = " ".join(message["Authentication-Results"].split())
    assert "dmarc=fail" in said and "arc=pass header.d=forward.test" in said
    assert send(server, sealed(bad), **via).startswith("250") and len(delivered(server)) == 1
    (junk,) = delivered(server, ".Junk")
    assert "dmarc.reject" in junk["X-Spam-Status"]
    forged = sealed(bad).replace(b"dmarc=fail", b"dmarc=pass")
    assert send(server, forged, **via).startswith("250") and len(delivered(server, ".Junk")) == 2
    file = server.directory / "message"
    file.write_bytes(sealed(good))
    args = ("verdict", str(file), "--from", "list@forward.test", "--ip", FAR, "--helo", "far.test", "--explain")
    assert "forward.test says dmarc=pass" in server.cli(*args).stdout


def test_what_is_forwarded_is_sealed(start: Start) -> None:
    with FarHost() as far:
        server = start('arc_seal = "example.test"', relay=f'routes = ["far.test smtp:127.0.0.1:{far.port}"]')
        (row,) = json.loads(server.cli("dkim", "add", "example.test", "--selector", "a", "--now", "--json").stdout)
        server.cli("alias", "add", "out@example.test", "you@far.test")
        assert send(server, signed(), to="out@example.test").startswith("250")
        (taken,) = until(lambda: far.taken)
        far.shutdown()
    names = {("a._domainkey.example.test", "TXT"): [row["record"].encode()], **published(key())}
    _, _, chain = chain_of(taken.replace(b"\r\n", b"\n"), MemoryResolver(names))
    assert (chain.result, chain.sealers) == ("pass", ("example.test",)), chain
    assert "dmarc=pass header.from=example.org" in " ".join(chain.results[0].split())


def test_received_spf(start: Start) -> None:
    server = start("received_spf = true")
    forged = b"Received-SPF: pass (fine)\n\treceiver=mx.example.test; identity=mailfrom\n"
    assert send(server, forged + MESSAGE, FAR, "far.test").startswith("250")
    (message,) = delivered(server)
    (field,) = message.get_all("Received-SPF")
    assert field.startswith("fail (mx.example.test: 198.51.100.9 may not send for example.org)"), field


def test_the_subject_of_junk(start: Start) -> None:
    server = start('enforce = true\nsubject_tag = "[SPAM]"')
    encoded = ELSE.replace(b"Is dinner ready?", b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=")
    assert send(server, encoded, FAR, sender="ann@quiet.test").startswith("250")
    assert send(server, signed()).startswith("250")
    assert [one["Subject"] for one in delivered(server, ".Junk")] == ["[SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?="]
    assert [one["Subject"] for one in delivered(server)] == ["Is dinner ready?"]


@pytest.mark.parametrize("forwards", [False, True])
def test_junk_and_forwards(start: Start, forwards: bool) -> None:
    with FarHost() as far:
        relay = f'routes = ["far.test smtp:127.0.0.1:{far.port}"]'
        server = start(f"enforce = true\nforward_junk = {str(forwards).lower()}", relay=relay)
        server.cli("alias", "add", "out@example.test", "you@far.test")
        server.cli("account", "set", server.user, "forward=me@far.test", "keeps=yes")
        junk = {"content": ELSE, "ip": FAR, "sender": "ann@quiet.test"}
        reply = send(server, to="out@example.test", **junk)  # type: ignore[arg-type]
        assert reply.startswith("250" if forwards else "550 5.7.1 this message looks unwanted, and is not forwarded")
        assert send(server, **junk).startswith("250")  # type: ignore[arg-type]
        until(lambda: delivered(server, ".Junk"))
        assert send(server, signed()).startswith("250")
        until(lambda: json.loads(server.cli("queue", "list", "--json").stdout) == [])
        assert len(far.taken) == (3 if forwards else 1)
        far.shutdown()
