"""Fuzzes what other hosts and programs say, beside their commands and messages: reports of DMARC and complaints, results
in chains of ARC, answers of scanners, and tokens of ours that come back in addresses. `tests.fuzz.parsers` runs them.

Whatever they get, the readers answer within their bounds or raise the error of their interface, and no token that was
changed leads to anybody.
"""

import asyncio
import contextlib
import gzip
import random
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeVar

from fastmail.directory.batv import Batv
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List
from fastmail.directory.srs import Srs
from fastmail.feedback import carrier, complaint, reading, unpacking, writing
from fastmail.feedback.model import BadReport
from fastmail.feedback.reading import SIGNATURES, VALUE
from fastmail.policy import dmarc, reported, results, sealers
from fastmail.policy.arc import Chain
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.reasons import Finding
from fastmail.policy.scanners import clamd, rspamd, spamd
from fastmail.policy.scanners.nouns import Scanner, TooLarge, Trouble
from tests.fuzz.spoiling import spoil
from tests.support.reporting import report
from tests.unit.feedback.test_carrier import arf
from tests.unit.feedback.test_complaint import FIELDS, ORIGINAL
from tests.unit.feedback.test_reading import OLD

T = TypeVar("T")
XML = [OLD.encode(), writing.xml(report())]
RESULTS = [
    b'mx.test 1; spf=pass (a (b) \\) c) smtp.mailfrom=a@author.test; dkim=pass reason="x;y" header.d=author.test',
    b"mx.test; dmarc=fail (p=reject) header.from=author.test; arc=none",
    b"foo (x) 1 (y);\n\tdkim (a) / 1 (b) = (c) fail\n\tpolicy (d) . (e) expired\n\t(f) = (g) 1362471462",
    b"mx.test; none",
]
CLAMD = [
    b"stream: OK",
    b"stream: Eicar-Signature FOUND",
    b"INSTREAM size limit exceeded. ERROR",
    b"instream(1.2.3.4@5): OK",
]
SPAMD = [
    b"SPAMD/1.1 0 EX_OK\r\nContent-length: 23\r\nSpam: True ; 15.0 / 5.0\r\n\r\nBAYES_99,HTML_MESSAGE\r\n",
    b"SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\nContent-length: 2\r\n\r\n\r\n",
    b"SPAMD/1.0 76 Bad header line\r\n",
]
RSPAMD = [
    b'{"action":"reject","score":15.5,"required_score":15,"symbols":{"A":{"score":5.5,"options":["x"]},"B":{"score":-1}},'
    b'"messages":{"smtp_message":"no"},"milter":{"add_headers":{"X-A":"b","X-C":[{"value":"d","order":1},"e"]},'
    b'"remove_headers":{"X-Old":0,"Subject":1}}}',
    b'{"action":"add header","score":1e308,"messages":[]}',
]  # fmt: skip
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SENDER, MEMBER, OF = "joe.doe@far.test", "member@far.test", "crew@example.test"
ROW = List(OF)
AUTHOR = Dmarc("fail", "", "sub.author.test", "author.test", "reject", "reject", "author.test", (), dmarc.parse(b"v=DMARC1; p=reject"))  # fmt: skip


def fuzz_results(rng: random.Random) -> None:
    """What sealers saw (RFC 8601, RFC 8617 4.1.1)."""
    value = spoil(rng, rng.choice(RESULTS))
    if rng.random() < 0.3:
        value += b";" + spoil(rng, rng.choice(RESULTS)).partition(b";")[2] * rng.choice([1, 3, 60])
    text = value.decode("utf-8", "replace")
    found = reported.read(text)
    assert found is None or (len(found) <= reported.RESULTS and len(text) <= reported.LARGEST)
    for one in found or ():
        assert one.method == one.method.lower() and len(one.properties) <= reported.PROPERTIES
    chain = Chain("pass", "", 2, ("a.test", "b.test"), (text, rng.choice(RESULTS).decode()))
    sealer, why = sealers.vouching(chain, AUTHOR, rng.choice([("a.test",), ("a.test", "b.test"), ()]))
    assert why.isprintable() and (not sealer or why)
    for read in (results.server, results.receiver):
        name = read(spoil(rng, b' pass (c) client-ip=192.0.2.1; receiver="mx.test"; helo=x'))
        assert name is None or len(name) <= results.LOOKED_AT


