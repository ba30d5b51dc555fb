"""fastmail.queue.rates: counts of an hour, in the commit that sends; all of a message's limits, or none."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.model.errors import TooMuch
from fastmail.model.esmtp import Rcpt
from fastmail.queue import rates
from fastmail.queue.model import Item, Outgoing
from fastmail.queue.rates import MESSAGES, Charge, account_key, domain_key
from fastmail.queue.spool import Spool

NOON = 1_800_000_000 // rates.HOUR * rates.HOUR
MINE, OURS = account_key(7, rates.RECIPIENTS), domain_key("d.test", MESSAGES)


def run(path: Path, scenario: Callable[[Spool], Awaitable[None]]) -> None:
    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        try:
            await scenario(spool)
        finally:
            await spool.close()

    asyncio.run(main())


def message(spool: Spool, at: int) -> Outgoing:
    item = Item(spool.new_id(), "a@d.test", at, 4, login="a@d.test")
    return Outgoing(item, {"far.test": [Rcpt("x@far.test")]}, [b"x\n\ny"])


def test_all_limits_of_a_message_count_or_none(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        both = [Charge(MINE, 3, 5), Charge(OURS, 1, 1, MESSAGES, "the domain d.test")]
        await spool.enqueue(message(spool, NOON), charges=both)
        with pytest.raises(TooMuch, match=r"at most 5 recipients an hour are allowed, try again after \d\d:00 UTC"):
            await spool.enqueue(message(spool, NOON + 60), charges=both)
        with pytest.raises(TooMuch, match="at most 1 message an hour are allowed for the domain d.test"):
            await spool.enqueue(message(spool, NOON + 60), charges=[Charge(MINE, 2, 5), both[1]])
        await spool.enqueue(message(spool, NOON + 60), charges=[Charge(MINE, 2, 5)])
        assert spool.depth()[0] == 2, "nothing of what was refused"
        await spool.enqueue(message(spool, NOON + rates.HOUR), charges=both)

    run(tmp_path, scenario)


def test_counts_are_those_of_all_processes_and_outlive_them(tmp_path: Path) -> None:
    async def first(spool: Spool) -> None:
        await spool.charge([Charge(MINE, 5, 5)], NOON)

    async def second(spool: Spool) -> None:
        assert spool.over([Charge(MINE, 1, 6)], NOON) == "" and spool.over([Charge(OURS, 1, 1, MESSAGES)], NOON) == ""
        assert "at most 5 recipients" in spool.over([Charge(MINE, 1, 5)], NOON)
        with pytest.raises(TooMuch):
            await spool.charge([Charge(OURS, 1, 1, MESSAGES), Charge(MINE, 1, 5)], NOON)
        assert spool.over([Charge(OURS, 1, 1, MESSAGES)], NOON) == ""

    run(tmp_path, first)
    run(tmp_path, second)


def test_keys_are_nobodys_login() -> None:
    keys = {account_key(7, rates.RECIPIENTS), account_key(7, MESSAGES), domain_key("x" * 900, MESSAGES), OURS, MINE}
    assert len(keys) == 4 and all(key[0] == 0 and len(key) <= rates.LONGEST_KEY for key in keys)
    assert rates.sent(b"short", NOON) == 0 and rates.sent(rates.RATE.pack(NOON // 3600, 9), NOON + 3599) == 9
    assert rates.sent(rates.RATE.pack(NOON // 3600, 9), NOON + 3600) == 0
