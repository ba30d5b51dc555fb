"""What every implementation of the port of the DNS keeps: the one in memory, and the one that asks a name server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from fastmail.dns.interface import FAILED, FOUND, NO_DATA, NO_NAME, Answer, Budget, Names
from fastmail.dns.memory import MemoryResolver
from fastmail.dns.resolver import Resolver
from tests.support.hosts import name_server

RECORDS = {
    ("a.test", "TXT"): ['"v=spf1 -all"', '"other"'],
    ("a.test", "A"): ["192.0.2.1"],
    ("a.test", "AAAA"): ["2001:db8::1"],
    ("a.test", "MX"): ["10 mail.a.test.", "0 ."],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["Mail.A.test."],
    ("_25._tcp.a.test", "TLSA"): ["3 1 0 00ff"],
    ("alias.test", "CNAME"): ["a.test."],
    ("xn--fa-hia.test", "A"): ["192.0.2.7"],
}
IN_MEMORY = {
    ("a.test", "TXT"): [b"v=spf1 -all", "other"],
    ("a.test", "A"): ["192.0.2.1"],
    ("a.test", "AAAA"): ["2001:db8::1"],
    ("a.test", "MX"): [(10, "mail.a.test"), (0, "")],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.a.test"],
    ("_25._tcp.a.test", "TLSA"): [(3, 1, 0, b"\0\xff")],
    ("alias.test", "CNAME"): ["a.test"],
    ("xn--fa-hia.test", "A"): ["192.0.2.7"],
}


@asynccontextmanager
async def memory() -> AsyncIterator[Names]:
    made = MemoryResolver(IN_MEMORY)  # type: ignore[arg-type]
    made.broken.add("broken.test")
    made.slow.add("slow.test")
    yield made


@asynccontextmanager
async def network() -> AsyncIterator[Names]:
    server = await name_server({key: value for key, value in RECORDS.items() if key[1] != "CNAME"})
    server.aliases["alias.test"] = "a.test"
    server.broken.add("broken.test")
    server.silent.add("slow.test")
    made = Resolver([f"127.0.0.1:{server.port}"])
    try:
        yield made
    finally:
        made.close()
        server.transport.close()


@pytest.fixture(params=[memory, network], ids=["memory", "network"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Answer]:
    def one(name: str, kind: str, budget: Budget | None = None) -> Answer:
        async def main() -> Answer:
            async with request.param() as names:
                return await names.ask(name, kind, budget)

        return asyncio.run(main())

    return one


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("a.test", "TXT", {b"v=spf1 -all", b"other"}),
        ("A.TEST.", "A", {"192.0.2.1"}),
        ("a.test", "AAAA", {"2001:db8::1"}),
        ("a.test", "MX", {(10, "mail.a.test"), (0, "")}),
        ("1.2.0.192.in-addr.arpa", "PTR", {"mail.a.test"}),
        ("_25._tcp.a.test", "TLSA", {(3, 1, 0, b"\0\xff")}),
        ("alias.test", "A", {"192.0.2.1"}),
        ("fa\u00df.test", "A", {"192.0.2.7"}),
    ],
)
def test_records(ask: Callable[..., Answer], name: str, kind: str, records: set[object]) -> None:
    answer = ask(name, kind)
    assert (answer.state, set(answer.records), answer.void) == (FOUND, records, False)


def test_where_aliases_end(ask: Callable[..., Answer]) -> None:
    assert ask("alias.test", "A").name == "a.test"


@pytest.mark.parametrize(
    ("name", "kind", "state"),
    [
        ("a.test", "PTR", NO_DATA),
        ("nowhere.test", "A", NO_NAME),
        ("broken.test", "A", FAILED),
        ("a..test", "A", NO_NAME),
        (".".join(["x" * 63] * 5), "TXT", NO_NAME),
        ("\ud800.test", "TXT", NO_NAME),
    ],
)
def test_nothing_is_told_from_no_name_and_from_trouble(
    ask: Callable[..., Answer], name: str, kind: str, state: str
) -> None:
    budget = Budget(3.0)
    answer = ask(name, kind, budget)
    assert (answer.state, answer.records, answer.void) == (state, (), state != FAILED)
    assert bool(answer.why) == (state == FAILED)
    assert budget.void == (state != FAILED)


def test_a_budget_ends_what_takes_too_long(ask: Callable[..., Answer]) -> None:
    started = time.monotonic()
    assert ask("slow.test", "A", Budget(0.3)).state == FAILED
    assert time.monotonic() - started < 2
    assert ask("a.test", "A", Budget(0.0, deadline=1.0)).state == FAILED
    assert ask("a.test", "A", Budget(most=0)).state == FAILED
    spent = Budget()
    assert ask("a.test", "A", spent).state == FOUND
    assert (spent.asked, spent.void) == (1, 0)
