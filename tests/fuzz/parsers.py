"""Fuzzes one parser of the compiled core by itself: `python -m tests.fuzz.parsers mime --seconds 60 --seed 1`; all of
them, with sanitizers too: `tests.fuzz.every`.

Each parser gets what it might get, damaged: commands, addresses, messages, pages, rows and summaries that were cut,
mixed and flipped. A finding is anything but a result or the error that the parser's interface names, a try that takes a
second of CPU, or a process that ends (a sanitizer's report): the file `.<parser>.<process>` in `tests/fuzz/cases` then has
its seed. Seeds of what was found are kept there, and tried again by the tests.
"""

import argparse
import contextlib
import functools
import os
import random
import struct
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import lmdb

from fastmail._core import (
    dkim as canonical,
)
from fastmail._core import (
    dns,
    envelope,
    fetch,
    header,
    idents,
    imap,
    leaves,
    lines,
    links,
    mime,
    order,
    pages,
    rows,
    smtp,
    texts,
    transfers,
    words,
)
from fastmail._core.octets import Out
from fastmail._core.threads import Threads
from fastmail._core.uidset import UidSet
from fastmail.policy import arc, authentication, dkim, dmarc, keys, macros, results, spf_record, tags
from tests.fuzz.foreign import fuzz_complaints, fuzz_reports, fuzz_results, fuzz_scanners, fuzz_tokens  # noqa: F401
from tests.fuzz.sessions import SPICE, corpus, damaged
from tests.fuzz.spoiling import some, spoil

CASES = Path(__file__).parent / "cases"
SLOW = 1.0  # s of CPU
NEEDS_SUMMARY = 32 | 64 | 128
KEY = b"\0\0\0\0\0\0\0\1\0\0\0\1"
MESSAGES = [
    b"From: A <a@b.test>\nTo: b@c.test, G: d@e.test, \"x\\\"y\" <f@g.test>;\nSubject: =?utf-8?q?a=e4?= b\n"
    b"Date: Tue, 24 Nov 2026 10:11:12 +0100\nMessage-ID: <1@b.test>\nIn-Reply-To: <0@b.test>\n\nbody\n",
    b"Content-Type: multipart/mixed; boundary=\"b b\"\n\n--b b\nContent-Type: text/plain; charset*0*=utf-8'';\n"
    b" charset*1=x; name=\"a\\\"b\"\nContent-Disposition: attachment; filename*=utf-8'en'%e4\n\npart\n--b b\n"
    b"Content-Type: message/rfc822\n\nSubject: inner\n\ninner\n--b b--\nepilogue\n",
    b"Content-Type: multipart/alternative; boundary=a\nContent-Language: de, en\nContent-MD5: eA==\n\n--a\n\n1\n--a\n"
    b"Content-Type: multipart/related; boundary=aa\n\n--aa\nContent-Id: <x>\nContent-Transfer-Encoding: base64\n\neA==\n"
    b"--aa--\n--a--\n",
    b"Received: by x; Tue, 24 Nov 2026 10:11:12\n\tfolded\nReferences: <a@b> <c@d>\n <e@f>\nSender: (c) x@y (d)\n\n\n",
    b"\n", b"", b"no header at all", b":\n:\n\n", b"Subject:" + b"\n " * 500 + b"x\n\ny",
]  # fmt: skip
ADDRESSES = [
    b"<a@b.test>", b"<>", b'<"a b"@c.test>', b"<@x,@y:a@b.test>", b"<a@[127.0.0.1]>", b"<a@[IPv6:::1]>",
    "<\u00e4@\u00e4.test>".encode(), b"<a.b@c> SIZE=10 BODY=8BITMIME AUTH=a+2Bb", b"<a@b> NOTIFY=NEVER ORCPT=rfc822;x",
    b"+41x+2B", b"250-ok", b"250 ok", b"421", b"99 x", b"5555 y",
]  # fmt: skip
NAMES = (b"subject", b"from", b"to", b"date", b"message-id", b"x", b"")


