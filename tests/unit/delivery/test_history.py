"""What is kept of a message's life, and for how long."""

import asyncio
from pathlib import Path

import pytest

from fastmail.delivery import history as module
from fastmail.delivery.history import History


def test_found_by_id_address_and_message_id(tmp_path: Path) -> None:
    async def main() -> None:
        history = History(str(tmp_path), 30.0, 1 << 24)
        history.note("ID1", "accepted", ("A@b.test", "x@y"), sender="A@b.test", message_id="x@y")
        history.note("ID1", "stored", uid=7)
        history.note("ID2", "accepted", ("a@b.test",), sender="a@b.test")
        await history.close()
        for word in ("id1", "x@y"):
            ((first, second),) = history.find(word)
            assert (first.what, second.what, second.fields) == ("accepted", "stored", {"uid": 7})
        assert [life[0].id for life in history.find("a@B.test")] == ["ID2", "ID1"]
        assert list(history.find("a@b.tes")) == []
        await history.close()

    asyncio.run(main())


def test_what_is_too_old_goes_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        history = History(str(tmp_path), 1.0, 1 << 24)
        monkeypatch.setattr(module.time, "time_ns", lambda: 1_000_000_000)
        history.note("OLD", "accepted", ("a@b.test",), sender="a@b.test", recipients=["c@d.test"])
        await history.close()
        monkeypatch.setattr(module.time, "time_ns", lambda: 1_000_000_000 + int(2 * 86400e9))
        history._last = 0
        history.note("NEW", "accepted", ("a@b.test",), sender="a@b.test")
        await history.close()
        assert [life[0].id for life in history.find("a@b.test")] == ["NEW"]
        with history.env.read() as txn:
            assert txn.stat(history.env.db["event"])["entries"] == 1
            words = [bytes(key) for key in txn.cursor(db=history.env.db["word"]).iternext(values=False)]
            assert len(words) == 2
        await history.close()

    asyncio.run(main())


def test_what_is_too_old_goes_where_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        history = History(str(tmp_path), 1.0, 1 << 24)
        await history.prune()
        assert not (tmp_path / "trace").exists(), "nothing is made where nothing was noted"
        monkeypatch.setattr(module.time, "time_ns", lambda: 1_000_000_000)
        for n in range(250):
            history.note(f"ID{n}", "accepted", ("a@b.test",), sender="a@b.test")
        await history.close()
        monkeypatch.setattr(module.time, "time_ns", lambda: 1_000_000_000 + int(2 * 86400e9))
        await history.prune()
        with history.env.read() as txn:
            assert txn.stat(history.env.db["event"])["entries"] == 0
            assert txn.stat(history.env.db["word"])["entries"] == 0
        await history.close()

    asyncio.run(main())


def test_a_flood_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)

    async def main() -> None:
        history = History(str(tmp_path), 30.0, 1 << 24)
        for n in range(50):
            history.note(f"ID{n}", "accepted", ("a@b.test",), sender="a@b.test")
        await history.close()
        assert len(list(history.find("a@b.test"))) == 10
        await history.close()

    asyncio.run(main())


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async def main() -> None:
        history = History(str(tmp_path), 0.0, 1 << 24)
        history.note("ID", "accepted")
        await history.close()
        assert not (tmp_path / "trace").exists()

    asyncio.run(main())


def test_what_is_too_much_goes_until_it_fits(tmp_path: Path) -> None:
    """The size is that of what is kept, so it is the oldest that goes, and not everything."""

    async def main() -> None:
        history = History(str(tmp_path), 30.0, 1 << 20)
        for round_ in range(12):
            for n in range(500):
                history.note(f"ID{round_}.{n}", "accepted", ("a@b.test",), sender="a@b.test", message_id="m" * 60)
            await history.close()
        with history.env.read() as txn:
            kept = txn.stat(history.env.db["event"])["entries"]
        assert 1000 < kept < 6000
        assert history.life("ID11.499") and not history.life("ID0.0")
        await history.close()

    asyncio.run(main())