def fuzz_reports(rng: random.Random) -> None:
    """Aggregate reports (RFC 9990): XML, packed or not, alone or in a message."""
    data = spoil(rng, rng.choice(XML))
    with contextlib.suppress(BadReport):
        found = reading.read([data])
        assert found.records and all(messages > 0 for _, messages in found.records)
        for row, _ in found.records:
            assert len(row.signatures) <= SIGNATURES
            assert all(len(value) <= VALUE for signature in row.signatures for value in signature)
    packed = spoil(rng, gzip.compress(data, mtime=0))
    room = unpacking.Room(1 << 20)
    with contextlib.suppress(BadReport):
        assert sum(map(len, unpacking.pieces(packed, room))) <= 1 << 20
    shorter, made = writing.packed(report(), 1 << 20)
    mail = writing.mail(shorter, made, "postmaster@near.test", "near.test", ["d@example.org"], 0.0)
    carried = carrier.read(spoil(rng, mail))
    assert len(carried.reports) + len(carried.faults) <= carrier.REPORTS + 1


def fuzz_complaints(rng: random.Random) -> None:
    """Complaints (ARF, RFC 5965)."""
    with contextlib.suppress(BadReport):
        found = complaint.read(spoil(rng, FIELDS), spoil(rng, ORIGINAL))
        for text in (found.kind, found.sender, found.agent, found.domain, *found.recipients):
            assert text.isprintable() and len(text) <= 320
    assert len(carrier.read(spoil(rng, arf())).complaints) <= 1


def _read(answer: bytes, read: Callable[[asyncio.StreamReader], Awaitable[T]]) -> T:
    async def main() -> T:
        reader = asyncio.StreamReader(limit=1 << 16)
        reader.feed_data(answer)
        reader.feed_eof()
        return await read(reader)

    return asyncio.run(main())


def _check(found: Finding) -> None:
    """What every finding promises."""
    assert found.reply[2].isprintable() and len(found.reply[2]) <= 300
    for reason in found.reasons:
        assert len(reason.why) <= 200 and abs(reason.score) < float("inf")
    for name, value in found.add:
        assert name.isascii() and "\n" not in value and value.isascii()


def fuzz_scanners(rng: random.Random) -> None:
    """Answers of ClamAV, SpamAssassin and rspamd, to questions and to lessons."""
    with contextlib.suppress(Trouble, TooLarge):
        _check(clamd.finding(Scanner("clamav", "", "clamav"), spoil(rng, rng.choice(CLAMD)).decode("utf-8", "replace")))
    with contextlib.suppress(Trouble):
        _check(rspamd.finding(Scanner("rspamd", "", "rspamd"), spoil(rng, rng.choice(RSPAMD))))
    answer = spoil(rng, rng.choice(SPAMD))
    with contextlib.suppress(Trouble):
        said, rules = _read(answer, spamd._read)
        _check(spamd.finding(Scanner("spamassassin", "", "spamassassin"), said, rules))
    body = rng.choice(RSPAMD)
    framed = HTTP + rng.choice(
        [b"Content-Length: %d\r\n\r\n%b" % (len(body), body), b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]
    )  # fmt: skip
    with contextlib.suppress(Trouble, OSError, EOFError):
        _read(spoil(rng, framed), rspamd._read)


@cache
def _keys() -> MemoryDirectory:
    place = MemoryDirectory()
    place.add_domain("example.test")
    return place


def fuzz_tokens(rng: random.Random) -> None:
    """Addresses and subjects that bear tokens of ours (SRS, BATV, VERP, joining a list), changed on their way."""
    srs, batv, tokens = Srs(_keys()), Batv(_keys()), Tokens(_keys())
    srs.prepare()

    def changed(text: str) -> str:
        return spoil(rng, text.encode()).decode("utf-8", "surrogateescape")

    forwarded = srs.forward(
        rng.choice([SENDER, srs.forward(SENDER, "x@other.test").replace("other.test", "far.test")]), "me@example.test"
    )
    for address in (changed(forwarded), forwarded):
        sender = srs.reverse(address)
        assert not sender or sender.lower().rpartition("@")[2] == "far.test", address
        srs.destinations(address), srs.looks_like_one(address)
    assert srs.reverse(forwarded)
    tagged = batv.tagged("Me@example.test")
    found = batv.untagged(changed(tagged))
    assert found.lower() in ("", "me@example.test") or not found.endswith("@example.test"), found
    assert batv.untagged(tagged) == "Me@example.test"
    detail = tokens.bounces(OF, MEMBER).partition("+")[2].rpartition("@")[0]
    member = tokens.bounced(ROW, changed(detail))
    assert member[0].lower() in ("", MEMBER) and not member[1], member
    assert tokens.bounced(ROW, detail) == (MEMBER, "")
    joining = tokens.joining(OF, MEMBER)
    assert tokens.joins(ROW, changed(f"Re: subscribe {joining}")) in ("", MEMBER)
    assert tokens.joins(ROW, joining) == MEMBER
