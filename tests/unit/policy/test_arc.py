"""Chains of ARC (RFC 8617): made, passed on, tampered with."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable

import dkim as dkimpy
import pytest

from fastmail._core import dkim as core
from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import arc, sign
from fastmail.policy.arc import Arc, Chain
from fastmail.policy.dkim import Content, Verifier
from fastmail.policy.sign import SigningKey
from tests.support.signing import MESSAGE, key, parts, published

A, B = key("a.test"), key("b.test", "two", "ed25519")
KEYS = published(A, B)


def verify(content: bytes, names: MemoryResolver | None = None) -> tuple[Content, arc.Found, Chain]:
    names = names if names is not None else MemoryResolver(KEYS)
    header, body = parts(content)

    async def main() -> tuple[Content, arc.Found, Chain]:
        made = Content(header)
        made.want(True)
        found = arc.read(made)
        made.feed(body)
        made.finish()
        return made, found, await Arc(names, Verifier(names)).verify(made, found, Budget())

    return asyncio.run(main())


def passed_on(content: bytes, signer: SigningKey, payload: str = ";\n\tspf=pass smtp.mailfrom=example.org") -> bytes:
    made, found, chain = verify(content)
    return b"".join(arc.seal(made, found, chain, payload, f"mx.{signer.domain}", signer)) + content


def test_no_chain() -> None:
    assert verify(MESSAGE)[2] == Chain("none")


def test_a_chain_of_two() -> None:
    content = passed_on(passed_on(MESSAGE, A), B, "; none")
    chain = verify(content)[2]
    assert (chain.result, chain.sets, chain.sealers, chain.why) == ("pass", 2, ("b.test", "a.test"), "")
    assert chain.results == ("mx.b.test; none", "mx.a.test;\n\tspf=pass smtp.mailfrom=example.org")
    assert verify(content.replace(b"\n", b"\r\n"))[2].result == "pass"


def test_others_verify_it() -> None:
    """As far as they can: dkimpy seals and verifies by RSA only."""
    content = passed_on(passed_on(MESSAGE, A), key("c.test"))
    records = {name.encode() + b".": found[0].encode() for (name, _), found in published(A, key("c.test")).items()}
    verdict, _, why = dkimpy.arc_verify(content.replace(b"\n", b"\r\n"), dnsfunc=lambda name, timeout=5: records[name])
    assert verdict == b"pass", why


def test_the_order_of_the_fields_does_not_matter() -> None:
    content = passed_on(passed_on(MESSAGE, A), B)
    fields = re.findall(rb"[^\n]+\n(?:[ \t][^\n]*\n)*", content.partition(b"\n\n")[0] + b"\n")
    assert len(fields) == 11
    moved = b"".join(fields[:6][::-1] + fields[6:]) + b"\n" + content.partition(b"\n\n")[2]
    assert verify(moved)[2].result == "pass"


def drop(name: bytes, number: int) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(rb"(?im)^%s: i=%d;[^\n]*\n(?:[ \t][^\n]*\n)*" % (name, number), b"", content, count=1)


def again(name: bytes, number: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        found = re.search(rb"(?im)^%s: i=%d;[^\n]*\n(?:[ \t][^\n]*\n)*" % (name, number), content)
        assert found is not None
        return found.group() + content

    return change


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old in content, old
        return content.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    "change",
    [
        drop(b"ARC-Seal", 1), drop(b"ARC-Seal", 2), drop(b"ARC-Message-Signature", 1),
        drop(b"ARC-Authentication-Results", 2), again(b"ARC-Seal", 2), again(b"ARC-Authentication-Results", 1),
        swap(b"hungry", b"angry"), swap(b"Subject: Is", b"Subject: was"), swap(b"spf=pass", b"spf=fail"),
        swap(b"cv=pass", b"cv=none"), swap(b"cv=pass", b"cv=fail"), swap(b"cv=none", b"cv=pass"),
        swap(b"ARC-Seal: i=2;", b"ARC-Seal: i=3;"), swap(b"ARC-Seal: i=2;", b"ARC-Seal: i=0;"),
        swap(b"ARC-Seal: i=2;", b"ARC-Seal: i=2; h=from;"), swap(b"ARC-Seal: i=2;", b"ARC-Seal: "),
        swap(b"ARC-Seal: i=2;", b"ARC-Seal: i=2; i=2;"), swap(b"a=ed25519-sha256; cv", b"a=rsa-sha1; cv"),
        swap(b"h=", b"h=arc-seal:"), swap(b"i=2; mx.b.test", b"i=two; mx.b.test"),
        swap(b"i=2; mx.b.test", b"i=002; mx.b.test"), swap(b"i=2; mx.b.test", b"(i=2; mx.b.test"),
        swap(b"i=2; mx.b.test", b"2; mx.b.test"), swap(b"ARC-Seal: i=2;", b"ARC-Seal: i=002;"),
        swap(b"\n\n", b"\nno field\n\n"),
    ],
)  # fmt: skip
def test_what_breaks_a_chain(change: Callable[[bytes], bytes]) -> None:
    content = change(passed_on(passed_on(MESSAGE, A), B))
    chain = verify(content)[2]
    assert chain.result == "fail" and chain.why.isprintable()


def test_results_with_comments() -> None:
    """RFC 8617 4.1.1: around the instance, and one may hold a semicolon."""
    _, found, _ = verify(passed_on(MESSAGE, A))
    (results, _, _), *_ = found.sets
    commented = results.replace(b" i=1;", b"\n (one; two) i (a) =\n 1 (b);")
    assert commented != results and arc._results(commented) == arc._results(results)
    assert arc._results(results) == (1, "mx.a.test;\n\tspf=pass smtp.mailfrom=example.org")


def sealed(tags: str, message_tags: str = "", results: str = "i=1; mx.a.test; none") -> bytes:
    """A set of A's own on MESSAGE: the tags of its seal, and those in front of its message signature's own."""
    made, _, _ = verify(MESSAGE)
    covered = made.fields.canonical([b"from"], True)
    hashed = b64encode(made.body_hash(True)).decode()
    start = (
        f"ARC-Message-Signature: {message_tags or 'i=1;'} a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=one;\n\th=from;"
    )
    one = sign.completed(f"{start}\n\tbh={hashed};", covered, A)
    said = f"ARC-Authentication-Results: {results}\n".encode()
    data = core.field(said, True) + core.field(one, True)
    return sign.completed(f"ARC-Seal: {tags}", data, A) + one + said + MESSAGE


SEAL = "i=1; a=rsa-sha256; cv=none; d=a.test; s=one;"


@pytest.mark.parametrize("instance", ["(c; d) i=1;", "i (c) = (d) 1 (e);", "i=1 (e) ;", "i =\n\t1;", "i=01;"])
def test_instances_with_comments(instance: str) -> None:
    """RFC 8617 4.2.1: in each of the three fields."""
    assert verify(sealed(SEAL.replace("i=1;", instance)))[2].result == "pass"
    assert verify(sealed(SEAL, instance))[2].result == "pass"
    assert verify(sealed(SEAL, results=f"{instance} mx.a.test; none"))[2].result == "pass"


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (SEAL, "pass"),
        (f"{SEAL} t=1; v=2; c=simple; q=x;", "pass"),
        (SEAL.replace("none", "None").replace("i=1; a=rsa-sha256;", "a=rsa-sha256; i=1;"), "pass"),
        (f"{SEAL} t=soon;", "fail"),
        (f"{SEAL} t=;", "fail"),
        (f"{SEAL} h=;", "fail"),
        (f"{SEAL} cv=none;", "fail"),
        (SEAL.replace("d=a.test", "d=test"), "fail"),
        (SEAL.replace("i=1;", "I=1;"), "fail"),
        (SEAL.replace("i=1;", "i=1 (never ends;"), "fail"),
        (SEAL.replace("i=1;", "i=1 x;"), "fail"),
    ],
)
def test_tags_of_a_seal(tags: str, wanted: str) -> None:
    """RFC 8617 4.1.3, RFC 6376 6.1.1: what is not known is passed over, what has not its form is an error."""
    assert verify(sealed(tags))[2].result == wanted


def test_seals_of_keys_in_testing_mode_count_for_nothing() -> None:
    """RFC 6376 3.6.1, for keys of message signatures and of seals, the newest and others."""
    content = passed_on(passed_on(MESSAGE, A), B)
    for one in (A, B):
        records = published(A, B)
        ((name, (record,)),) = published(one).items()
        records[name] = [record.replace("p=", "t=y; p=")]
        chain = verify(content, MemoryResolver(records))[2]
        assert chain.result == "fail" and "testing" in chain.why


def test_trouble_of_the_dns_breaks_it_too() -> None:
    """RFC 8617 5.2.1."""
    content = passed_on(passed_on(MESSAGE, A), B)
    names = MemoryResolver(KEYS)
    names.broken.add("one._domainkey.a.test")
    assert verify(content, names)[2].result == "fail"
    assert verify(content, MemoryResolver({}))[2].result == "fail"


def test_a_message_that_was_changed_on_the_way_is_sealed_as_failed_once() -> None:
    """RFC 8617 5.1: the seal of a failed chain covers its own set only; nobody seals behind it."""
    changed = passed_on(MESSAGE, A).replace(b"hungry", b"angry")
    content = passed_on(changed, B)
    assert b"ARC-Seal: i=2; a=ed25519-sha256; cv=fail;" in content
    assert verify(content)[2].result == "fail"
    assert passed_on(content, A) == content


@pytest.mark.parametrize("name", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
def test_a_chain_that_is_not_complete_is_sealed_as_failed_once(name: bytes) -> None:
    """RFC 8617 5.1: one more than the highest instance that there is; 5.1.2."""
    content = passed_on(passed_on(MESSAGE, A), B)
    for broken, number in ((drop(name, 1)(content), 3), (drop(name, 2)(content), 3), (again(name, 2)(content), 3)):
        sealed_again = passed_on(broken, A)
        assert b"ARC-Seal: i=%d; a=rsa-sha256; cv=fail;" % number in sealed_again
        assert verify(sealed_again)[2].result == "fail"
        assert passed_on(sealed_again, B) == sealed_again


def test_fifty_sets_and_no_more() -> None:
    content = MESSAGE
    for _ in range(50):
        content = passed_on(content, B)
    assert verify(content)[2].sets == 50 and verify(content)[2].result == "pass"
    assert passed_on(content, B) == content
    assert verify(again(b"ARC-Seal", 50)(content))[2].result == "fail"
