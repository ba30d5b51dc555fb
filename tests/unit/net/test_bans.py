"""Scores, bans and exemptions."""

import asyncio
import ipaddress
from pathlib import Path

import pytest

from fastmail.model.errors import CannotDo
from fastmail.net.bans import Bans, Rules
from fastmail.net.networks import network_of

RULES = Rules(after=3, window=600.0, seconds=60.0, exempt=[ipaddress.ip_network("192.0.2.0/28")])


@pytest.mark.parametrize(
    "host,name",
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", ""),
    ],
)
def test_what_is_banned_for_a_peer(host: str, name: str) -> None:
    assert network_of(host) == name


def test_s23_guessers_are_kept_out_in_every_worker(tmp_path: Path) -> None:
    async def main() -> None:
        one, other = Bans(str(tmp_path), RULES), None
        for _ in range(2):
            one.blame("198.51.100.7", 1, "failed logins")
        assert not one.refuses("198.51.100.7")
        one.blame("198.51.100.7", 1, "failed logins")
        assert one.refuses("198.51.100.7") and not one.refuses("198.51.100.8")
        for _ in range(100):
            await asyncio.sleep(0.01)
            if one.list():
                break
        assert [(ban.network, ban.times, ban.why) for ban in one.list()] == [("198.51.100.7", 1, "failed logins")]
        one.close()
        other = Bans(str(tmp_path), RULES)  # after a restart
        assert other.refuses("198.51.100.7") and not other.refuses("")
        # the whole /64 of an IPv6 peer, and nobody beside it
        for n in range(3):
            other.blame(f"2001:db8:0:1::{n}", 1, "failed logins")
        assert other.refuses("2001:db8:0:1:ffff::1") and not other.refuses("2001:db8:0:2::1")
        # exempt networks, and what is no address
        for _ in range(10):
            other.blame("192.0.2.5", 5, "x")
            other.blame("", 5, "x")
        assert not other.refuses("192.0.2.5")
        await asyncio.sleep(0.1)
        other.close()

    asyncio.run(main())


def test_commands_and_their_networks(tmp_path: Path) -> None:
    bans = Bans(str(tmp_path), RULES)
    assert bans.add("203.0.113.9/24", 3600, "by command").network == "203.0.113.0/24"
    assert bans.refuses("203.0.113.77") and not bans.refuses("203.0.114.1")
    assert [round(bans.add("198.51.100.9", 0, "x").until - bans.list()[0].since) for _ in range(3)] == [60, 120, 240]
    with pytest.raises(CannotDo):
        bans.add("somebody", 1, "x")
    assert bans.remove("198.51.100.9") == 1 and not bans.refuses("198.51.100.9")
    assert bans.remove("198.51.100.9") == 0 and bans.remove("all") == 1
    assert not bans.refuses("203.0.113.77") and bans.list() == []
    bans.close()


def test_points_fade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bans = Bans(str(tmp_path), RULES)
    now = [1000.0]
    monkeypatch.setattr("fastmail.net.bans.time.monotonic", lambda: now[0])

    async def main() -> None:
        for _ in range(20):
            bans.blame("198.51.100.7", 1, "x")
            now[0] += 201.0  # a third of the window: the point is gone
        assert not bans.refuses("198.51.100.7")

    asyncio.run(main())
    bans.close()
