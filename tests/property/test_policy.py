"""Engines of policy against slow and obvious forms of the same, and against what others wrote (dkimpy, checkdmarc)."""

import asyncio
import hashlib
import itertools
import re
import time
from binascii import a2b_base64

import dkim as dkimpy
import dkim.canonicalization as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import dkim as core
from fastmail._core import tags
from fastmail._core.signed import Fields
from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.message import authors
from fastmail.policy import dmarc, macros, spf_record
from fastmail.policy.dkim import Content
from fastmail.policy.dmarc import Evaluator
from fastmail.policy.spf_record import BadRecord
from tests.support.examples import some
from tests.support.signing import MESSAGE, key, published, rsa, signed, verify

PIECES = st.sampled_from([b" ", b"\t", b"\r\n", b"\r\n", b"\r", b"a", b"bc", b"  ", b".", b"\x0b", b"\xff", b"-- "])
BODIES = st.lists(PIECES, max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 80), max_size=8)
# pieces that make a body longer than the blocks in which it is looked through
LONG = st.lists(
    PIECES
    | st.sampled_from(
        [b"x" * 63, b"y z" * 21, b"s\tt  u" * 9, b"line\n" * 20, b"w" * 4090, b"v " * 2048, b"u t\r\n" * 900]
    ),
    max_size=20,
).map(b"".join)
LONG_CUTS = st.lists(st.integers(0, 20_000), max_size=8)
TAG_PIECES = st.sampled_from(
    [";", "=", "a", "b", "bh", "_1", " ", "\t", "\r\n ", "x=1;", "b = y z ;", "\u00e4", "\x0b"]
)
TAG_LISTS = st.lists(TAG_PIECES, max_size=20).map("".join)