def uids(rng: random.Random) -> UidSet:
    top = rng.choice([3, 40, 200, 0xFFFFFFFF])
    flat = [rng.choice([0, 1, top, rng.randint(1, top)]) for _ in range(2 * rng.randint(0, 6))]
    return UidSet.of_ranges(flat, rng.randint(0, top))


def page(rng: random.Random) -> bytes:
    base = rng.choice([0, 32, 4096])
    packed = b"".join(
        pages.pack(base + n, rng.randrange(64), rng.randrange(1 << 40), rng.getrandbits(64), rng.randrange(-9, 1 << 34),
                   rng.getrandbits(32), rng.getrandbits(32))
        for n in range(1, 32) if rng.random() < 0.6
    )  # fmt: skip
    return pages.extend(None, packed)


def summary(rng: random.Random) -> bytes:
    return mime.scan(some(rng, spoil(rng, rng.choice(MESSAGES))))


def fuzz_imap(rng: random.Random) -> None:
    line = spoil(rng, damaged(rng, LINES)[:-2])
    reader = imap.Reader(line)
    calls = [
        reader.head, reader.sp, reader.end, reader.more, reader.peek, reader.open, reader.close, reader.atom,
        reader.number, reader.string, reader.astring, reader.nstring, reader.list_mailbox, reader.sequence_set,
        reader.flag, reader.flag_list, reader.date, reader.date_time, reader.fetch_items, reader.search, reader.store,
        lambda: reader.skip(rng.choice(SPICE)), lambda: reader.data_at(rng.choice([0, 1, 5, 1 << 40, -1])),
    ]  # fmt: skip
    reader.head()
    for _ in range(rng.randint(1, 6)):
        with contextlib.suppress(imap.ParseError):
            rng.choice(calls)()  # type: ignore[operator]
    imap.literal_at_end(some(rng, line))
    imap.quote(line)


def fuzz_lines(rng: random.Random) -> None:
    data = spoil(rng, rng.choice(MESSAGES)) + rng.choice([b"", b".\n", b"\r\n.\r\n", b"."])
    reader = lines.ContentReader(rng.random() < 0.5, rng.choice([0, 10, 100, 1 << 30]), rng.random() < 0.5)
    at = 0
    while at < len(data) and not reader.done:
        part = some(rng, data[at : at + rng.choice([1, 2, 7, 500])])
        at += max(1, reader.feed(part, 0))
        if rng.random() < 0.3:
            assert len(reader.take()) >= 0
    if not reader.done and rng.random() < 0.5:
        reader.finish()
    reader.take()
    assert lines.to_lf(lines.to_crlf(some(rng, data))) is not None
    lines.dot_stuffed(some(rng, data), rng.random() < 0.5)
    assert 0 <= lines.top_end(data, rng.choice([0, 1, 5, 1 << 40])) <= len(data)
    start = rng.randint(0, len(data))
    lines.find_crlf(some(rng, data), start, rng.randint(start, len(data)))


def _names(stored: bytes) -> tuple[bytes, int, bytes, bytes]:
    """The names of a message that an earlier version stored."""
    return KEY[:8], 0, KEY[:8], KEY[4:]


