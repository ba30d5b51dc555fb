"""``fastmail bench``: which server is measured, and what is said of the figures."""

import pytest
import typer

from fastmail.bench.journeys import Row
from fastmail.bench.machine import Machine
from fastmail.cli import bench

ABLE = Machine(2, "6.1", 500.0, 300.0, 900.0, 400.0)


def test_another_server_is_named_by_its_ports() -> None:
    target = bench._named("lmtp=mail.test:24,imap=mail.test:143,pop3=mail.test:110", "u%d", "big", "secret", 7)
    assert (target.host, target.ports) == ("mail.test", {"lmtp": 24, "imap": 143, "pop3": 110})
    assert (target.pattern, target.big, target.pid) == ("u%d", "big", 7)


@pytest.mark.parametrize("text", ["lmtp=mail.test:24", "imap=mail.test:143", "lmtp=24,imap=143", "lmtp=h:x,imap=h:1"])
def test_a_server_that_lacks_something(text: str) -> None:
    with pytest.raises(typer.Exit):
        bench._named(text, "u%d", "big", "secret", 0)


def row(name: str, rate: float, cpu: float | None) -> Row:
    return Row(name, rate, rate - 1, rate + 1, cpu, 2.0, 9.0)


@pytest.mark.parametrize(
    ("cpu", "content", "words"),
    [
        (1.9, "maildir", "The CPU limits them: the server used 95 % of all cores"),
        (0.5, "maildir", "The disk limits them (the file syncs of Maildirs): the server used 25 %"),
        (0.5, "segments", "the syncs of segments and index"),
        (None, "maildir", "One delivery alone takes 2.0 ms; one sync of this disk 2.00 ms. A faster disk"),
    ],
)
def test_what_limits_this_machine(cpu: float | None, content: str, words: str) -> None:
    rows = [row("deliver 4 KB by lmtp, 1 session", 100, cpu), row("deliver 4 KB by lmtp, 64 sessions", 1000, cpu)]
    said = " ".join(bench._verdict(ABLE, rows, content))
    assert words in said and "Most deliveries: 1,000 a second (deliver 4 KB by lmtp, 64 sessions)." in said


def test_a_row_is_on_one_line_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    bench._tell(row("a journey", 1234.5, 0.25))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == ["a", "journey", "1,234", "1,234", "to", "1,236", "0.250", "ms", "2.0", "ms", "9.0", "ms"]
