"""What is known of strangers, in files that workers share."""

import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from fastmail.net.scores import Scores
from fastmail.policy.strangers import guesses, known, rates
from fastmail.policy.strangers.gate import Gate
from fastmail.policy.strangers.rates import Rates
from fastmail.policy.strangers.rules import Rules, rate

A, B, SIX = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Clock:
    """The time of day, as tests set it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock(time.time() // 3600 * 3600 + 60)
    for module in (guesses, known, rates):
        monkeypatch.setattr(module.time, "time", made.time)
    yield made


def gates(path: Path, **rules: object) -> tuple[Gate, Gate]:
    """Those of two workers."""
    made = Rules(**rules)  # type: ignore[arg-type]
    return Gate(str(path), made), Gate(str(path), made)


def test_a_good_past_is_shared_and_ends(tmp_path: Path, clock: Clock) -> None:
    one, other = gates(tmp_path, wait=2.0)
    assert not one.known(A)
    one.good(A)
    assert other.known(A) and not other.known(B) and not other.known("local")
    clock.now += known.KEEP - 10
    assert one.known(A)
    one.good(A)
    clock.now += known.KEEP - 10
    assert other.known(A), "each good message begins that time anew"
    clock.now += 20
    assert not other.known(A)


def test_networks_of_ipv6_have_one_past(tmp_path: Path, clock: Clock) -> None:
    one, other = gates(tmp_path, tarpit=2.0)
    one.good(SIX)
    assert other.known("2001:db8::ffff") and not other.known("2001:db8:0:1::1")


def test_good_mail_is_written_once_an_hour(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = gates(tmp_path, wait=2.0)
    one.good(A)
    asked = []
    monkeypatch.setattr(Scores, "get", lambda *args: asked.append(args) or 0.0)  # type: ignore[func-returns-value]
    one.good(A)
    assert not asked
    clock.now += known.NOTED_FOR
    one.good(A)
    assert asked


def test_guesses_add_up_fade_and_good_mail_takes_them_off(tmp_path: Path, clock: Clock) -> None:
    one, other = gates(tmp_path, guesses=4)
    for _ in range(4):
        one.missed(A)
    assert other.guessing(A) == 1.0 and other.is_guesser(A) and other.guessing(B) == 0.0 and not other.is_guesser(B)
    one.good(A)
    assert other.guessing(A) == 0.75
    clock.now += guesses.WINDOW / 2
    assert other.guessing(A) == pytest.approx(0.25)
    clock.now += guesses.WINDOW
    one.good(A)
    assert other.guessing(A) == 0.0
    for _ in range(50):
        one.missed(A)
    assert other.guessing(A) == guesses.CEILING, "so that it fades in reasonable time"
    one.missed("local")
    assert one.guessing("local") == 0.0


def test_rates_of_clients_and_networks(tmp_path: Path, clock: Clock) -> None:
    limits = tuple(map(rate, ("connections client 2", "connections network 3", "messages client 1")))
    one, other = gates(tmp_path, rates=limits)
    assert one.connected(A) == other.connected(A) == ""
    why = other.connected(A)
    assert why.startswith("at most 2 connections an hour for your address, try again after ") and why.endswith("UTC")
    assert one.connected(B) == "" and "3 connections an hour for your network" in one.connected("192.0.2.3")
    assert one.connected("192.0.3.1") == "" == one.connected("local")
    assert one.mail(A, "") == "" and other.mail(A, "").startswith("at most 1 message an hour")
    assert one.connected(SIX) == one.connected("2001:db8::2") == "" != one.connected("2001:db8::3")
    clock.now += 3600
    assert one.connected(A) == other.connected(A) == "" and one.mail(A, "") == ""


def test_what_is_refused_does_not_count(tmp_path: Path, clock: Clock) -> None:
    one, _ = gates(tmp_path, rates=(rate("connections client 1"), rate("connections network 2")))
    assert [bool(one.connected(A)) for _ in range(5)] == [False, True, True, True, True]
    assert one.connected(B) == "", "the others of its network have theirs"


def test_rates_of_senders_and_recipients(tmp_path: Path, clock: Clock) -> None:
    one, other = gates(tmp_path, rates=(rate("messages sender 2"), rate("messages recipient 1")))
    assert [one.mail(A, "x@Example.org") for _ in range(5)] == [""] * 5, "asked for, and not counted"
    assert one.sent("x@example.org") == other.sent("y@EXAMPLE.org.") == ""
    assert "2 messages an hour for the sender's domain" in one.sent("z@example.org")
    assert "the sender's domain" in other.mail(A, "z@example.org") and other.mail(A, "") == "" == one.sent("")
    assert one.addressed("joe@example.test") == "" and "this recipient" in other.addressed("Joe@example.test")


def test_rules_hold_for_nobody_where_nothing_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "strangers").write_text("no directory")
    one, _ = gates(tmp_path, wait=1.0, guesses=1, rates=(rate("connections client 1"),))
    one.good(A), one.missed(A)
    assert one.known(A) and one.guessing(A) == 0.0 and one.connected(A) == "" == one.mail(A, "") == one.sent("a@b")
    assert capsys.readouterr().err.count("event=strangers.tables") == 1
    one.close()


def count_many(path: str, times: int, begin: object) -> None:
    table = Rates(path, (rate("connections client 1000000"),))
    begin.wait()  # type: ignore[attr-defined]
    for _ in range(times):
        table.take("connections", {"client": A})


@pytest.mark.slow
def test_counts_of_several_processes_are_exact(tmp_path: Path) -> None:
    context = get_context("fork")
    begin = context.Barrier(3)
    others = [context.Process(target=count_many, args=(str(tmp_path), 2000, begin)) for _ in range(3)]
    hour = int(time.time()) // 3600
    for one in others:
        one.start()
    for one in others:
        one.join(60)
        assert one.exitcode == 0
    tables = [Scores(str(tmp_path / f"client.{number}")) for number in range(3)]
    names = [f"connections {at} {A}" for at in (hour, hour + 1)]
    assert sum(table.get(name, 0.0, time.time()) for table in tables for name in names) == 6000
    assert not (tmp_path / "client.3").exists()
    last = Rates(str(tmp_path), (rate("connections client 6000"),))
    if int(time.time()) // 3600 == hour:
        assert last.over("connections", {"client": A}).startswith("at most 6000 connections")


def take_many(path: str, times: int, begin: object, taken: object) -> None:
    table = Rates(path, (rate("connections client 100"),))
    begin.wait()  # type: ignore[attr-defined]
    got = sum(not table.take("connections", {"client": A}) for _ in range(times))
    taken.put((got, int(time.time()) // 3600))  # type: ignore[attr-defined]


def test_several_processes_never_take_more_than_there_may_be(tmp_path: Path) -> None:
    context = get_context("fork")
    begin, taken = context.Barrier(3), context.Queue()
    others = [context.Process(target=take_many, args=(str(tmp_path), 200, begin, taken)) for _ in range(3)]
    for one in others:
        one.start()
    found = [taken.get(timeout=60) for _ in others]
    for one in others:
        one.join(60)
    if len({hour for _, hour in found}) == 1:
        assert sum(got for got, _ in found) == 100


def test_who_follows_a_worker_goes_on_with_its_counts(tmp_path: Path) -> None:
    limits = (rate("messages client 3"),)
    one, other = Rates(str(tmp_path), limits), Rates(str(tmp_path), limits)
    assert one.take("messages", {"client": A}) == other.take("messages", {"client": A}) == ""
    one.close()
    again = Rates(str(tmp_path), limits)
    assert again.take("messages", {"client": A}) == "" != other.take("messages", {"client": A})
    assert sorted(path.name for path in tmp_path.glob("worker.*")) == ["worker.0", "worker.1"]