def fuzz_mime(rng: random.Random) -> None:
    data = spoil(rng, rng.choice(MESSAGES) + rng.choice(MESSAGES))
    made = mime.scan(some(rng, data))
    assert len(made) <= mime.MOST
    mime.scan(some(rng, data), rng.random() < 0.5, rng.choice([0, 1, 5000, 1 << 20]))
    mime.counted(some(rng, spoil(rng, made)))
    assert len(mime.with_prefix(made, spoil(rng, b"Received: x\n y\n"))) <= mime.MOST
    with contextlib.suppress(ValueError):
        mime.with_prefix(spoil(rng, made), b"A: b\n")
    mime.served_size(some(rng, data))
    mime.is_bulk(data[:20])
    for stored in (made, spoil(rng, made + bytes(32)), spoil(rng, idents.with_preview(made, b"words") + made[-32:])):
        idents.named(some(rng, stored)), idents.preview(some(rng, stored))
        assert 0 <= idents.rest_at(some(rng, stored)) <= len(stored)
        idents.entered(KEY, [(7, some(rng, stored), 9)], True, _names)
        idents.entered(KEY, [(7, some(rng, stored), 9)], False, _names)
        row = [(KEY + bytes(4), spoil(rng, b"\x05\0nname" + stored))]
        with contextlib.suppress(struct.error):
            transfers.copied(row, {0: (8, rng.choice([b"nname", b"cother", b"s" + data[:18]]))}, KEY, 9, _names)
        with contextlib.suppress(struct.error):
            transfers.removed(row, KEY, _names)
        with contextlib.suppress(struct.error):
            transfers.idents([data[:20]]), transfers.spans([data[:20]], 8)
        words.first(some(rng, data), some(rng, stored), rng.choice([1, 200]))
        with contextlib.suppress(ValueError):
            assert idents.preview(idents.with_preview(some(rng, stored), data[:1024])) == data[:1024]
    words.shortened(some(rng, data), rng.choice([1, 200]), rng.random() < 0.5, rng.random() < 0.5)


def fuzz_fetch(rng: random.Random) -> None:
    one = page(rng)
    known = [record[0] for record in pages.records(one)]
    made = {uid: some(rng, spoil(rng, summary(rng)) if rng.random() < 0.6 else summary(rng)) for uid in known}
    whole = UidSet.of(known)
    if rng.random() < 0.3:
        one = spoil(rng, one)
    items = rng.randrange(1024)
    if rng.random() < 0.2:
        items &= ~NEEDS_SUMMARY
    asked = [(b"BODY[HEADER.FIELDS (X)]", tuple(rng.sample(NAMES, 2)))]
    args = (some(rng, one), whole, uids(rng) if rng.random() < 0.3 else whole, items)
    keywords = [b"k%d" % n for n in range(rng.choice([0, 3, 64]))]
    fetch.page(
        Out(),
        *args,
        keywords,
        rng.choice([None, whole]),
        made if items & NEEDS_SUMMARY else None,
        asked,
        rng.random() < 0.5,
    )
    fetch.header_fields(some(rng, spoil(rng, rng.choice(MESSAGES))), tuple(rng.sample(NAMES, 3)), rng.random() < 0.5)
    sections = rng.sample([(b"", b"BODY[]"), (b"HEADER", b"BODY[HEADER]"), (b"TEXT", b"BODY[TEXT]")], rng.randint(0, 3))
    uid = rng.choice([*known, 1])
    content = some(rng, spoil(rng, rng.choice(MESSAGES)))
    fetch.message(Out(), args[0], whole, uid, items, keywords, None, made.get(uid, b""), asked, content, sections)


def fuzz_pages(rng: random.Random) -> None:
    one = some(rng, spoil(rng, page(rng)))
    which = uids(rng)
    program = array(
        "q", [rng.choice([rng.randrange(-2, 14), rng.randrange(1 << 33)]) for _ in range(3 * rng.randint(1, 9))]
    )
    calls = [
        lambda: pages.head(one), lambda: pages.span(one), lambda: pages.presence(one), lambda: pages.records(one),
        lambda: pages.extend(one, spoil(rng, pages.pack(5, 1, 2, 3, 4, 5, 6))), lambda: pages.tally(some(rng, bytes(one))),
        lambda: pages.update(one, which, rng.choice([-1, 0, 1]), 9, 1, 1 << 41, rng.choice([5, (1 << 64) - 1])),
        lambda: pages.remove(one, which, rng.randrange(16)), lambda: pages.changed_since(one, which, 7),
        lambda: pages.sizes(one, which), lambda: pages.listed([one, page(rng)]), lambda: pages.search([one, page(rng)], which, program, [which]),
    ]  # fmt: skip
    for call in rng.sample(calls, 4):
        with contextlib.suppress(ValueError):
            call()


