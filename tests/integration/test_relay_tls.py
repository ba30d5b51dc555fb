"""How much TLS other hosts must have: DANE (RFC 7672) and MTA-STS (RFC 8461), with a real handshake and a local DNS."""

import asyncio
import gzip
import hashlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fastmail.app.quickstart import write_certificate
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.submission import Submission
from fastmail.dns.resolver import Resolver
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.net.listener import Listener, Registry, bind
from fastmail.net.tls import ServerTls
from fastmail.relay import dane, runner, sts
from fastmail.relay.dane import Tlsa
from fastmail.relay.runner import Limits
from fastmail.relay.scheduling import Most
from fastmail.relay.sts import BadPolicy, Policies
from fastmail.relay.targets import Finder
from fastmail.relay.tlsreport import Reporter
from fastmail.smtp.client import Timeouts
from tests.integration.test_relay import World, report, world
from tests.support.sessions import Bench


class Far:
    """A host with STARTTLS and a certificate of its own making; with ``outbound`` it offers what relays offer."""

    def __init__(self, path: Path, outbound: Submission | None = None) -> None:
        path.mkdir()
        self.bench = Bench(str(path), outbound={"outbound": outbound})
        write_certificate(str(path), "mail.far.test")
        self.certificate = x509.load_pem_x509_certificate((path / "cert.pem").read_bytes())
        self.tls = ServerTls(str(path / "cert.pem"), str(path / "key.pem"), "1.2")
        self.port = 0

    async def start(self) -> None:
        self.bench.directory.is_local = lambda domain: domain in ("far.test", "example.test")  # type: ignore[method-assign]
        self.bench.directory.aliases["@far.test"] = ["user@example.test"]
        self.listener = Listener(Registry(), self.bench.makers["smtp"], self.bench.limits, b"", self.tls)
        sock = bind("127.0.0.1:0")
        self.port = sock.getsockname()[1]
        await self.listener.start(sock)

    def mail(self) -> int:
        return sum(len(box.messages) for box in self.bench.store.boxes.values())  # type: ignore[attr-defined]

    def digest(self) -> str:
        key = self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(key).hexdigest()


def run(
    path: Path,
    scenario: Callable[[World, Far], Awaitable[None]],
    get: Callable[[str], str] | None = None,
    relays: bool = False,
) -> None:
    async def main() -> None:
        async with world(path) as w:
            far = Far(path / "far", w.outward.submission if relays else None)
            await far.start()
            w.dns.secure = True
            resolver = Resolver([f"127.0.0.1:{w.dns.port}"], trusted=True)
            policies = Policies(w.spool, resolver, get) if get is not None else None
            finder = Finder(w.outward.routes, resolver, "mx.example.test", "may", far.port, True, policies)
            bounds = Limits(Most(5, 50), Timeouts(2.0, 2.0, 2.0))
            w.runner = w.outward.runner(finder, w.bench.deliverer, bounds)
            w.runner.start()
            w.schedule.steps[:] = [600.0]
            try:
                await scenario(w, far)
            finally:
                far.listener.close()

    asyncio.run(main())


def tlsa(w: World, far: Far, *records: str) -> None:
    w.dns.records[(f"_{far.port}._tcp.mail.far.test", "TLSA")] = list(records)


async def deferred(w: World, words: str) -> None:
    await w.until(lambda: [job for _, job in w.spool.jobs() if words in job.last])


