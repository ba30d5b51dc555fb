"""Greylisting (RFC 6647 5): put off once, free for a long time after that, for all workers."""

import time
from pathlib import Path

import pytest

from fastmail.policy.greylist import Greylist, place
from fastmail.policy.spf import Checked


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_who_comes_back_is_free(tmp_path: Path, clock: Clock) -> None:
    one, other = Greylist(str(tmp_path)), Greylist(str(tmp_path))  # two workers
    assert one.wait("192.0.2.0/24", "a@b.test") == 300
    clock.now += 100
    assert 199 <= other.wait("192.0.2.0/24", "A@b.test") <= 201
    clock.now += 201
    assert other.wait("192.0.2.0/24", "a@b.test") == 0
    assert one.wait("192.0.2.0/24", "other@c.test") == 0
    assert one.wait("192.0.3.0/24", "a@b.test") == 300
    one.close()
    other.close()


def test_who_does_not_come_back_in_time_begins_anew(tmp_path: Path, clock: Clock) -> None:
    made = Greylist(str(tmp_path))
    made.wait("192.0.2.0/24", "a@b.test")
    clock.now += 3 * 86400
    assert made.wait("192.0.2.0/24", "a@b.test") == 300


def test_who_goes_on_sending_stays_free(tmp_path: Path, clock: Clock) -> None:
    made = Greylist(str(tmp_path))
    made.wait("b.test", "a@b.test")
    clock.now += 400
    for _ in range(6):
        assert made.wait("b.test", "a@b.test") == 0
        clock.now += 20 * 86400
    clock.now += 36 * 86400
    assert made.wait("b.test", "a@b.test") == 300


def test_a_command_looks_and_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    looking, made = Greylist(str(tmp_path), looks=True), Greylist(str(tmp_path))
    assert looking.wait("192.0.2.0/24", "a@b.test") == 300
    looking.good("192.0.2.0/24")
    assert not (tmp_path / "greylist").exists(), "nothing is made"
    made.wait("192.0.9.0/24", "z@b.test")
    before = [(tmp_path / "greylist" / name).read_bytes() for name in ("waiting", "proved")]
    for _ in range(2):
        looking.good("192.0.2.0/24")
        assert looking.wait("192.0.2.0/24", "a@b.test") == 300
        clock.now += 400
    assert [(tmp_path / "greylist" / name).read_bytes() for name in ("waiting", "proved")] == before
    made.wait("192.0.2.0/24", "a@b.test")
    clock.now += 100
    assert 199 <= looking.wait("192.0.2.0/24", "A@b.test") <= 201
    clock.now += 201
    assert looking.wait("192.0.2.0/24", "a@b.test") == 0
    assert made.wait("192.0.2.0/24", "a@b.test") == 0  # it came back, and is free now
    assert looking.wait("192.0.2.0/24", "other@c.test") == 0
    clock.now += 36 * 86400
    assert looking.wait("192.0.2.0/24", "other@c.test") == 300 and looking.wait("", "a@b.test") == 0


def test_names_of_senders() -> None:
    assert place("192.0.2.77", None) == "192.0.2.0/24"
    assert place("::ffff:192.0.2.77", Checked("fail", "mailfrom", "b.test")) == "192.0.2.0/24"
    assert place("2001:db8::77", None) == "2001:db8::/64"
    assert place("192.0.2.77", Checked("pass", "mailfrom", "b.test")) == "b.test"
    for everybody in ("all", "+all", "+ALL"):
        assert place("192.0.2.77", Checked("pass", "mailfrom", "b.test", everybody)) == "192.0.2.0/24"
    assert place("local", None) == ""


def test_nobody_is_put_off_where_nothing_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "greylist").write_text("a file")
    made = Greylist(str(tmp_path))
    assert made.wait("192.0.2.0/24", "a@b.test") == made.wait("192.0.2.0/24", "a@b.test") == 0
    assert capsys.readouterr().err.count("event=policy.greylist") == 1
    made.close()
    assert Greylist(str(tmp_path / "x")).wait("", "a@b.test") == 0


def test_good_mail_frees_its_sender(tmp_path: Path, clock: Clock) -> None:
    one, other = Greylist(str(tmp_path)), Greylist(str(tmp_path))
    one.good("b.test")
    one.good("")
    assert other.wait("b.test", "new@b.test") == 0 and other.wait("c.test", "a@c.test") == 300
    clock.now += 34 * 86400
    other.good("b.test")
    clock.now += 34 * 86400
    assert one.wait("b.test", "a@b.test") == 0, "each good message begins that time anew"
    clock.now += 36 * 86400
    assert one.wait("b.test", "a@b.test") == 300
