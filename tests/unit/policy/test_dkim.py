"""Signatures verified: the examples of RFC 6376 and RFC 8463, then each rule by its section."""

import re
import time
from base64 import b64encode

import pytest

from fastmail.dns.memory import MemoryResolver
from fastmail.policy import dkim, keys, sign, tags
from fastmail.policy.dkim import BadSignature, Content
from tests.support.signing import MESSAGE, ed25519, key, parts, public_key, published, rsa, signed, verify

JOE = (
    b"From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)
RFC8463 = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
    b" b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
    b" DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
    b" dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n" + JOE
)
RFC8463_KEYS = {
    ("brisbane._domainkey.football.example.com", "TXT"): [
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ],
    ("test._domainkey.football.example.com", "TXT"): [
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi"
        "0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w"
        "3QIDAQAB"
    ],
}
NAME = ("one._domainkey.example.org", "TXT")


def one(content: bytes, *records: str) -> tuple[str, str]:
    """(result, why) of the only signature, with these key records or the one that belongs to it."""
    (found,) = verify(content, {NAME: list(records)} if records else published(key()))
    return found.result, found.why


def forged(field: str, body: bytes = b"Hi.\n") -> bytes:
    return f"DKIM-Signature: {field}\nFrom: joe@example.org\n\n".encode() + body


def test_the_examples_of_rfc_8463() -> None:
    for content in (RFC8463, RFC8463.replace(b"\r\n", b"\n")):
        found = verify(content, RFC8463_KEYS)
        assert [(one.result, one.algorithm, one.bits) for one in found] == [
            ("pass", "ed25519-sha256", 256),
            ("pass", "rsa-sha256", 1024),
        ]
        assert {one.identity for one in found} == {"@football.example.com"}
        assert [one.shown for one in found] == ["/gCrinpc", "F45dVWDf"]


def test_the_example_of_rfc_6376_has_the_body_of_its_hash() -> None:
    """RFC 6376 A.2, whose white space the text does not keep: one space in the body's line has that hash."""
    found, _ = dkim.read(
        content := Content(
            b"DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n      c=simple/simple; q=dns/txt; "
            b"i=joe@football.example.com;\r\n      h=Received : From : To : Subject : Date : Message-ID;\r\n"
            b"      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk;\r\n"
            + JOE.partition(b"\r\n\r\n")[0]
            + b"\r\n"
        )
    )
    content.feed(JOE.partition(b"\r\n\r\n")[2].replace(b".  Are", b". Are"))
    content.finish()
    (signature,) = found
    assert isinstance(signature, dkim.Signature)
    assert (signature.domain, signature.identity) == ("example.com", "joe@football.example.com")
    assert content.body_hash(False) == signature.body_hash


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_what_is_changed_does_not_pass(kind: str) -> None:
    signer = key(kind=kind)
    content = signed(MESSAGE, signer)
    records = published(signer)
    assert [found.result for found in verify(content, records)] == ["pass"]
    for old, new in (
        (b"hungry", b"angry"),
        (b"Joe SixPack", b"Joe Sixpack"),
        (b"\nTo: ", b"\nX: y\nTo: evil@far.test, "),
        (b"\nSubject: ", b"\nSubject: added\nSubject: "),
        (b"s=one; ", b"s=one; z=1; "),
    ):
        assert old in content
        assert [found.result for found in verify(content.replace(old, new, 1), records)] == ["fail"], old


def test_white_space_that_relays_change_does_no_harm() -> None:
    content = signed()
    for old, new in (
        (b"game.  Are", b"game. \t Are"),
        (b"Subject: Is", b"SUBJECT :\n  Is"),
        (b"Joe.\n", b"Joe. \n\n\n"),
    ):
        assert one(content.replace(old, new, 1))[0] == "pass", old