def fuzz_rows(rng: random.Random) -> None:
    made = []
    for uid in range(1, 8):
        value = (5).to_bytes(2, "little") + b"nabcd" + summary(rng)
        key = KEY + uid.to_bytes(4, "big")
        if rng.random() < 0.4:
            value = spoil(rng, value)
        if rng.random() < 0.1:
            key = spoil(rng, key)
        made.append((some(rng, key), some(rng, value)))
    which = uids(rng)
    name = rng.choice(NAMES)
    for call in (
        lambda: rows.up_to(iter(made), KEY, rng.randint(0, 9), rng.randint(0, 9)),
        lambda: rows.search_field(iter(made), KEY, which, name, rng.choice([b"", b"a", b"x" * 300])),
        lambda: rows.search_addresses(iter(made), KEY, which, rng.randint(2, 7), rng.choice([b"", b"a", b"x" * 300])),
        lambda: rows.values(iter(made), KEY, which, tuple(rng.sample(NAMES, 2))),
        lambda: rows.marks(iter(made), KEY, which),
    ):
        with contextlib.suppress(ValueError):
            call()


def fuzz_order(rng: random.Random) -> None:
    """Damaged summaries as SORT, THREAD and SEARCH read them, and values of any octets."""
    table = Threads(rng.randbytes(16))
    first = 1
    for _ in range(rng.randint(1, 3)):
        numbers = list(range(first, first + rng.randint(0, 6)))
        first += 9
        items = [(uid, some(rng, spoil(rng, summary(rng)))) for uid in numbers if rng.random() < 0.9]
        undecoded, missing = table.add(numbers, [rng.getrandbits(40) for _ in numbers], items)
        for uid in missing:
            table.complete(uid, spoil(rng, summary(rng)), spoil(rng, b"<a@b> <c@d>" * rng.randint(0, 4)))
        for uid, subject in undecoded:
            table.subject(uid, subject, rng.random() < 0.5)
        found, _, _ = order.values(numbers, items, rng.choice(list(order.NAMES.values())))
        order.ranked([([one if isinstance(one, bytes) else b"" for one in found], rng.random() < 0.5)], len(found))
        for _ in range(2):
            table.answer(rng.randrange(3), uids(rng), uids(rng) if rng.random() < 0.5 else None)
        if rng.random() < 0.3:
            table.keep(uids(rng))
    made = spoil(rng, summary(rng))
    (
        envelope.addresses(made, rng.randint(2, 7)),
        envelope.line(made, rng.randint(2, 7)),
        envelope.string(made, rng.randint(0, 9)),
    )
    value = spoil(rng, b"re: [a] fwd[b]: [fwd: <x@y>] (fwd) 7 Feb 1994 21:52:25 -0800")
    order.base_subject(value), order.sent_date(value), order.message_ids(value)
    order.kept(array("I", [5, 3, 9]), uids(rng)), order.numbered(array("I", [5, 3, 9]), uids(rng))


def fuzz_smtp(rng: random.Random) -> None:
    data = spoil(rng, rng.choice(ADDRESSES))
    start, utf8 = rng.randint(0, len(data)), rng.random() < 0.5
    for call in (
        lambda: smtp.parse_mailbox(some(rng, data), start, utf8), lambda: smtp.parse_path(some(rng, data), start, utf8),
        lambda: smtp.parse_params(some(rng, data), start), lambda: smtp.reply_line(some(rng, data)),
        lambda: smtp.xtext(smtp.to_xtext(data)), lambda: smtp.xtext(data),
    ):  # fmt: skip
        with contextlib.suppress(ValueError):
            call()


