"""smtp.footers: the domain's footer goes under what leaves, before it is queued, and under nothing else."""

import asyncio
from pathlib import Path

import pytest

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import SUSPENDED, Domain, List, Member
from fastmail.queue.spool import Spool
from fastmail.smtp import footers
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import USER, Bench
from tests.unit.smtp.test_own_limits import BODY, OTHER, enter, limit, run, send


async def queued(spool: Spool) -> bytes:
    (item, _), *_ = list(spool.jobs())
    return bytes(await spool.content(item))


@pytest.mark.parametrize("on_loop", [True, False])
def test_what_leaves_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_loop: bool) -> None:
    if not on_loop:
        monkeypatch.setattr(footers, "SCAN_ON_LOOP", 10)

    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, Domain("example.test", footer="-- \nExample"))
        client = await enter(bench)
        assert (await send(client, "x@far.test", OTHER))[-1].startswith(b"250")
        assert (await queued(spool)).endswith(b"hello\n-- \nExample\n")

    run(tmp_path, scenario)


def test_what_stays_here_and_what_has_none_is_as_it_was_written(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        client = await enter(bench)
        assert (await send(client, "x@far.test"))[-1].startswith(b"250")
        assert (await queued(spool)).endswith(b"hello\n")
        limit(bench, Domain("example.test", footer="-- \nExample"))
        assert (await send(client, OTHER))[-1].startswith(b"250")
        account = bench.deliverer.account(bench.directory.accounts[OTHER])
        key = bench.store.find(account, "INBOX")
        assert key is not None
        with bench.store.snapshot(account) as snapshot:
            assert bytes(snapshot.content(key, 1) or b"").endswith(b"hello\n")

    run(tmp_path, scenario)


def test_mail_of_others_has_none(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        limit(bench, Domain("example.test", footer="x"))
        client = bench.open("smtp")
        await client.send(f"EHLO a\r\nMAIL FROM:<{USER}>\r\nRCPT TO:<{USER}>\r\n".encode())
        session = client.connection.session
        envelope = Envelope(USER, recipients=[("x@far.test", [])])
        assert await footers.put(session, BODY, envelope) is BODY  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("to", "outside"),
    [
        (["user"], False),
        (["user", "x@far.test"], True),
        (["here"], False),  # a list whose members are all of this server
        (["here", "user"], False),
        (["mixed"], True),
        (["here", "mixed"], True),
        (["left"], False),  # whose member elsewhere gets no mail of it
        (["empty"], False),
        (["many"], True),
        (["here-owner"], False),
        (["out"], True),  # an alias to another server
        (["copy"], True),  # which also keeps a copy
    ],
)
def test_who_is_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: list[str], outside: bool) -> None:
    """The members of a list decide, and not that its mail goes by way of the queue."""
    monkeypatch.setattr(footers, "MEMBERS", 3)
    place = MemoryDirectory()
    place.add_domain("example.test")
    place.add_domain(Domain("other.test", alias_of="example.test"))
    place.add_accounts([(USER, "{PLAIN}x"), (OTHER, "{PLAIN}x")])
    place.add_alias("out@example.test", ["you@far.test"])
    place.add_alias("copy@example.test", [USER, "you@far.test"])
    here = [USER, "other@other.test"]
    members = {
        "here": [Member(one) for one in here],
        "mixed": [Member(USER), Member("you@far.test")],
        "left": [Member(USER), Member("you@far.test", state=SUSPENDED)],
        "empty": [],
        "many": [Member(f"user+{n}@example.test") for n in range(4)],
    }
    for name, rows in members.items():
        place.put_list(List(f"{name}@example.test", owners=(USER,)))
        place.put_members(f"{name}@example.test", rows)
    deliverer = Deliverer(place, MemoryStore(), "mx.example.test")
    envelope = Envelope(USER)
    for one in to:
        address = one if "@" in one else f"{one}@example.test"
        there = deliverer.destinations(address) if address.endswith("@example.test") else None
        envelope.recipients.append((address, there.accounts if there is not None else []))
        if there is not None and there.queued:
            envelope.forwards.add(address)
    assert footers.outside(deliverer, envelope) is outside
