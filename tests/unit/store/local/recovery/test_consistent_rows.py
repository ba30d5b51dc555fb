"""Rows of an account that are damaged: `check` finds them, and behind `rebuild` all messages are there again."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail.model.errors import MailError
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import layout
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.recovery import after_salvage, rebuild_account
from fastmail.store.local.recovery import check_account as checking
from tests.support.homes import housed, local_store

Harm = Callable[[Any, Tables, bytes], None]
COUNT = 40


def message(number: int) -> NewMessage:
    text = b"Subject: %d\n\nbody\n" % number
    return NewMessage([text], mime.scan(text), len(text) + 3, 1_700_000_000 + number)


def put(table: str, key: Callable[[bytes], bytes], value: bytes | None) -> Harm:
    def harm(txn: Any, t: Tables, box: bytes) -> None:
        if value is None:
            assert txn.delete(key(box), db=getattr(t, table))
        else:
            txn.put(key(box), value, db=getattr(t, table))

    return harm


def move(table: str, key: Callable[[bytes], bytes], to: Callable[[bytes], bytes]) -> Harm:
    def harm(txn: Any, t: Tables, box: bytes) -> None:
        txn.put(to(box), txn.pop(key(box), db=getattr(t, table)), db=getattr(t, table))

    return harm


def uid(number: int) -> Callable[[bytes], bytes]:
    return lambda box: layout.uid_key(box, number)


HARMS: dict[str, Harm] = {
    "a name is gone": put("name", lambda box: box[:8] + b"Work", None),
    "a name is another": move("name", lambda box: box[:8] + b"Work", lambda box: box[:8] + b"Wprk"),
    "a name is no text": put("name", lambda box: box[:8] + b"\xff\xfe", b"\0\0\0\1"),
    "a mailbox cannot be read": put("page", layout.row_key, b"\1\2\3"),
    "a mailbox's name is no text": put("page", layout.row_key, b"\1\xff" + bytes(300)),
    "a mailbox is gone": put("page", layout.row_key, None),
    "a page cannot be read": put("page", lambda box: layout.page_key(box, 5), b"\xff" * 40),
    "a page is gone": put("page", lambda box: layout.page_key(box, 5), None),
    "a page is another's": move("page", lambda box: layout.page_key(box, 5), lambda box: layout.page_key(box, 99)),
    "a page has the wrong UIDs": put(
        "page", lambda box: layout.page_key(box, 5), pages.extend(None, pages.pack(70, 0, 1, 0, 0, 5, 0))
    ),
    "a message's row cannot be read": put("msg", uid(7), b"\xff\xff"),
    "a message's row is gone": put("msg", uid(7), None),
    "the newest message's row is gone": put("msg", uid(COUNT), None),
    "a message's row is another's": move("msg", uid(7), uid(70000)),
    "a subscription is no text": put("subs", lambda box: box[:8] + b"\xc3", b""),
    "the next number is gone": put("meta", lambda box: b"next" + box[:8], None),
}


@pytest.mark.parametrize("kind", ["maildir", "segments"])
@pytest.mark.parametrize("what", HARMS)
def test_damaged_rows(tmp_path: Path, kind: str, what: str) -> None:
    account = housed(3, "me@example.test", str(tmp_path / "mail"))

    async def main() -> None:
        store = local_store(str(tmp_path / "data"), kind=kind)
        await store.start()
        await store.open(account)
        await store.create(account, "Work")
        key = store.find(account, "Work")
        assert key is not None
        await store.append(account, key, [message(number) for number in range(COUNT)])
        await store.commits.submit(account, lambda txn, t: HARMS[what](txn, t, key))
        await store.close()
        store = local_store(str(tmp_path / "data"), kind=kind, instance="00000001", recover=False)
        await store.start()
        with contextlib.suppress(MailError):  # what cannot be read
            assert any(one.problems for one in await checking.check(store, account)) or what.startswith("the next")
        await rebuild_account.rebuild(store, account)
        await after_salvage.find_again(store, store.commits.shard(3), [account])
        left = [one for one in await checking.check(store, account) if one.problems]
        assert not left
        listing = await store.listing(account)
        found = []
        for box in listing.mailboxes:
            await store.sync(account, box.key)
            with store.snapshot(account) as snapshot:
                uids = [r[0] for page in snapshot.pages(box.key) for r in pages.records(page)]
            for number in uids:
                data = await store.content(account, box.key, number)
                assert data is not None
                found.append(bytes(data))
        assert sorted(found) == sorted(bytes(message(n).content[0]) for n in range(COUNT))
        await store.create(account, "More")
        more = store.find(account, "More")
        assert more is not None and more not in {box.key for box in listing.mailboxes}
        await store.append(account, more, [message(1)])
        await store.close()

    asyncio.run(main())