def fuzz_header(rng: random.Random) -> None:
    data = some(rng, spoil(rng, rng.choice(MESSAGES)))
    end = header.end(data)
    starts = array("I", header.starts(data))
    for start in starts:
        name, value, behind = header.field(data, start)
        assert start < name < value <= behind <= end
    header.text_start(data, rng.randint(0, len(data)), rng.random() < 0.5)
    assert sum(header.counts(data, NAMES)) <= len(starts)
    assert len(header.without(data, NAMES)) <= end
    header.value(data, rng.choice(NAMES), rng.randint(0, 9))
    some_fields = header.values(data, NAMES, rng.choice([0, 100, len(data)]))
    assert some_fields is None or len(some_fields) == sum(header.counts(data, NAMES))
    with contextlib.suppress(ValueError):
        header.field(data, rng.randint(-2, len(data) + 2))


NAMED = (
    b'<a href="http://www.bank.test:x@ev%69l.te\nst:80/?u=https%3A%2F%2Ftwo.test">x</a> http:\\\\three.test\\p //four.test '
    b"src=//five.test/ joe@six.test mailto:joe%40seven.test www.eight.test. http://[2001:db8::1]/ ftp://10.0.0.1 "
    + "http://neun\u3002test \uff41\uff0eb.test http://a\u00adb.test\u3001x".encode()
    + b" &#104;ttp&colon;&sol;&#x2f;ten&period;test&amp;x &#0;&#x110000;&#99999999999; "
)


def fuzz_links(rng: random.Random) -> None:
    data = spoil(rng, NAMED)
    plain = links.unreferenced(some(rng, data))
    assert len(plain) <= len(data)
    for text in (data, plain):
        most = rng.choice([0, 1, 5, 200])
        hosts, addresses, more = links.hosts(some(rng, text), most)
        assert len(hosts) <= most >= len(addresses) and more in (True, False)
        assert all(0 < len(one) <= 255 for one in (*hosts, *addresses))
        assert len(set(hosts)) == len(hosts)


def fuzz_texts(rng: random.Random) -> None:
    data = spoil(rng, b"a word and a word" * rng.randint(0, 5))
    ends = array("I", sorted(rng.randint(0, len(data) + 3) for _ in range(rng.randint(0, 12))))
    if rng.random() < 0.5 and len(ends) > 1:
        ends[rng.randrange(len(ends))] = rng.getrandbits(32)
    with contextlib.suppress(ValueError):
        texts.find(ends, data, spoil(rng, b"a word"), rng.random() < 0.5)


def fuzz_uidset(rng: random.Random) -> None:
    a, b = uids(rng), uids(rng)
    for call in (
        lambda: a.minus(b), lambda: a.both(b), lambda: a.plus(b), lambda: a.at(b), lambda: a.seqs(b),
        lambda: a.seq(rng.getrandbits(32)), lambda: a.uid(rng.getrandbits(32)), lambda: a.octets(), lambda: a.ranges(),
        lambda: (a.first, a.last, len(a), a.total),
        lambda: a.plus_pages([(32 * n, rng.getrandbits(32)) for n in sorted(rng.sample(range(99), 4))], rng.randrange(999)),
        lambda: UidSet.of(rng.choices(range(1, 9), k=4)), lambda: a.numbers() if len(a) < 10000 else b"",
    ):  # fmt: skip
        with contextlib.suppress(ValueError, OverflowError):
            call()


