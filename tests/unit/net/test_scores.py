"""Scores that workers share."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from fastmail.net import scores
from fastmail.net.bans import Bans, Rules
from fastmail.net.scores import Scores


def test_points_add_up_and_fade_over_two_workers(tmp_path: Path) -> None:
    one, other = Scores(str(tmp_path / "scores")), Scores(str(tmp_path / "scores"))
    assert one.add("198.51.100.7", 1.0, 0.1, 5.0, 100.0) == 1.0
    assert other.add("198.51.100.7", 2.0, 0.1, 5.0, 105.0) == 2.5
    assert other.add("198.51.100.8", 1.0, 0.1, 5.0, 105.0) == 1.0
    assert one.add("198.51.100.7", 3.0, 0.1, 5.0, 105.0) == 5.5  # and begins anew
    assert one.add("198.51.100.7", 1.0, 0.1, 5.0, 105.0) == 1.0
    assert other.add("198.51.100.7", 1.0, 0.1, 5.0, 1000.0) == 1.0
    one.close()
    other.close()


def test_a_clock_that_began_anew_counts_nothing_from_before(tmp_path: Path) -> None:
    table = Scores(str(tmp_path / "scores"))
    table.add("198.51.100.7", 4.0, 0.001, 5.0, 1_000_000.0)
    assert table.add("198.51.100.7", 1.0, 0.001, 5.0, 12.0) == 1.0
    table.close()


def test_slots_are_given_away_from_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "ROWS", 1)
    monkeypatch.setattr(scores, "SIZE", scores.KEY + scores.ROW)
    table = Scores(str(tmp_path / "scores"))
    for n in range(scores.WAYS + 1):
        table.add(f"198.51.100.{n}", 1.0, 0.0, 9.0, 100.0 + n)
    assert [table.add(f"198.51.100.{n}", 1.0, 0.0, 9.0, 200.0 + n) for n in (1, 2, 3, 4)] == [2.0] * 4
    assert table.add("198.51.100.0", 1.0, 0.0, 9.0, 300.0) == 1.0
    table.close()


def test_a_file_of_another_size_is_made_anew_and_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    path.write_bytes(b"x" * 1000)
    table = Scores(str(path))
    assert table.add("198.51.100.7", 1.0, 0.1, 5.0, 100.0) == 1.0
    assert os.stat(path).st_size == scores.SIZE
    table.close()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Scores(str(path))


def test_s23_guesses_count_together_whichever_workers_they_reach(tmp_path: Path) -> None:
    async def main() -> None:
        bans = Bans(str(tmp_path), Rules(after=4, window=600.0))
        other = Scores(str(tmp_path / "bans" / "scores"))  # of another worker
        bans.blame("198.51.100.7", 1, "failed logins")
        for _ in range(2):
            other.add("198.51.100.7", 1.0, 4 / 600, 3.5, time.monotonic())
        assert not bans.refuses("198.51.100.7")
        bans.blame("198.51.100.7", 1, "failed logins")
        assert bans.refuses("198.51.100.7")
        await asyncio.sleep(0.1)
        bans.close()
        other.close()

    asyncio.run(main())


def test_a_worker_that_read_the_clock_a_little_earlier_loses_nothing(tmp_path: Path) -> None:
    table = Scores(str(tmp_path / "scores"))
    table.add("198.51.100.7", 2.0, 1.0, 9.0, 100.001)
    assert table.add("198.51.100.7", 2.0, 1.0, 9.0, 100.0) == 4.0 == table.get("198.51.100.7", 1.0, 100.0)
    table.close()
