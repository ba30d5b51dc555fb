"""Our ARC set on what is forwarded: what it says, and on what it is put."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from fastmail.directory.memory import MemoryDirectory
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import authentication, results
from fastmail.policy.results import Result
from fastmail.policy.sealing import Sealer
from fastmail.policy.sign import SigningKey
from fastmail.policy.signer import Signer
from tests.support.signing import MESSAGE, keyed, published
from tests.unit.policy.test_arc import A, B, passed_on, verify

HOST = "mx.example.test"
PASSED = [Result("spf", "pass", (("smtp.mailfrom", 'a"; arc=pass'),)), Result("dmarc", "pass")]


def field(host: str, found: Iterable[Result]) -> bytes:
    """Authentication-Results with these."""
    return authentication.joined(*authentication.cut(host, "".join(map(results.line, found)), (), ""), ())


def sealed(path: Path, content: bytes, *found: Result, host: str = HOST) -> tuple[bytes, SigningKey]:
    """What is put in front of a message that came with these results."""
    place = MemoryDirectory()
    place.add_domain("example.test")
    made = keyed(place, path, selector="a")
    content = b"Received: by us\n" + field(host, found) + content
    return asyncio.run(Sealer(Signer(place, str(path)), HOST, "example.test").seal(content)) + content, made


def test_the_first_set(tmp_path: Path) -> None:
    content, made = sealed(tmp_path, MESSAGE, *PASSED)
    chain = verify(content, MemoryResolver(published(made)))[2]
    assert (chain.result, chain.sets, chain.sealers) == ("pass", 1, ("example.test",))
    assert chain.results[0].startswith(f"{HOST};\n\tspf=pass") and "dmarc=pass" in chain.results[0]
    assert b"cv=none;" in content


def test_a_further_set_says_what_was_seen_of_the_chain(tmp_path: Path) -> None:
    before = passed_on(passed_on(MESSAGE, A), B)
    content, made = sealed(tmp_path / "1", before, *PASSED, Result("arc", "pass", (("header.d", "b.test"),)))
    chain = verify(content, MemoryResolver(published(A, B, made)))[2]
    assert (chain.result, chain.sets) == ("pass", 3) and b"cv=pass;" in content
    content, made = sealed(tmp_path / "2", before, *PASSED, Result("arc", "fail", reason="tampered"))
    assert content.startswith(b"ARC-Seal: i=3; a=rsa-sha256; cv=fail;")
    assert verify(content, MemoryResolver(published(A, B, made)))[2].result == "fail"


def test_what_is_not_sealed(tmp_path: Path) -> None:
    """Mail without results of ours, mail whose chain nobody looked at, a header that is none, and one with more fields of
    a name than a seal covers."""
    for number, (content, host, found) in enumerate(
        [
            (MESSAGE, "mx.far.test", PASSED),
            (passed_on(MESSAGE, A), HOST, PASSED),
            (b"no field\n" + MESSAGE, HOST, PASSED),
            (b"Subject: x\n" * 100 + MESSAGE, HOST, PASSED),
        ]
    ):
        assert sealed(tmp_path / str(number), content, *found, host=host)[0].startswith(b"Received: by us\n")
    nobody = Sealer(Signer(MemoryDirectory(), str(tmp_path)), HOST, "example.test")
    assert asyncio.run(nobody.seal(field(HOST, PASSED) + MESSAGE)) == b""
