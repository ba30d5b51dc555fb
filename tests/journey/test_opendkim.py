"""OpenDKIM and this server take each other's signatures (RFC 6376): it runs as a milter, and is asked by this server's own
client of milters. It reads public keys from a file, so no DNS is needed."""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fastmail.delivery.envelope import Envelope
from fastmail.policy.sign import SigningKey
from fastmail.smtp.milter import Filters, Milter
from tests.journey.test_scanners import running
from tests.support.needs import program
from tests.support.ports import free_ports
from tests.support.signing import MESSAGE, key, published, signed, verify

RSA, SMALL = key(), key("example.org", "small", bits=1024)
ED25519 = key("example.org", "two", "ed25519")
HEAD = (
    b"From: =?utf-8?q?J=C3=B6?= <joe@example.org>\nTo:  a@b.test,\n\tc@d.test\nSubject:\n folded \t twice\n  here\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\nMessage-ID: <1@example.org>\nCc: x@y.test\nCC: z@y.test\n\n"
)
MESSAGES = {
    "plain": MESSAGE,
    "no body": HEAD,
    "empty lines": HEAD + b"\n\n\n",
    "white space": HEAD + b"two  spaces \t \n\n tab\tand trailing \n\n\n",
    "dots": HEAD + b".\n..\n.a\n",
    "eight bits": HEAD + "Gr\u00fc\u00dfe\n".encode() + b"\xff\xfe\n",
    "long": HEAD + b"x" * 990 + b"\n" + b"line\n" * 20_000,
    "with a field twice": b"Received: by a\nReceived: by b\n" + MESSAGE,
}


@contextmanager
def opendkim(base: Path, *lines: str) -> Iterator[str]:
    (port,) = free_ports(1)
    names = "".join(f"{name} {record}\n" for (name, _), (record,) in published(RSA, SMALL, ED25519).items())
    (base / "keys").write_text(names)
    config = [
        "Syslog no",
        f"Socket inet:{port}@127.0.0.1",
        "AuthservID far.test",
        f"TestPublicKeys {base}/keys",
        *lines,
    ]
    (base / "opendkim.conf").write_text("\n".join(config) + "\n")
    path = program("opendkim")
    with running(base, port, str(path), "-f", "-x", str(base / "opendkim.conf")) as address:
        yield address


def shown(address: str, *contents: bytes) -> list[bytes]:
    """Messages (LF) as the milter gives them back."""

    async def main() -> list[bytes]:
        out = []
        for content in contents:
            filters = Filters([Milter(address)], "mx.example.test", "192.0.2.1")
            envelope = Envelope("joe@example.org", helo="mail.example.org", peer="192.0.2.1")
            stages = [
                filters.connect(), filters.hello("mail.example.org", ()), filters.mail("X1", envelope, []),
                filters.rcpt("a@b.test", []), filters.data(),
            ]  # fmt: skip
            assert [await stage for stage in stages] == [None] * 5
            verdict = await filters.message(content)
            assert verdict.refusal is None and not verdict.discard, verdict.refusal
            out.append(verdict.content)
            filters.close()
        return out

    return asyncio.run(main())


def results(content: bytes) -> list[str]:
    """What it says of each signature, in order."""
    head = re.sub(rb"\n[ \t]+", b" ", content.partition(b"\n\n")[0]).decode("utf-8", "replace")
    found = re.search(r"(?im)^Authentication-Results:\s*far\.test;(.*)$", head)
    assert found is not None, head
    return re.findall(r"dkim=(\w+)", found[1])


@pytest.mark.peer("opendkim")
def test_it_takes_our_signatures(tmp_path: Path) -> None:
    with opendkim(tmp_path, "Mode v") as address:
        made = {name: signed(content, RSA) for name, content in MESSAGES.items()}
        said = dict(zip(made, map(results, shown(address, *made.values())), strict=True))
        assert said == {name: ["pass"] for name in MESSAGES}
        changed = [
            signed(MESSAGE, RSA).replace(b"hungry", b"angry"),
            signed(MESSAGE, RSA).replace(b"Subject: Is", b"Subject: Was"),
            b"Subject: another\n" + signed(MESSAGE, RSA),  # which an oversigned field keeps out
        ]
        assert "pass" not in [one for found in map(results, shown(address, *changed)) for one in found]


@pytest.mark.peer("opendkim")
def test_a_signature_that_it_does_not_know_is_no_harm_to_one_that_it_does(tmp_path: Path) -> None:
    """RFC 8463 4: a message has both kinds. Some builds of OpenDKIM verify Ed25519."""
    with opendkim(tmp_path, "Mode v") as address:
        (said,) = map(results, shown(address, signed(MESSAGE, RSA, ED25519)))
    assert "pass" in said and "fail" not in said, said


@pytest.mark.peer("opendkim")
@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("body", ["simple", "relaxed"])
def test_we_take_its_signatures(tmp_path: Path, header: str, body: str) -> None:
    private(tmp_path / "private", RSA)
    lines = ["Mode s", "Domain example.org", "Selector one", f"KeyFile {tmp_path}/private", "InternalHosts 192.0.2.0/24",
             f"Canonicalization {header}/{body}", "OversignHeaders From,Subject", "RequireSafeKeys no"]  # fmt: skip
    with opendkim(tmp_path, *lines) as address:
        made = dict(zip(MESSAGES, shown(address, *MESSAGES.values()), strict=True))
    names = published(RSA)
    for name, content in made.items():
        assert re.search(rb"(?i)c=%b/%b" % (header.encode(), body.encode()), content), name
        for ends in (content, content.replace(b"\n", b"\r\n")):
            (found,) = verify(ends, names)
            assert (found.result, found.domain, found.selector) == ("pass", "example.org", "one"), (name, found)
    for spoilt in (made["plain"].replace(b"hungry", b"angry"), b"Subject: another\n" + made["plain"]):
        assert [one.result for one in verify(spoilt, names)] == ["fail"]
    loose = made["plain"].replace(b"Subject: Is dinner", b"SUBJECT:  Is  dinner")
    assert verify(loose, names)[0].result == ("pass" if header == "relaxed" else "fail")
    loose = made["plain"].replace(b"lost the game.", b"lost the  game. ")
    assert verify(loose + b"\n\n", names)[0].result == ("pass" if body == "relaxed" else "fail")


def private(path: Path, one: SigningKey) -> None:
    path.write_bytes(one.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    os.chmod(path, 0o600)