REPLIES = [
    bytes.fromhex(text)
    for text in (
        "123481800001000200000000016104746573740000010001c00c0001000100000005000400000001c00c00010001000000050004c0000201",
        "123481800001000300000000016104746573740000010001c00c0005000100000005000401620163c024c00c0005000100000005000401620163",
        "1234818000010001000100000161047465737400000f0001c00c000f00010000000500090005046d61696cc00cc0110006000100000005"
        "001601610001620000000001000000020000000300000004000000050000",
        "123481800001000100000000016104746573740000100001c00c001000010000000500110b763d73706631202d616c6c046d6f7265",
    )
]
SIGNATURE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=b.test; s=one; i=@b.test; t=1; l=5; h=from : to;\n"
    b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=eA=\n =\n"
)
CHAIN = (
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; t=1; d=b.test; s=one; b=eA==\n"
    b"ARC-Message-Signature: i=1; " + SIGNATURE.partition(b"v=1; ")[2] + b"ARC-Authentication-Results: i=1; x; none\n"
)
RECORDS = [
    b"v=spf1 a:%{d}/24 mx//64 ip4:192.0.2.0/24 ip6:2001:db8::/32 include:%{ir}.x.test exists:%{L1r+-}.y.test ?all exp=z.test",
    b"v=DMARC1; p=reject; sp=none; np=quarantine; rua=mailto:a@b.test!10m, https://c.test; adkim=s; fo=1:d; psd=y; t=y",
    b"v=DKIM1; k=rsa; h=sha256; s=email:*; t=y:s; n=x; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6W"
    b"k08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLz"
    b"BfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
    b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
]


def fuzz_dns(rng: random.Random) -> None:
    data = spoil(rng, rng.choice(REPLIES))
    for name, kind in (("a.test", 1), ("a.test", 15), ("a.test", 16)):
        with contextlib.suppress(ValueError):
            _, found, at_end, ttl = dns.answer(some(rng, data), dns.wire(name), kind)
            assert at_end.isprintable() and ttl >= -1 and len(found) <= len(data)
    with contextlib.suppress(ValueError):
        assert dns.text(spoil(rng, dns.wire("a.b.test"))).isprintable()
    with contextlib.suppress(ValueError):
        dns.wire(data.decode("latin-1"))


def fuzz_dkim(rng: random.Random) -> None:
    """Bodies cut anywhere, headers with damaged signatures and chains."""
    body = spoil(rng, rng.choice(MESSAGES))
    for relaxed in (False, True):
        out, once = bytearray(), bytearray()
        made, whole = canonical.Body(relaxed, out.extend), canonical.Body(relaxed, once.extend)
        at = 0
        while at < len(body):
            step = rng.choice([1, 2, 7, 500])
            made.feed(some(rng, body[at : at + step]))
            at += step
        made.finish()
        whole.feed(body)
        whole.finish()
        assert out == once
    content = dkim.Content(spoil(rng, CHAIN + SIGNATURE + rng.choice(MESSAGES)))
    content.fields.canonical([rng.choice(NAMES) for _ in range(rng.randint(0, 9))], rng.random() < 0.5)
    found, _ = dkim.read(content)
    usual = content.fields.usual(rng.choice([0, 10, 1024]), rng.randint(0, 5), NAMES[:3])
    for place, *_ in usual[6] if usual is not None else ():
        content.fields.covered(place, [rng.choice(NAMES) for _ in range(rng.randint(0, 9))], rng.random() < 0.5)
    arc.read(content)
    content.feed(body)
    content.finish()
    for one in found:
        if isinstance(one, dkim.Signature):
            dkim.covered(content, one)
    with contextlib.suppress(ValueError):
        canonical.field(some(rng, spoil(rng, SIGNATURE)), rng.random() < 0.5)
    for name in (b"dkim-signature", *arc.NAMES):
        for field in content.fields.named(name):
            assert len(tags.without(field, b"b")) <= len(field)
            halves = tags.signature(field)
            assert halves is None or sum(map(len, halves[:3])) <= len(field)


def fuzz_records(rng: random.Random) -> None:
    """What strangers publish, and what they say that others found."""
    text = spoil(rng, rng.choice(RECORDS))
    dmarc.parse(text)
    for call in (
        lambda: spf_record.parse(text),
        lambda: keys.parse(text),
        lambda: macros.domain_spec(text.decode("latin-1")),
    ):
        with contextlib.suppress(ValueError):
            call()
    header_text = spoil(rng, b'Authentication-Results: (a (b)) "mx.test" 1; dkim=pass\nFrom: a@b.test\n' * 2)
    with contextlib.suppress(dmarc.NoAuthor):
        dmarc.author(header_text)
    header_text = some(rng, header_text)
    kept = b"".join(results.pieces(b"", header_text, results.unwanted(header_text, "mx.test")))
    assert results.forged(kept, "mx.test") == []
    one = results.Result("dkim", "fail", (("header.d", text.decode("latin-1")),), "x", "y")
    line = authentication.joined(*authentication.cut("mx.test", results.line(one), (), ""), ())
    assert line.isascii() and line.count(b"\n") == line.count(b"\n\t") + 1


