"""The full-text index gives the answers of a scan, knows what it does not know, and may vanish at any time."""

import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.message.text import fold
from fastmail.store.filler import Filler
from fastmail.store.fulltext import FullText, folded
from fastmail.store.interface import Account, NewMessage
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import Bench

KEY = (1).to_bytes(8, "big") + (1).to_bytes(4, "big")
WORDS = [
    "alpha",
    "Straße",
    'quo"te',
    "na\u00efve",
    "a*b",
    "(c)",
    "x y",
    "ELEPHANT",
    "\u65e5\u672c\u8a9e",
    "-minus",
    "end.",
]


def message(rng: random.Random) -> bytes:
    words = [rng.choice(WORDS) for _ in range(30)]
    return f"Subject: {words[0]}\nX-Note: {words[1]}\n\n{' '.join(words[2:])}\n".encode()


def test_answers_are_those_of_a_scan(tmp_path: Path) -> None:
    rng = random.Random(7)
    index = FullText(str(tmp_path))
    texts = [folded(uid, message(rng)) for uid in range(1, 200, 2)]
    index.add(KEY, 5, texts[:60])
    index.add(KEY, 5, texts[40:])
    assert list(index.known(KEY, 5)) == list(range(1, 200, 2))
    for needle in [*WORDS, "lpha", "te a", "x y x", "subject", "x-note: alpha", "b (c", "nothing", '"', "ab"]:
        for whole in (False, True):
            found, known = index.find(KEY, 5, fold(needle), whole)
            assert list(known) == list(range(1, 200, 2))
            assert list(found) == [t.uid for t in texts if t.has(fold(needle), whole)], needle


def test_other_mailboxes_and_validities_are_apart(tmp_path: Path) -> None:
    index = FullText(str(tmp_path))
    other = KEY[:8] + (2).to_bytes(4, "big")
    index.add(KEY, 5, [folded(1, b"Subject: one\n\nelephant\n")])
    index.add(other, 5, [folded(1, b"Subject: two\n\nelephant\n"), folded(2, b"Subject: two\n\nelephant\n")])
    assert list(index.find(KEY, 5, "elephant", True)[0]) == [1]
    assert list(index.find(other, 5, "elephant", True)[0]) == [1, 2]
    assert not index.find(KEY, 6, "elephant", True)[1]
    index.add(KEY, 6, [folded(1, b"Subject: new\n\nmouse\n")])  # old UIDs must never answer for new ones
    assert not index.find(KEY, 6, "elephant", True)[0]
    index.add(KEY, 6, [folded(1, b"Subject: new\n\nmouse\n")])
    assert list(index.find(KEY, 6, "mouse", True)[0]) == [1]


def test_a_damaged_index_is_begun_anew(tmp_path: Path) -> None:
    index = FullText(str(tmp_path))
    index.add(KEY, 5, [folded(1, b"Subject: one\n\nelephant\n")])
    (path,) = (tmp_path / "fulltext").rglob("*.sqlite")
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    assert not index.find(KEY, 5, "elephant", True)[1]
    index.add(KEY, 5, [folded(1, b"Subject: one\n\nelephant\n")])
    assert list(index.find(KEY, 5, "elephant", True)[0]) == [1]


@pytest.mark.parametrize("kind", ["BODY", "TEXT"])
def test_a_session_finds_the_same_before_during_and_after(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        store = bench.store
        assert isinstance(store, MemoryStore)
        bench.imap.filler = Filler(FullText(str(tmp_path)), store)
        account: Account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        rng = random.Random(3)

        async def more(count: int) -> None:
            raw = [message(rng) for _ in range(count)]
            await store.append(account, key, [NewMessage((m,), mime.scan(m), mime.served_size(m), 1) for m in raw])

        await more(40)
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n")

        async def ask() -> bytes:
            return (await client.send(f"c SEARCH {kind} elephant\r\n".encode())).partition(b"\r\n")[0]

        first = await ask()
        assert first.count(b" ") > 5
        for _ in range(200):
            await asyncio.sleep(0.01)
            if bench.imap.filler.index.known(key, store.boxes[key].row.uidvalidity) == UidSet.of_ranges((1, 40)):
                break
        assert await ask() == first
        await more(10)
        await client.send(b"d NOOP\r\n")
        after = await ask()
        bench.imap.filler = None
        assert await ask() == after and after.startswith(first)

    asyncio.run(main())


def test_texts_of_an_older_layout_are_begun_anew(tmp_path: Path) -> None:
    """They were folded in another way, so a search in them would miss messages."""
    index = FullText(str(tmp_path))
    text = folded(1, b"Subject: x\n\nneedle\n")
    index.add(KEY, 1, [text])
    assert list(index.find(KEY, 1, "needle", True)[0]) == [1]
    with sqlite3.connect(next(tmp_path.rglob("*.sqlite"))) as base:
        base.execute("PRAGMA user_version=1")
    base.close()
    assert not index.find(KEY, 1, "needle", True)[1]
    index.add(KEY, 1, [text])
    assert list(index.find(KEY, 1, "needle", True)[0]) == [1]


def test_nobody_but_who_adds_brings_a_removed_index_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another thread or process may remove it between the look whether it is there and the opening; also with a name of
    its directory that is no plain URI."""
    index = FullText(str(tmp_path / "a b?c#d%41"))
    index.add(KEY, 5, [folded(1, b"Subject: x\n\ny\n")])
    assert index.accounts() == [1] and list(index.known(KEY, 5)) == [1]
    opened = index._open

    def late(account: int, creates: bool = False) -> sqlite3.Connection:
        if not creates:
            index._remove(account)
        return opened(account, creates)

    monkeypatch.setattr(index, "_open", late)
    for ask in (
        lambda: index.keep(KEY, 5, UidSet()),
        lambda: index.known(KEY, 5),
        lambda: index.find(KEY, 5, "x", True),
        lambda: index.mailboxes(1),
    ):
        index.add(KEY, 5, [folded(1, b"Subject: x\n\ny\n")])
        ask()
        assert index.accounts() == []
    assert "fulltext.failed" not in capsys.readouterr().err