def relaxed(body: bytes) -> bytes:
    """RFC 6376 3.4.4, line by line."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def simple(body: bytes) -> bytes:
    """RFC 6376 3.4.3."""
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n"


def cut(body: bytes, cuts: list[int], form: bool) -> bytes:
    """Its form, which is the same in each way to look at a body."""
    found = set()
    places = [0, *sorted(min(at, len(body)) for at in cuts), len(body)]
    for way in range(core.ways()):
        core.use(way)
        out = bytearray()
        made = core.Body(form, out.extend)
        for a, b in itertools.pairwise(places):
            made.feed(body[a:b])
        made.finish()
        assert made.size == len(out)
        found.add(bytes(out))
    (one,) = found
    return one


@given(BODIES, CUTS)
def test_bodies(body: bytes, cuts: list[int]) -> None:
    assert cut(body, cuts, True) == relaxed(body)
    assert cut(body, cuts, False) == simple(body)
    lf = body.replace(b"\r\n", b"\n")
    if b"\r\n" not in lf and relaxed(lf.replace(b"\n", b"\r\n")) == relaxed(body):
        assert cut(lf, cuts, True) == relaxed(body)


@given(LONG, LONG_CUTS)
@settings(max_examples=some(50))
def test_long_bodies(body: bytes, cuts: list[int]) -> None:
    ended = re.sub(rb"\r?\n", b"\r\n", body)
    assert cut(body, cuts, True) == relaxed(ended)
    assert cut(body, cuts, False) == simple(ended)


def parsed(text: str) -> dict[str, str] | None:
    """RFC 6376 3.2, part by part; None for what is no tag list."""
    out: dict[str, str] = {}
    parts = text.split(";")
    for at, part in enumerate(parts):
        name, equals, value = (one.strip(" \t\r\n") for one in part.partition("="))
        if at + 1 == len(parts) and not part.strip(" \t\r\n"):
            break
        if not equals or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in out:
            return None
        out[name] = value
    return out if len(parts) <= 101 else None


@given(TAG_LISTS)
def test_tag_lists(text: str) -> None:
    try:
        found = tags.tags(text)
    except ValueError:
        assert parsed(text) is None
        return
    assert found == parsed(text)
    field = b"X: " + text.encode() + b"\n"
    emptied = tags.tags(tags.without(field, b"b").decode().partition(":")[2])
    assert emptied == found | ({"b": ""} if "b" in found else {})
    assert tags.without(field, b"b").endswith(b"\n")
    assert list(emptied) == list(found)


@given(BODIES.filter(lambda body: b"\n" not in body.replace(b"\r\n", b"") and b"\r" not in body.replace(b"\r\n", b"")))
def test_bodies_as_dkimpy_has_them(body: bytes) -> None:
    body += (
        b"" if body.endswith(b"\r\n") else b"\r\n"
    )  # as SMTP ends every line; dkimpy keeps white space at an open end
    assert cut(body, [], False) == theirs.Simple.canonicalize_body(body)
    assert cut(body, [], True) == theirs.Relaxed.canonicalize_body(body)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"A", b"a", b"Bc", b"x-Y "]),
            st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"v", b"w:"]), max_size=8),
        ),
        max_size=6,
    ),
    st.lists(st.sampled_from([b"a", b"bc", b"x-y", b"no"]), max_size=8),
    st.booleans(),
)
def test_fields(fields: list[tuple[bytes, list[bytes]]], names: list[bytes], form: bool) -> None:
    """Those of a signature, against the rule of RFC 6376 5.4.2 written out."""
    lines = [name + b":" + b"".join(value) + b"\r\n" for name, value in fields]
    left = lines[:]
    wanted = b""
    for name in names:
        at = next((k for k in reversed(range(len(left))) if left[k].partition(b":")[0].strip().lower() == name), None)
        if at is None:
            continue
        field = left.pop(at)
        if form:
            label, _, value = field.partition(b":")
            words = re.sub(rb"[ \t]+", b" ", value.replace(b"\r\n", b"")).strip(b" ")
            field = label.strip().lower() + b":" + words + b"\r\n"
        wanted += field
    made = Fields(b"".join(lines))
    if not made.broken:
        assert made.canonical(names, form) == wanted


VALUES = [
    b"x",
    b" a@b.test",
    b"c" * 40,
    b"a\n b",
    b"\tv=1; d=a.test; bh=eHh4; t=1;\n b=eHh4eA==",
    b"b=eA=; bh=eA==; x=7",
    b"",
]


@settings(max_examples=some(300), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"From",
                    b"from",
                    b"Reply-To",
                    b"LIST-ID",
                    b"Subject",
                    b"DKIM-Signature",
                    b"X-Spam-Flag",
                    b"To",
                    b"ARC-Seal",
                ]
            ),
            st.sampled_from([b":", b" :"]),
            st.sampled_from(VALUES),
            st.sampled_from([b"\n", b"\n", b"\n", b"\r\n"]),
        ),
        max_size=7,
    )
)
def test_what_a_usual_header_says(lines: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    """Against the fields one by one. 30 octets of a value, and 2 signatures, are the most here."""
    fields = Fields(
        b"From: a@b.test\n" + b"".join(map(b"".join, lines)) if len(lines) % 2 else b"".join(map(b"".join, lines))
    )
    found = fields.usual(30, 2, (b"x-spam",))
    values = {
        name: fields.values(name, 10_000) or []
        for name in (b"from", b"reply-to", b"list-id", b"subject", b"arc-seal", b"x-spam-flag")
    }
    signatures = fields.named(b"dkim-signature")
    halves = [tags.signature(one) for one in signatures]
    octets = [[_octets(text) for text in one[1:3]] if one is not None else [] for one in halves]
    usual = (
        not fields.broken
        and not fields.cr
        and len(values[b"from"]) == 1
        and len(values[b"reply-to"]) <= 1
        and not values[b"arc-seal"]
        and len(signatures) <= 2
        and all(len(one) < 30 for name in (b"from", b"reply-to") for one in values[name])
        and all(len(one) <= 120 for one in signatures)
        and all(one is not None and len(one[0]) <= 30 for one in halves)
        and all(None not in one for one in octets)
    )
    assert (found is not None) == usual
    if found is None:
        return
    assert found[:2] == (values[b"from"][0], b"".join(values[b"reply-to"]))
    assert found[2:5] == (bool(values[b"list-id"]), (values[b"subject"] or [b""])[0], not values[b"x-spam-flag"])
    assert list(found[5]) == [one[0] for one in halves if one is not None]
    for (place, hashed, own, shown, since, expires), half, (b, bh), field in zip(
        found[6], halves, octets, signatures, strict=True
    ):
        assert half is not None and (own, hashed, since, expires) == (b, bh, *half[3:])
        assert shown == half[1][:8].decode()
        unsigned = tags.without(field, b"b")
        for relaxed in (False, True):
            names = [b"from", b"dkim-signature", b"dkim-signature"]
            if len(set(signatures)) == len(signatures):  # or ``signed`` may take one for the other
                covered = fields.signed(names, relaxed, field, unsigned)
                assert fields.covered(place, names, relaxed) == covered
                assert fields.digest(place, names, relaxed) == hashlib.sha256(covered).digest()


def _octets(text: bytes) -> bytes | None:
    try:
        return a2b_base64(text, strict_mode=True) or None
    except ValueError:
        return None


@settings(max_examples=some(40), deadline=None)
@given(BODIES, st.sampled_from([b"simple", b"relaxed"]), st.sampled_from([b"simple", b"relaxed"]), st.booleans())
def test_what_dkimpy_signs_verifies(body: bytes, header: bytes, form: bytes, length: bool) -> None:
    body = re.sub(rb"(?<!\r)\n|\r(?!\n)", b"", body) + b"\r\n"
    message = MESSAGE.partition(b"\n\n")[0].replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
    private = rsa(1024).private_bytes(*PEM)  # type: ignore[arg-type]
    field = dkimpy.sign(message, b"one", b"example.org", private, canonicalize=(header, form), length=length)
    (found,) = verify(field + message, published(key(bits=1024)))
    assert (found.result, found.why) == ("pass", "")


def _pem() -> tuple[object, object, object]:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()


PEM = _pem()


@settings(max_examples=some(40), deadline=None)
@given(
    BODIES,
    st.lists(st.sampled_from([b"Cc: a@b.test\n", b"List-Id: x\n", b"X: y\n z\n", b"Sender:\t s \n"]), max_size=4),
)
def test_what_we_sign_dkimpy_verifies(body: bytes, more: list[bytes]) -> None:
    body = re.sub(rb"(?<!\r)\n|\r(?!\n)", b"", body).replace(b"\r\n", b"\n") + b"\n"
    content = signed(b"".join(more) + MESSAGE.partition(b"\n\n")[0] + b"\n\n" + body, key(bits=1024))
    record = key(bits=1024).record().encode()
    assert dkimpy.verify(content.replace(b"\n", b"\r\n"), minkey=1024, dnsfunc=lambda name, timeout=5: record)


@given(st.lists(st.sampled_from(list("abc.-+%{}dslr0129_/: ")), max_size=20).map("".join))
def test_macros_expand_as_they_are_written(text: str) -> None:
    """Against RFC 7208 7.3, done by cutting lists."""
    try:
        made = macros.parse(text)
    except macros.BadMacro:
        return
    values = {"d": "a.b-c.d", "s": "x@a.b-c.d", "l": "x-y+z"}

    def one(found: re.Match[str]) -> str:
        if found.group(0)[1] in "%_-":
            return {"%": "%", "_": " ", "-": "%20"}[found.group(0)[1]]
        letter, digits, reverse, delimiters = found.groups()[:4]
        parts = [values[letter]]
        for sign in delimiters or ".":
            parts = [piece for part in parts for piece in part.split(sign)]
        parts = parts[::-1] if reverse else parts
        return ".".join(parts[-int(digits) :] if digits else parts)

    wanted = re.sub(r"%(?:\{([dsl])(\d*)(r?)([.\-+,/_=]*)\}|[%_-])", one, text)
    assert made.name(values) == wanted.removesuffix(".")


TERMS = ["a", "mx", "-all", "~all", "ip4:192.0.2.0/24", "ip6:2001:db8::/32", "include:x.test", "exists:%{i}.x.test", "ptr",
         "a:b.test/24", "mx:b.test//64", "redirect=x.test", "ip4:192.0.2.300", "ip4:1.2.3.4/33", "foo", "a:"]  # fmt: skip


@settings(max_examples=some(60), deadline=None)
@given(st.lists(st.sampled_from(TERMS), max_size=4))
def test_terms_make_a_record_or_an_error(terms: list[str]) -> None:
    """One bad term among good ones is enough, wherever it is (RFC 7208 4.6)."""
    text = " ".join(["v=spf1", *terms])
    try:
        spf_record.parse(text.encode())
        good = True
    except BadRecord:
        good = False
    names = [term for term in terms if term in ("foo", "ip4:192.0.2.300", "ip4:1.2.3.4/33", "a:")]
    assert good == (not names and terms.count("redirect=x.test") < 2)


POLICIES = ("none", "quarantine", "reject")
DMARC_VALUES = {"sp": POLICIES, "np": POLICIES, "adkim": ("r", "s"), "aspf": ("r", "s"), "t": "yn", "psd": "ynu"}


@settings(max_examples=some(60), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["sp", "np", "adkim", "aspf", "t", "psd"]),
        st.sampled_from(["none", "reject", "quarantine", "r", "s", "y", "n"]),
        max_size=4,
    ),
    st.sampled_from(["none", "quarantine", "reject"]),
)
def test_dmarc_records_as_checkdmarc_reads_them(tags: dict[str, str], policy: str) -> None:
    # here: nothing else that tests import takes a second
    from checkdmarc.dmarc import InvalidDMARCTagValue, parse_dmarc_record

    text = "; ".join([f"v=DMARC1; p={policy}", *(f"{name}={value}" for name, value in tags.items())])
    ours = dmarc.parse(text.encode())
    assert ours is not None
    try:
        found = parse_dmarc_record(text, "example.org", ignore_unrelated_records=True)["tags"]
    except InvalidDMARCTagValue:  # it refuses values that the RFC lets fall to their defaults, and no others
        assert any(value not in DMARC_VALUES[name] for name, value in tags.items())
        return
    assert ours.policy == found["p"]["value"]
    for name, value in (("adkim", ours.strict_dkim), ("aspf", ours.strict_spf)):
        assert value == (found[name]["value"] == "s")


def walked(domain: str, records: dict[str, str]) -> str:
    """RFC 9989 4.10 and 4.10.2, step by step."""
    labels = domain.split(".")
    here, found = labels, []
    while here:
        name = ".".join(here)
        record = records.get(name)
        if record is not None:
            found.append((name, record))
            if record in "yn":
                break
        here = here[-7:] if here == labels and len(labels) >= 8 else here[1:]
    for name, record in found:
        if record == "n":
            return name
        if record == "y" and name != domain:
            return ".".join(labels[-len(name.split(".")) - 1 :])
    return found[-1][0] if found else domain


@given(st.integers(1, 12), st.dictionaries(st.integers(1, 12), st.sampled_from("ynu"), max_size=5))
def test_tree_walks(count: int, at: dict[int, str]) -> None:
    labels = [f"l{n}" for n in range(count, 0, -1)]
    domain = ".".join(labels)
    records = {".".join(labels[-size:]): psd for size, psd in at.items() if size <= count}
    names = MemoryResolver(
        {(f"_dmarc.{name}", "TXT"): [f"v=DMARC1; p=none; psd={psd}"] for name, psd in records.items()}
    )
    walk = asyncio.run(Evaluator(names).walk(domain, Budget(), {}))
    assert walk.organization == walked(domain, records)
    assert len(names.asked) <= 8


@pytest.mark.parametrize("form", [False, True])
def test_a_long_body_is_hashed_in_time(form: bool) -> None:
    """A bound that only quadratic work would miss."""
    content = Content(b"From: a@b.test\n")
    content.want(form)
    started = time.process_time()
    for _ in range(100):
        content.feed(b"word  word \r\n" * 8_000)
    content.finish()
    assert time.process_time() - started < 3


@given(st.lists(st.sampled_from(["a", "Bc", " ", "\t", '"', "<", ">", "@", ".", "-", "d.test", "<a@b.test>", "\n ", ",", "(", ")", "_"]),
                max_size=8).map("".join))  # fmt: skip
def test_the_short_way_to_an_author_is_the_long_one(text: str) -> None:
    """The pattern for a usual From takes nothing that the parser reads otherwise."""
    usual = dmarc._USUAL.fullmatch(text.encode())
    if usual is not None:
        (address,) = authors.parse(text)
        assert address.rpartition("@")[2] == usual.group(1).decode()
