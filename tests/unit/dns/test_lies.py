"""A name server that lies, babbles or loops: every question ends soon, with an answer or as trouble that only defers."""

import asyncio
import itertools
import random
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from fastmail.dns.resolver import LookupFailed, NoSuchDomain, NullMx, Resolver
from tests.support import clock

Answer = Callable[[dns.message.Message], bytes]


class Liar(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.transport.sendto(self.answer(dns.message.from_wire(data)), peer)  # type: ignore[attr-defined]


def reply(query: dns.message.Message, *records: tuple[str, str, str]) -> dns.message.Message:
    made = dns.message.make_response(query)
    made.flags |= dns.flags.RA
    for name, kind, text in records:
        made.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
    return made


def cname_loop(query: dns.message.Message) -> bytes:
    return reply(query, ("far.test.", "CNAME", "b.test."), ("b.test.", "CNAME", "far.test.")).to_wire()


def long_chain(query: dns.message.Message) -> bytes:
    names = ["far.test."] + [f"c{n}.test." for n in range(40)]
    return reply(query, *((a, "CNAME", b) for a, b in itertools.pairwise(names))).to_wire()


def noise(query: dns.message.Message) -> bytes:
    return random.Random(1).randbytes(400)


def half(query: dns.message.Message) -> bytes:
    return reply(query, ("far.test.", "MX", "10 mail.far.test.")).to_wire()[:-5]


def another_id(query: dns.message.Message) -> bytes:
    query.id ^= 1
    return reply(query, ("far.test.", "MX", "10 evil.test.")).to_wire()


def another_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("evil.test.", "MX", id=query.id)
    return reply(other, ("evil.test.", "MX", "10 evil.test.")).to_wire()


def other_records(query: dns.message.Message) -> bytes:
    return reply(query, ("evil.test.", "MX", "10 evil.test.")).to_wire()


def refused(query: dns.message.Message) -> bytes:
    made = reply(query)
    made.set_rcode(dns.rcode.REFUSED)
    return made.to_wire()


def cut_short(query: dns.message.Message) -> bytes:
    made = reply(query)
    made.flags |= dns.flags.TC  # and nobody listens by TCP
    return made.to_wire()


async def asked(answer: Answer, lifetime: float = 0.7) -> list[str]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Liar(answer), local_addr=("127.0.0.1", 0)
    )
    resolver = Resolver([f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"])
    resolver.lifetime = lifetime
    try:
        async with asyncio.timeout(5):
            return [one.host for one in await resolver.mx("far.test")]
    finally:
        transport.close()


@pytest.mark.parametrize(
    "answer", [cname_loop, long_chain, noise, half, another_id, another_question, refused, cut_short]
)
def test_s38_trouble_defers(answer: Answer) -> None:
    with pytest.raises(LookupFailed):
        clock.run(asked(answer, 0.2))


TEXTS = tuple(("far.test.", "TXT", " ".join(['"' + f"{n:>250}" + '"'] * 8)) for n in range(31))


@pytest.mark.parametrize(
    "records",
    [
        [("far.test.", "MX", f"{n} mail{n}.far.test.") for n in range(2500)],
        [("far.test.", "MX", "0 mail0.far.test."), *TEXTS],
        TEXTS,
    ],
    ids=["hosts", "texts beside a host", "texts"],
)
def test_r15_answers_of_64_kib_come_by_tcp(records: list[tuple[str, str, str]]) -> None:
    """Cut short by UDP; by TCP all that a message of DNS may hold, asked for or not."""
    kinds = {kind for _, kind, _ in records}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = reply(dns.message.from_wire(await reader.readexactly(size)), *records).to_wire(max_size=65535)
        assert len(answer) > 60_000
        writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
        writer.close()

    async def work() -> list[str]:
        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            udp, _ = await loop.create_datagram_endpoint(lambda: Liar(cut_short), local_addr=("127.0.0.1", port))
            resolver = Resolver([f"127.0.0.1:{port}"])
            try:
                async with asyncio.timeout(10):
                    if kinds == {"TXT"}:
                        return await resolver.texts("far.test")
                    return [one.host for one in await resolver.mx("far.test")]
            finally:
                udp.close()

    found = asyncio.run(work())
    if kinds == {"TXT"}:
        assert sorted(map(len, found)) == [2000] * 31
    else:
        assert found == [f"mail{n}.far.test" for n in range(sum(kind == "MX" for _, kind, _ in records))]


def test_records_that_nobody_asked_for_do_not_count() -> None:
    assert asyncio.run(asked(other_records)) == ["far.test"]


@pytest.mark.parametrize(
    ("text", "error"), [("0 .", NullMx), ("10 " + ".".join(["a" * 60] * 4) + ".", None), (r"10 a\000b.test.", None)]
)
def test_odd_hosts(text: str, error: type[Exception] | None) -> None:
    def answer(query: dns.message.Message) -> bytes:
        return reply(query, ("far.test.", "MX", text)).to_wire()

    if error is not None:
        with pytest.raises(error):
            asyncio.run(asked(answer))
        return
    (host,) = asyncio.run(asked(answer))
    assert "\0" not in host


def test_names_that_are_none() -> None:
    for name in ("a..b", "x" * 70 + ".test", ".".join(["a" * 60] * 6), "\ud800.test"):
        with pytest.raises(NoSuchDomain):
            asyncio.run(Resolver(["127.0.0.1:1"]).mx(name))


def test_servers_that_do_not_know_edns_are_asked_without() -> None:
    """RFC 6891 7."""
    seen = []

    def answer(query: dns.message.Message) -> bytes:
        seen.append(query.edns)
        made = reply(query, ("far.test.", "MX", "10 mail.far.test."))
        if query.edns >= 0:
            made = reply(query)
            made.set_rcode(dns.rcode.FORMERR)
        made.use_edns(False)
        return made.to_wire()

    assert asyncio.run(asked(answer)) == ["mail.far.test"]
    assert seen[-2:] == [0, -1]