def test_the_right_key_gets_mail(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        tlsa(w, far, f"3 1 1 {'0' * 64}", f"3 1 1 {far.digest()}")
        await w.send("you@far.test")
        await w.drained()
        assert far.mail() == 1

    run(tmp_path, scenario)


def test_s7_the_wrong_key_gets_nothing(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        tlsa(w, far, f"3 1 1 {'0' * 64}")
        await w.send("you@far.test")
        await deferred(w, "fits no TLSA record")
        assert far.mail() == 0

    run(tmp_path, scenario)


def test_s7_records_that_can_not_be_had_stop_the_host(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        w.dns.broken.add(f"_{far.port}._tcp.mail.far.test")
        await w.send("you@far.test")
        await deferred(w, "looking for the TLSA records")
        assert far.mail() == 0

    run(tmp_path, scenario)


def test_records_of_an_insecure_zone_do_not_count(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        w.dns.secure = False
        tlsa(w, far, f"3 1 1 {'0' * 64}")
        await w.send("you@far.test")
        await w.drained()
        assert far.mail() == 1

    run(tmp_path, scenario)


POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n"


@pytest.mark.parametrize(
    ("mode", "mx", "words"),
    [
        ("enforce", "mail.far.test", "certificate verify failed"),
        ("enforce", "other.far.test", "does not name mail.far.test"),
        ("testing", "other.far.test", ""),
        ("none", "mail.far.test", ""),
    ],
)
def test_s7_a_policy_is_kept(tmp_path: Path, mode: str, mx: str, words: str) -> None:
    fetched = []

    def get(domain: str) -> str:
        fetched.append(domain)
        return POLICY.format(mode=mode, mx=mx)

    async def scenario(w: World, far: Far) -> None:
        w.dns.records[("_mta-sts.far.test", "TXT")] = ['"v=STSv1; id=20261123;"']
        await w.send("you@far.test")
        if words:
            await deferred(w, words)
            assert far.mail() == 0
        else:
            await w.drained()
            assert far.mail() == 1
        assert fetched == ["far.test"] and w.spool.facts.policy("far.test")

    run(tmp_path, scenario, get)


def test_a_policy_in_testing_is_reported_and_the_mail_goes(tmp_path: Path) -> None:
    """RFC 8461 5: a certificate that does not do is counted (RFC 8460 4.3.1), and TLS is used without a look at it."""

    async def scenario(w: World, far: Far) -> None:
        w.dns.records[("_mta-sts.far.test", "TXT")] = ['"v=STSv1; id=1;"']
        await w.send("you@far.test")
        await w.drained()
        assert far.mail() == 1 and w.runner is not None
        ((key, times),) = w.runner._reporter.counts.items()
        assert key[1:5] == ("far.test", "sts", "certificate-not-trusted", "mail.far.test") and times == 1
        (lines,) = w.runner._reporter.policies.values()
        assert "mode: testing" in lines

    run(tmp_path, scenario, lambda domain: POLICY.format(mode="testing", mx="mail.far.test"))


def test_a_policy_that_hosts_fail_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8461 5.1: its id is the same in the DNS, and the web server has another one by now."""
    monkeypatch.setattr(sts, "AGAIN", 0.0)
    modes = iter(["enforce", "testing"])

    async def scenario(w: World, far: Far) -> None:
        w.dns.records[("_mta-sts.far.test", "TXT")] = ['"v=STSv1; id=1;"']
        await w.send("you@far.test")
        await w.drained()
        assert far.mail() == 1 and next(modes, "") == ""

    run(tmp_path, scenario, lambda domain: POLICY.format(mode=next(modes), mx="mail.far.test"))


def test_s7_a_kept_policy_outlives_its_sources(tmp_path: Path) -> None:
    """An attacker who blocks the TXT record and the web server does not get mail in the clear."""
    texts = iter([POLICY.format(mode="enforce", mx="other.far.test")])

    async def scenario(w: World, far: Far) -> None:
        w.dns.records[("_mta-sts.far.test", "TXT")] = ['"v=STSv1; id=1;"']
        await w.send("one@far.test")
        await deferred(w, "does not name mail.far.test")
        del w.dns.records[("_mta-sts.far.test", "TXT")]
        w.dns.broken.add("_mta-sts.far.test")
        assert w.runner is not None
        for destination in w.runner._scheduler.destinations.values():
            destination.down_until = 0.0
        await w.send("two@far.test")
        await w.until(lambda: len([job for _, job in w.spool.jobs() if "does not name" in job.last]) == 2)
        assert far.mail() == 0

    run(tmp_path, scenario, lambda domain: next(texts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "version: STSv2\nmode: enforce\nmx: a\nmax_age: 1\n",
        "version: STSv1\nmode: maybe\nmx: a\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmax_age: 1\n",
        "version: STSv1\nmode: enforce\nmx: a\nmax_age: soon\n",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(BadPolicy):
        sts.parse(text, "1", 0.0)


def test_a_policy() -> None:
    policy = sts.parse(
        "version: STSv1\r\nmode: enforce\r\nmx: mail.a.test\r\nmx: *.b.test\r\nmax_age: 60\r\n", "9", 100.0
    )
    assert (policy.mode, policy.until, policy.id) == ("enforce", 160, "9")
    assert policy.allows("MAIL.a.test") and policy.allows("x.b.test")
    assert not policy.allows("b.test") and not policy.allows("x.y.b.test")


def certificate(name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None, days: int = 1):  # type: ignore[no-untyped-def]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return built, key


def test_trust_anchors() -> None:
    def der(one: x509.Certificate) -> bytes:
        return one.public_bytes(serialization.Encoding.DER)

    root, root_key = certificate("root.test", None)
    leaf, _ = certificate("mail.far.test", (root, root_key))
    other, _ = certificate("other.test", None)
    late, _ = certificate("mail.far.test", (root, root_key), -1)
    anchor = Tlsa(2, 0, 1, hashlib.sha256(der(root)).digest())
    names = ["mail.far.test", "far.test"]
    assert dane.verify([der(leaf), der(root)], [anchor], names) == ""
    assert "no TLSA record" in dane.verify([der(leaf)], [anchor], names)
    assert "broken" in dane.verify([der(leaf), der(other), der(root)], [anchor], names)
    assert "another name" in dane.verify([der(leaf), der(root)], [anchor], ["elsewhere.test"])
    assert "out of date" in dane.verify([der(late), der(root)], [anchor], names)
    assert dane.verify([der(late)], [Tlsa(3, 0, 2, hashlib.sha512(der(late)).digest())], ["x.test"]) == ""
    assert dane.verify([der(leaf)], [Tlsa(3, 0, 0, der(leaf))], []) == ""
    assert "no certificate" in dane.verify([], [anchor], names)
    assert dane.usable([Tlsa(0, 0, 1, b""), Tlsa(1, 1, 1, b""), Tlsa(3, 2, 1, b""), anchor]) == [anchor]


def test_a_day_of_sessions_is_reported(tmp_path: Path) -> None:
    """RFC 8460: successes and failures are counted, and told once the day is over to who asked for it."""

    async def scenario(w: World, far: Far) -> None:
        tlsa(w, far, f"3 1 1 {far.digest()}")
        await w.send("one@far.test")
        await w.drained()
        tlsa(w, far, f"3 1 1 {'0' * 64}")
        w.dns.records[("other.test", "MX")] = ["10 mail.far.test."]
        assert w.runner is not None
        await w.runner._finder.resolver.texts("x.test")
        w.runner._finder.resolver.forget()
        await asyncio.sleep(3.2)  # until the connection is not reused
        await w.send("two@far.test")
        await deferred(w, "fits no TLSA record")
        reporter = w.runner._reporter
        await reporter.write()
        assert await reporter.send() == 0  # the day is not over
        w.dns.records[("_smtp._tls.far.test", "TXT")] = ['"v=TLSRPTv1; rua=https://x.test/,mailto:user@example.test"']
        assert await reporter.send(time.time() + 86400) == 1
        await w.until(lambda: w.spool.depth() == (1, 1))
        assert w.spool.facts.counts() == {}
        (message,) = await w.inbox()
        assert message["TLS-Report-Domain"] == "far.test" and message.get_content_type() == "multipart/report"
        packed = message.get_payload()[1]  # type: ignore[index]
        assert packed.get_content_type() == "application/tlsrpt+gzip"  # type: ignore[union-attr]
        told = json.loads(gzip.decompress(packed.get_payload(decode=True)))  # type: ignore[union-attr, arg-type]
        (policy,) = told["policies"]
        assert policy["policy"] == {
            "policy-type": "tlsa",
            "policy-string": [f"3 1 1 {'0' * 64}"],
            "policy-domain": "far.test",
        }
        assert policy["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 1}
        (failure,) = policy["failure-details"]
        assert (failure["result-type"], failure["receiving-mx-hostname"]) == ("tlsa-invalid", "mail.far.test")

    run(tmp_path, scenario)


class Web(threading.Thread):
    """A web server with a certificate of its own making, which keeps what it is sent."""

    def __init__(self, path: Path, status: int) -> None:
        super().__init__(daemon=True)
        path.mkdir()
        write_certificate(str(path), "web.far.test")
        self.posts: list[tuple[str, str, bytes]] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.posts.append((self.path, self.headers["Content-Type"], body))
                self.send_response(web.status)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.status = status
        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path / "cert.pem", path / "key.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]

    def run(self) -> None:
        self.server.serve_forever()


def test_s43_a_report_by_https(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        web = Web(tmp_path / "web", 503)
        web.start()
        tlsa(w, far, f"3 1 1 {far.digest()}")
        await w.send("one@far.test")
        await w.drained()
        assert w.runner is not None
        reporter = w.runner._reporter
        await reporter.write()
        w.dns.records[("web.far.test", "A")] = ["127.0.0.1"]
        w.dns.records[("_smtp._tls.far.test", "TXT")] = [f'"v=TLSRPTv1; rua=https://web.far.test:{web.port}/in?x=1"']
        tomorrow = (time.time() // 86400 + 1) * 86400 + 600  # ten minutes past midnight UTC, whatever time it is now
        assert await reporter.send(tomorrow) == 0 and web.posts == []  # never to a place inside our network
        reporter.inside = True
        assert await reporter.send(tomorrow + 60) == 0 and web.posts == []  # not before an hour
        assert await reporter.send(tomorrow + 3601) == 0 and len(web.posts) == 1
        assert w.spool.facts.counts() != {}
        web.status = 201
        assert await reporter.send(tomorrow + 7300) == 1
        path, kind, body = web.posts[1]
        assert (path, kind) == ("/in?x=1", "application/tlsrpt+gzip")
        assert json.loads(gzip.decompress(body))["policies"][0]["summary"]["total-successful-session-count"] == 1
        assert w.spool.facts.counts() == {} and await w.inbox() == []
        web.server.shutdown()

    run(tmp_path, scenario)


# ---------------------------------------------------------------- REQUIRETLS (RFC 8689)


async def submit(w: World, mail: str, header: str = "") -> None:
    """As a session with TLS hands it over."""
    envelope = Envelope(
        "user@example.test", [("you@far.test", [])], [Rcpt("you@far.test")], EsmtpOptions(require_tls=bool(mail))
    )
    text = f"From: user@example.test\n{header}Subject: hi\n\nbody\n".encode()
    assert (await w.outward.submission.submit(envelope, text, True)).ok


def test_mail_that_requires_tls_goes_to_a_proven_host(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        tlsa(w, far, f"3 1 1 {far.digest()}")
        await submit(w, "REQUIRETLS")
        await w.drained()
        assert far.mail() == 1 and await w.inbox() == []

    run(tmp_path, scenario, relays=True)


@pytest.mark.parametrize(
    ("relays", "records", "secure", "status", "words"),
    [
        (False, True, True, "5.7.30", "does not offer REQUIRETLS"),
        (True, False, True, "5.7.10", "certificate"),
        (True, False, False, "5.7.10", "neither DNSSEC nor MTA-STS"),
    ],
)
def test_mail_that_requires_tls_comes_back(
    tmp_path: Path, relays: bool, records: bool, secure: bool, status: str, words: str
) -> None:
    async def scenario(w: World, far: Far) -> None:
        w.dns.secure = secure
        if records:
            tlsa(w, far, f"3 1 1 {far.digest()}")
        await submit(w, "REQUIRETLS")
        await w.drained()
        (message,) = await w.inbox()
        assert report(message)["Status"] == status and words in message.as_string()
        assert far.mail() == 0
        assert b"body" not in message.get_payload()[2].as_bytes()  # type: ignore[index, union-attr]

    run(tmp_path, scenario, relays=relays)


def test_mail_that_does_without_tls_takes_no_notice_of_policies(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        tlsa(w, far, f"3 1 1 {'0' * 64}")
        await submit(w, "", "TLS-Required: No\n")
        await w.drained()
        assert far.mail() == 1
        await submit(w, "REQUIRETLS", "TLS-Required: No\n")  # the parameter counts
        await w.drained()
        assert far.mail() == 1

    run(tmp_path, scenario)


def test_a_header_field_does_not_undo_the_configuration(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        w.outward.routes.policies["far.test"] = "verify"
        await submit(w, "", "TLS-Required: No\n")
        await deferred(w, "certificate")
        assert far.mail() == 0

    run(tmp_path, scenario)


def test_s43_web_servers_that_never_answer_do_not_hold_up_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the queue's files is removed meanwhile; one try is under way at a time; an end ends it."""
    begun: list[str] = []
    swept: list[float] = []

    async def never(reporter: Reporter, now: float | None = None) -> int:
        begun.append("reports")
        await asyncio.sleep(600)
        return 0

    monkeypatch.setattr(Reporter, "send", never)
    monkeypatch.setattr(runner, "SWEEP", 0.0)

    async def scenario(w: World, far: Far) -> None:
        monkeypatch.setattr(w.spool, "sweep", lambda: swept.append(time.monotonic()) or 0)
        await w.until(lambda: len(swept) >= 3)
        assert begun == ["reports"]
        assert w.runner is not None
        closing = time.monotonic()
        await w.runner.close(1.0)
        assert time.monotonic() - closing < 5.0
        w.runner = None

    run(tmp_path, scenario)
