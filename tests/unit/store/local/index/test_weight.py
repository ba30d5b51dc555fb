"""What quotas count beside messages: in an index of an earlier version, and after a repair."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastmail._core import mime
from fastmail.message.preview import scanned
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import account_log, layout
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

LONG = b"Subject: s\nX-Long: " + b"x" * 9000 + b"\n\nbody\n"
PLACE = (1).to_bytes(8, "big")
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def run(place: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = local_store(str(place / "data"))
        await store.start()
        try:
            account = housed(1, "a@example.test", str(place / "mail" / "a"))
            await store.open(account)
            key = store.find(account, "INBOX")
            assert key is not None
            message = NewMessage((LONG,), scanned(LONG), mime.served_size(LONG), 1000)
            await store.deliver([Delivery(account, key, message) for _ in range(3)])
            await store.annotate(account, key, {b"/private/comment": b"x" * 100})
            await scenario(store, account, key)
        finally:
            await store.close()

    asyncio.run(main())


def kept(store: LocalStore, account: Account) -> int:
    with store.snapshot(account) as snapshot:
        return snapshot.holding(account.id).kept


def test_an_index_of_an_earlier_version_counts_from_now_on(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        def older(txn: Any, t: Any) -> None:
            txn.delete(PLACE, db=t.acct)
            for at, value in list(txn.cursor(db=t.msg).iternext()):
                head = len(value) - len(layout.summary_of(value))
                marks = bytes([value[head + 1] & ~16])
                txn.put(at, value[: head + 1] + marks + value[head + 2 :], db=t.msg)

        await store.commits.submit(account, older)
        assert kept(store, account) == 116, "annotations were always there"
        await store.annotate(account, key, {b"/private/comment": b"x" * 50})
        assert kept(store, account) == 66
        await store.append(account, key, [NewMessage((LONG,), mime.scan(LONG), mime.served_size(LONG), 1000)])
        now = kept(store, account)
        assert now > 66 + 4096
        await store.expunge(account, key, None, 0)
        assert kept(store, account) == 66, "what did not count takes nothing away"

    run(tmp_path, scenario)


def test_a_repair_counts_again(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        right = kept(store, account)
        assert right > 116 + 3 * 4096
        for wrong in (b"short", account_log.pack(account_log.Row(1 << 50, summaries=1 << 50, notes=7))):
            await store.commits.submit(account, lambda txn, t, wrong=wrong: txn.put(PLACE, wrong, db=t.acct))  # type: ignore[misc]
            await store.commits.submit(account, lambda txn, t: account_log.again(txn, t, PLACE))
            assert kept(store, account) == right
        await store.commits.submit(account, lambda txn, t: txn.delete(PLACE, db=t.acct))
        await rebuild_account.rebuild(store, account)
        assert kept(store, account) == right

    run(tmp_path, scenario)
