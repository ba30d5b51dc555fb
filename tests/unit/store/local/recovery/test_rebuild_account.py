"""Messages keep their UIDs behind `rebuild`, whatever happens to their files while they are read."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.message.preview import scanned
from fastmail.store.interface import NewMessage
from fastmail.store.local.maildir import looking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

SHORT = b"Subject: short\n\nx\n"
LONG = b"Subject: long\nFrom: " + b":;" * 4000 + b"\n\nbody\n"  # its summary is made again behind the others
ALL = UidSet.of_ranges((1, 0xFFFFFFFE))


def add_flag(place: Path, names: Iterable[bytes]) -> None:
    """What housekeeping does, or another program, at just that moment."""
    for name in names:
        for sub in ("new", "cur"):
            old = place / sub / os.fsdecode(name)
            if old.exists():
                base, _, letters = os.fsdecode(name).partition(":2,")
                old.rename(place / "cur" / f"{base}:2,{letters}S")


async def flow(tmp_path: Path, when: range, monkeypatch: pytest.MonkeyPatch) -> None:
    store: LocalStore = local_store(str(tmp_path / "data"))
    await store.start()
    try:
        account = housed(1, "a@x.test", str(tmp_path / "a"))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        for text in (SHORT, LONG, SHORT):
            await store.append(account, key, [NewMessage((text,), scanned(text), mime.served_size(text), 1000)])
        with store.snapshot(account) as snapshot:
            before = {uid: bytes(one) for uid, one in snapshot.summaries(key, ALL).items()}
        real, looks = looking.examine, 0

        def examine(directory: str, items: Any, *more: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks in when:
                add_flag(tmp_path / "a", [name for _, name in items])
            return real(directory, items, *more)

        monkeypatch.setattr(looking, "examine", examine)
        assert all(one.problems == 0 for one in await rebuild_account.rebuild(store, account))
        assert looks > when[0]
        with store.snapshot(account) as snapshot:
            assert {uid: bytes(one) for uid, one in snapshot.summaries(key, ALL).items()} == before
            assert snapshot.boxes(1)[0].exists == 3
    finally:
        await store.close()


@pytest.mark.parametrize("when", [range(1, 2), range(2, 4), range(1, 3)])
def test_a_file_that_is_renamed_while_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: range
) -> None:
    asyncio.run(flow(tmp_path, when, monkeypatch))


def test_a_message_that_is_expunged_meanwhile_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = local_store(str(tmp_path / "data"))
        await store.start()
        try:
            account = housed(1, "a@x.test", str(tmp_path / "a"))
            await store.open(account)
            key = store.find(account, "INBOX")
            assert key is not None
            await store._tidier.close()  # files stay, as if it came a moment later
            message = NewMessage((SHORT,), scanned(SHORT), mime.served_size(SHORT), 1000)
            await store.append(account, key, [message, message])
            loop, real = asyncio.get_running_loop(), rebuild_account._find

            def find(*args: Any) -> Any:
                found = real(*args)
                gone = store.expunge(account, key, UidSet.of([1]), 0)
                asyncio.run_coroutine_threadsafe(gone, loop).result(10)
                return found

            monkeypatch.setattr(rebuild_account, "_find", find)
            await rebuild_account.rebuild(store, account)
            with store.snapshot(account) as snapshot:
                assert [uid for uid, _ in snapshot.files(key)] == [2]
        finally:
            await store.close()

    asyncio.run(scenario())