@functools.cache
def index(size: int) -> tuple[bytes, int]:
    """An LMDB file with rows of messages, and its last transaction."""
    rng = random.Random(size)
    with tempfile.TemporaryDirectory() as directory, lmdb.open(directory, max_dbs=3, map_size=1 << 26) as env:
        table = env.open_db(b"msg")
        for part in range(3):
            with env.begin(write=True) as txn:
                for uid in range(1 + part, size, 3):
                    value = (5).to_bytes(2, "little") + b"nabcd" + summary(rng) + bytes(rng.choice([0, 0, 900, 5000]))
                    txn.put(KEY + uid.to_bytes(4, "big"), value, db=table)
        return (Path(directory) / "data.mdb").read_bytes(), env.info()["last_txnid"]


def fuzz_leaves(rng: random.Random) -> None:
    made, last = index(rng.choice([3, 30, 300]))
    data = bytearray(made)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at = rng.randrange(len(data)) & rng.choice([~0, ~4095, ~4095 | 15, ~4095 | 63])
        data[at : at + 8] = rng.choice(
            [bytes(8), b"\xff" * 8, rng.randbytes(8), bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 : at + 8]]
        )[: len(data) - at]
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    which = uids(rng)
    for call in (
        lambda table: rows.up_to(table, KEY + bytes(4), 0xFFFFFFFE, 1 << 20),
        lambda table: rows.values(table, KEY, which, NAMES[:2]),
        lambda table: rows.marks(table, KEY, which),
        lambda table: leaves.Summaries(table, KEY, which, {}).items(),
        lambda table: [leaves.Summaries(table, KEY, which, {}).get(rng.randint(1, 300)) for _ in range(9)],
        lambda table: fetch.page(
            Out(64), page(rng), which, which, rng.getrandbits(8), [], None, leaves.Summaries(table, KEY, which, {}), [],
            False),
    ):  # fmt: skip
        with contextlib.suppress(ValueError, leaves.Damaged):
            table = leaves.table(data, last, b"msg")
            if table is not None:
                call(table)


LINES = corpus("imap")
PARSERS: dict[str, Callable[[random.Random], None]] = {
    name.removeprefix("fuzz_"): function for name, function in sorted(globals().items()) if name.startswith("fuzz_")
}
EXPECTED = (ValueError, OverflowError)


def once(parser: str, seed: int) -> str:
    """One try; what went wrong, or nothing."""
    started = time.process_time()
    try:
        PARSERS[parser](random.Random(f"{parser} {seed}"))
    except EXPECTED:
        pass
    except Exception as error:
        return repr(error)
    took = time.process_time() - started
    return f"took {took:.1f} s" if took > SLOW else ""


def run(parser: str, seconds: float, seed: int) -> int:
    """Try until the time is up or something was found; the seed is written down before each try."""
    CASES.mkdir(exist_ok=True)
    note = CASES / f".{parser}.{os.getpid()}"
    with open(note, "wb", buffering=0) as file:
        deadline = time.monotonic() + seconds
        first = seed
        while time.monotonic() < deadline:
            os.pwrite(file.fileno(), b"%020d" % seed, 0)
            found = once(parser, seed)
            if found:
                print(f"{parser} {seed}: {found}", flush=True)
                return 1
            seed += 1
    note.unlink()
    print(f"{parser}: {seed - first} tries, no finding", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parser", choices=list(PARSERS))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(options.parser, options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
