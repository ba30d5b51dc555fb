"""fastmail.relay.connecting: sessions that wait for another message."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from fastmail.queue import routes
from fastmail.relay import connecting
from fastmail.relay.connecting import Connector
from fastmail.smtp.client import ConnectFailed, Target, Timeouts


class Session:
    """A session with a host."""

    def __init__(self) -> None:
        self.usable = True
        self.closed = False

    async def close(self) -> None:
        self.usable, self.closed = False, True


def connector(pools: list[str] | None = None) -> Connector:
    nobody: Any = None
    table = routes.parse(["far.test mx pool=out"] if pools else [], [], pools=pools or [])
    return Connector(nobody, nobody, table, "mx.near.test", Timeouts(), ("192.0.2.1", "2001:db8::1"))


def test_the_latest_good_session_is_reused() -> None:
    async def main() -> None:
        one = connector()
        old, good, over = Session(), Session(), Session()
        for session in (old, good, over):
            one.keep("far.test", session)  # type: ignore[arg-type]
        over.usable = False
        assert await one.kept("far.test") is good and over.closed and not old.closed  # type: ignore[comparison-overlap]
        assert await one.kept("near.test") is None
        assert await one.kept("far.test") is old and await one.kept("far.test") is None  # type: ignore[comparison-overlap]

    asyncio.run(main())


def test_nobody_waits_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        one = connector()
        old, young = Session(), Session()
        one.keep("far.test", old)  # type: ignore[arg-type]
        one.keep("far.test", young)  # type: ignore[arg-type]
        one.idle["far.test"][0] = (time.monotonic() - connecting.LINGER - 1, old)  # type: ignore[assignment]
        await one.close_old()
        assert old.closed and not young.closed and list(one.idle) == ["far.test"]
        monkeypatch.setattr(connecting, "LINGER", 0.0)
        assert await one.kept("far.test") is None and young.closed
        await one.close_old()
        assert one.idle == {}, "no destination is remembered for nothing"

    asyncio.run(main())


def test_all_are_closed_at_the_end() -> None:
    async def main() -> None:
        one = connector()
        sessions = [Session() for _ in range(3)]
        for n, session in enumerate(sessions):
            one.keep(f"d{n}.test", session)  # type: ignore[arg-type]
        await one.close()
        assert all(session.closed for session in sessions)

    asyncio.run(main())


def test_where_connections_come_from() -> None:
    four, six = Target("mx", "198.51.100.7"), Target("mx", "2001:db8::7")
    assert [connector().source("far.test", one) for one in (four, six)] == ["192.0.2.1", "2001:db8::1"]
    pooled = connector(["out 192.0.2.5 192.0.2.6"])
    assert Counter(pooled.source("far.test#out", four) for _ in range(4)) == {"192.0.2.5": 2, "192.0.2.6": 2}
    with pytest.raises(ConnectFailed):
        pooled.source("far.test#out", six)
    assert pooled.source("near.test", four) == "192.0.2.1"