def test_s15_fields_that_are_added_break_the_signature() -> None:
    """Those that say who wrote to whom, and what the body is, are named once more than they are there: a plain text
    could be made to be read as HTML, and answers could go to somebody else."""
    content = signed()
    names = [b"From", b"To", b"Cc", b"Reply-To", b"Subject", b"Date", b"Message-ID", b"List-Unsubscribe", b"List-Id"]
    for name in (*names, b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"):
        for changed in (
            name + b": x@evil.test\n" + content,
            content.replace(b"\n\n", b"\n" + name + b": x@evil.test\n\n", 1),
        ):
            assert one(changed)[0] == "fail", name


# ---------------------------------------------------------------- tags (RFC 6376 3.5, 6.1.1)

GOOD = "v=1; a=rsa-sha256; d=example.org; s=one; h=From; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=eA=="


@pytest.mark.parametrize(
    ("field", "result"),
    [
        (GOOD.replace("v=1; ", ""), "permerror"),
        (GOOD.replace("v=1", "v=2"), "permerror"),
        (GOOD.replace("a=rsa-sha256; ", ""), "permerror"),
        (GOOD.replace("sha256", "sha1"), "policy"),
        (GOOD.replace("rsa-sha256", "dsa-sha256"), "neutral"),
        (GOOD.replace("h=From", "h=Subject"), "permerror"),
        (GOOD.replace("h=From", "h="), "neutral"),
        (GOOD.replace("h=From", "h=From:a b"), "neutral"),
        (GOOD.replace("h=From", "h=From:"), "neutral"),
        (GOOD.replace("h=From", "h=From:\u212aeywords"), "neutral"),
        (GOOD.replace("h=From", "h=Subject \r\n : From\t:To"), None),
        (GOOD.replace("h=From", "h=From:" + "x:" * 1000 + "x"), "neutral"),
        (GOOD.replace("d=example.org", "d=org"), "neutral"),
        (GOOD.replace("d=example.org", "d=example.org(.evil.test"), "neutral"),
        (GOOD.replace("d=example.org", "d="), "neutral"),
        (GOOD.replace("d=example.org", "d=example.org."), "neutral"),
        (GOOD.replace("d=example.org", "d=example..org"), "neutral"),
        (GOOD.replace("d=example.org", "d=*.example.org"), "neutral"),
        (GOOD.replace("d=example.org", "d=evil.test\0.example.org"), "neutral"),
        (GOOD.replace("s=one", "s=one."), "neutral"),
        (GOOD.replace("s=one", "s=*"), "neutral"),
        (GOOD.replace("s=one", "s=evil.test\0"), "neutral"),
        (GOOD.replace("s=one", "s=a b"), "neutral"),
        (GOOD + "; i=@sub.example.org", None),
        (GOOD + "; i=me@EXAMPLE.org", None),
        (GOOD + "; i=@fexample.org", "permerror"),
        (GOOD + "; i=@org", "permerror"),
        (GOOD + "; i=nobody", "neutral"),
        (GOOD + "; i=", "neutral"),
        (GOOD + "; i=me@example.org.", "neutral"),
        (GOOD + "; i=evil.test=40\r\n example.org", None),
        (GOOD + "; c=relaxed", None),
        (GOOD + "; c=nofws", "neutral"),
        (GOOD + "; c=relaxed/none", "neutral"),
        (GOOD + "; c=relaxed/", "neutral"),
        (GOOD + "; q=dns/txt:other", None),
        (GOOD + "; q=other", "neutral"),
        (GOOD + "; t=5; x=4", "permerror"),
        (GOOD + "; x=1000", "fail"),
        (GOOD + "; x=0", "fail"),
        (GOOD + "; t=0; x=0", "permerror"),
        (GOOD + "; t=0", None),
        (GOOD + f"; t={int(time.time()) + 9000}", "policy"),
        (GOOD + "; t=soon", "neutral"),
        (GOOD + "; x=-5", "neutral"),
        (GOOD + "; l=\u0661", "neutral"),
        (GOOD + "; d=example.org", "neutral"),
        (GOOD + ";; z=1", "neutral"),
        (GOOD + "; z", "neutral"),
        (GOOD + "; unknown=1; ", None),
        (GOOD.replace("b=eA==", "b=eA"), None),  # RFC 6376 2.10: padding may be there
        (GOOD.replace("b=eA==", "b=e"), "neutral"),
        (GOOD.replace("b=eA==", "b=eA==="), "neutral"),
        (GOOD.replace("b=eA==", "b=e=A="), "neutral"),
        (GOOD.replace("b=eA==", "b=eA-"), "neutral"),
        (GOOD.replace("bh=47", "bh=\u00fc7"), "neutral"),
        (";".join(f"a{n}=1" for n in range(200)), "neutral"),
        ("", "permerror"),
    ],
)
def test_tags_of_a_signature(field: str, result: str | None) -> None:
    octets = b"DKIM-Signature: " + field.encode() + b"\n"
    if result is None:
        assert dkim.parse(octets).domain == "example.org"
        return
    with pytest.raises(BadSignature) as found:
        dkim.parse(octets)
    assert found.value.result == result and str(found.value)


def test_times_that_are_zero_are_times() -> None:
    """Also where the signature is like one that was read before, of which only its own tags are read again."""
    assert dkim.parse(f"DKIM-Signature: {GOOD}; x=9999999999\n".encode()).expires == 9999999999
    for more, why in (("; x=0", "expired"), ("; x=", "no number")):
        with pytest.raises(BadSignature, match=why):
            dkim.parse(f"DKIM-Signature: {GOOD}{more}\n".encode())
    found = dkim.parse(f"DKIM-Signature: {GOOD}\n".encode())
    assert (found.signed, found.expires, found.length) == (dkim.ABSENT,) * 3


def test_others_that_are_signed_too_do_not_include_oneself() -> None:
    """RFC 6376 3.5: h= names DKIM-Signature once more than there were others, so that nobody can add one."""
    first = signed()
    made = Content(parts(first)[0])
    made.want(True)
    made.feed(parts(first)[1])
    made.finish()
    names = (b"from", b"dkim-signature", b"dkim-signature")
    start = "\n\t".join(
        (
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=one;",
            f"h={b':'.join(names).decode()};",
            f"bh={b64encode(made.body_hash(True)).decode()};",
        )
    )
    second = sign.completed(start, made.fields.canonical(names, True), key())
    assert [found.result for found in verify(second + first, published(key()))] == ["pass", "pass"]
    assert [found.result for found in verify(first.replace(b"From:", second + b"From:", 1), published(key()))] == [
        "pass",
        "pass",
    ]
    added = b"DKIM-Signature: v=1\n" + second + first
    assert [found.result for found in verify(added, published(key()))] == ["permerror", "fail", "pass"]


def test_canonical_forms_are_simple_where_nothing_is_said() -> None:
    def forms(more: str) -> tuple[bool, bool]:
        found = dkim.parse(f"DKIM-Signature: {GOOD}{more}\n".encode())
        return found.header_relaxed, found.body_relaxed

    assert forms("") == (False, False)
    assert forms("; c=relaxed") == (True, False)
    assert forms("; c=simple/relaxed") == (False, True)


def test_domains_with_u_labels() -> None:
    """RFC 8616 3: compared and looked up with A-labels."""
    found = dkim.parse(
        f"DKIM-Signature: {GOOD}; i=\u00fc@s.fa\u00df.test\n".replace("example.org", "fa\u00df.test").encode()
    )
    assert (found.domain, found.identity) == ("xn--fa-hia.test", "\u00fc@s.xn--fa-hia.test")
    assert found.key_name == "one._domainkey.xn--fa-hia.test"


def test_the_value_of_b_is_taken_out_wherever_it_is() -> None:
    """RFC 6376 3.7: with the white space around it, and bh= stays."""
    field = b"DKIM-Signature: v=1;\n b = eA\n == ;\n bh=47; z=b=1; d=b\n"
    assert tags.without(field, b"b") == b"DKIM-Signature: v=1;\n b =;\n bh=47; z=b=1; d=b\n"
    assert tags.without(b"X: a=1; b=eA==\r\n", b"b") == b"X: a=1; b=\r\n"
    assert tags.without(b"X: a=1\n", b"b") == b"X: a=1\n"


# ---------------------------------------------------------------- keys (RFC 6376 3.6.1, 6.1.2; RFC 8301)


def test_keys() -> None:
    content, record = signed(), key().record()
    p = record.partition("p=")[2]
    assert one(content, record) == ("pass", "")
    assert one(content, f"p={p}")[0] == "pass"
    assert one(content, f"v=DKIM1; p={p[:50]} {p[50:]}; n=note; s=other:email; h=sha1:sha256; x=y")[0] == "pass"
    for bad, result in (
        ("v=DKIM1; p=", "permerror"),
        ("v=DKIM1", "permerror"),
        (f"v=DKIM2; p={p}", "permerror"),
        (f"k=rsa; v=DKIM1; p={p}", "permerror"),
        (f"v=DKIM1; h=sha1; p={p}", "permerror"),
        (f"v=DKIM1; s=tlsrpt; p={p}", "permerror"),
        (f"v=DKIM1; k=ed25519; p={p}", "permerror"),
        (f"v=DKIM1; k=dsa; p={p}", "permerror"),
        ("v=DKIM1; p=!!!!", "permerror"),
        ("v=DKIM1; p=eA==", "permerror"),
        ("v=spf1 -all", "permerror"),
        (f"v=DKIM1; p={p}; p={p}", "permerror"),
        (f"v=DKIM1; p={p}" + "x" * 5000, "permerror"),
        (f"v=DKIM1; t=y; p={p}", "neutral"),
        (rsa_record(bits=1024), "fail"),
    ):
        assert one(content, bad)[0] == result, bad[:60]
        assert one(content, bad)[1]


def test_base64_without_padding() -> None:
    """RFC 6376 2.10, in signatures and in keys."""
    public = key(kind="ed25519")
    content = signed(MESSAGE, public)
    record = public.record()
    bare = re.sub(rb"=+(;|\n)", rb"\1", content)
    assert record.endswith("=") and bare.count(b"=") == content.count(b"=") - 3
    assert one(content, record.rstrip("="))[0] == "pass"
    # the signature covers its own bh= as it stands, so only b= can lose its padding behind the signer's back
    assert one(re.sub(rb"==\n", rb"\n", content, count=1), record)[0] == "pass"
    assert one(bare, record)[0] == "fail"


def rsa_record(bits: int) -> str:
    return key(bits=bits).record()


def test_s15_weak_and_giant_keys_do_not_count() -> None:
    content = signed()
    for bits in (512, 1023, 4097, 16384):
        result, _ = one(content, f"v=DKIM1; p={public_key((1 << bits - 1) | 12345)}")
        assert result in ("policy", "permerror"), bits
    modulus = rsa().public_key().public_numbers().n
    assert one(content, f"v=DKIM1; p={public_key(modulus, (1 << 1000) + 1)}")[0] in ("policy", "permerror")
    for bits in (1024, 4096):
        signer = key(bits=bits)
        (found,) = verify(signed(MESSAGE, signer), published(signer))
        assert (found.result, found.bits) == ("pass", bits)


def test_several_keys_at_one_name_in_any_order() -> None:
    content = signed()
    records = [key().record(), "noise", rsa_record(1024), "v=DKIM1; p="]
    assert one(content, *records) == one(content, *reversed(records)) == ("pass", "")
    bad = records[1:]
    assert one(content, *bad) == one(content, *reversed(bad))
    assert one(content, *bad)[0] == "fail"


def test_a_key_without_subdomains() -> None:
    """t=s (RFC 6376 3.6.1)."""
    found = dkim.parse(f"DKIM-Signature: {GOOD}; i=@sub.example.org\n".encode())
    parsed = keys.parse(("v=DKIM1; t=y:s; p=" + key().record().partition("p=")[2]).encode())
    assert parsed.exact and parsed.testing
    with pytest.raises(keys.BadKey):
        dkim._usable(parsed, found)


def test_trouble_of_the_dns_is_told_from_no_key() -> None:
    names = MemoryResolver({})
    assert [(found.result, found.why) for found in verify(signed(), names)] == [("permerror", "there is no key")]
    names.broken.add("one._domainkey.example.org")
    assert [found.result for found in verify(signed(), names)] == ["temperror"]


def test_a_changed_body_costs_no_look_up() -> None:
    names = MemoryResolver(published(key()))
    assert [found.why for found in verify(signed() + b"more\n", names)] == ["the body was changed"]
    assert names.asked == []


# ---------------------------------------------------------------- l= and floods (S15)


def test_s15_a_length_hides_nothing() -> None:
    """Even a signature that was made with l= passes for the whole body only."""
    whole = Content(b"From: joe@example.org\n")
    whole.want(True)
    whole.feed(b"Hi.\n")
    whole.finish()
    assert whole.body_size(True) == 5
    for length, result in ((0, "policy"), (4, "policy"), (6, "permerror")):
        found = verify(forged(GOOD.replace("rsa", "rsa") + f"; c=relaxed/relaxed; l={length}"), published(key()))
        assert [one.result for one in found] == [result], length
    found = verify(forged(GOOD + "; c=relaxed/relaxed; l=5"), published(key()))
    assert [one.why for one in found] == ["the body was changed"]  # so far as the length goes, it may count


def test_s15_five_signatures_are_looked_at() -> None:
    content = b"".join(b"DKIM-Signature: v=1\n" for _ in range(100)) + signed()
    made = Content(content.partition(b"\n\n")[0] + b"\n")
    found, more = dkim.read(made)
    assert (len(found), more) == (5, 96)
    names = MemoryResolver(published(key()))
    assert {one.result for one in verify(content, names)} == {"permerror"} and names.asked == []


def test_a_header_with_lines_that_are_no_fields_has_no_good_signature() -> None:
    content = signed()
    assert one(content.replace(b"\n\n", b"\nno field\n\n", 1))[0] == "permerror"
    assert one(content.replace(b"\n\n", b"\n" + b"X: y\n" * 11_000 + b"\n", 1))[0] == "permerror"
    assert verify(b"X: y\n" * 11_000 + content, published(key())) == []


def test_nothing_of_a_signature_starts_a_line() -> None:
    field = b"DKIM-Signature: v=1; d=a\n\tb.test; s=x\n y; b=e\n A\n"
    with pytest.raises(BadSignature) as error:
        dkim.parse(field)
    found = dkim.unusable(error.value)
    assert found.shown == "eA"
    assert not re.search(r"[\r\n]", found.shown)


def test_ed25519_keys_are_32_octets() -> None:
    """RFC 8463 4."""
    assert ed25519() is not None
    for bad in ("eA==", "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHUQ=="):
        with pytest.raises(keys.BadKey):
            keys.parse(f"v=DKIM1; k=ed25519; p={bad}".encode())
