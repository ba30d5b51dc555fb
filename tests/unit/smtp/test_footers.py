"""smtp.footers: the domain's footer goes under what leaves, before it is queued, and under nothing else."""

import asyncio
from pathlib import Path

import pytest

from fastmail.directory.records import Domain
from fastmail.queue.spool import Spool
from fastmail.smtp import footers
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
        assert await footers.put(session, BODY, True) is BODY  # type: ignore[arg-type]

    asyncio.run(main())
