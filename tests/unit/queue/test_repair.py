"""Rows of the queue that are damaged: they are found, they stop nothing, and the rest is put in order."""

import asyncio
from pathlib import Path

import pytest

from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import Rcpt
from fastmail.queue.model import Item, Job, Outgoing
from fastmail.queue.repair import faults, repair
from fastmail.queue.spool import Spool, ready_key


async def fill(spool: Spool, count: int = 4) -> list[Item]:
    out = []
    for number in range(count):
        item = Item(spool.new_id(), "a@b.test", 100 + number, 10)
        out.append(await spool.enqueue(Outgoing(item, {"far.test": [Rcpt(f"x{number}@far.test")]}, [b"body\n"])))
    return out


def put(spool: Spool, table: str, key: bytes, value: bytes) -> None:
    with spool.env.write() as txn:
        txn.put(key, value, db=spool.env.db[table])


def test_one_damaged_row_harms_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        spool = Spool(str(tmp_path), 1 << 26)
        items = await fill(spool)
        assert faults(spool.env) == []
        (first, second, third, fourth) = [Job(1, item.id, 0, "far.test", [], item.arrived) for item in items]
        put(spool, "job", first.key, b"\xc1 damaged")
        put(spool, "item", second.key[:8], b"\x91\xc1")
        put(spool, "line", b"far.test\0x", b"")
        put(spool, "line", b"\xff\xfe" + ready_key(fourth), b"")
        found = [problem for _, problem in faults(spool.env)]
        assert (len(found) == 3 and "2 entries" in " ".join(found)) or "3 entries" in " ".join(found)
        jobs, _ = spool.due("far.test", 1000.0, 10, lambda key: False)
        assert [job.key for job in jobs] == [second.key, third.key, fourth.key]
        with pytest.raises(CorruptData):
            spool.item(items[1].id)
        assert [job.key for _, job in spool.jobs()] == [third.key, fourth.key]
        assert "far.test" in spool.destinations()
        await asyncio.sleep(0.1)
        assert len(spool.due("far.test", 1000.0, 10, lambda key: False)[0]) == 3
        repair(spool.env)
        assert faults(spool.env) == []
        assert spool.depth() == (2, 2) and set(spool.destinations()) == {"far.test"}
        assert await spool.content(items[2]) == b"body\n"
        await spool.close()

    asyncio.run(main())
