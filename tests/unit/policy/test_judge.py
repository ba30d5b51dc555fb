"""Scanners and the classifier together."""

import asyncio
from pathlib import Path

import pytest

from fastmail.policy import judge as judging
from fastmail.policy.judge import Judge, Taught, finding
from fastmail.policy.learning.counts import HAM, SPAM, Learned, Lesson, Said
from fastmail.policy.learning.words import read
from fastmail.policy.scanners.nouns import Shown
from fastmail.policy.scanners.panel import Panel
from fastmail.policy.verdict import Thresholds
from tests.support.scanning import scanner

SPAMMY = b"From: a@b.test\nSubject: cheap pills\nMessage-ID: <%d@b.test>\n\nBuy cheap pills online without prescription today\n"
DINNER = b"From: joe@c.test\nSubject: dinner\nMessage-ID: <%d@c.test>\n\nDinner is ready, come home soon please\n"


def taught(path: Path) -> Learned:
    learned = Learned(str(path), least=3)
    learned.teach([Lesson(7, read(text % n), kind) for text, kind in ((SPAMMY, SPAM), (DINNER, HAM)) for n in range(5)])
    return learned


def test_its_answer_is_a_reason(tmp_path: Path) -> None:
    learned = taught(tmp_path)
    judge = Judge(Panel([scanner("rspamd", "127.0.0.1:1")]), Thresholds(), False, Taught(learned, 6.0))
    assert judge.wanted("smtp") and not judge.wanted("submission")

    def look(content: bytes, owner: int, where: str = "smtp") -> list[tuple[str, str]]:
        found = asyncio.run(judge.look(where, Shown(memoryview(content)), owner))
        return [(one.who, one.reasons[0].name) for one in found]

    away = ("rspamd", "rspamd.away")
    assert look(SPAMMY % 99, 7) == [away, ("learned", "learned.spam")]
    assert look(DINNER % 99, 7) == [away, ("learned", "learned.ham")]
    assert look(SPAMMY % 99, 8) == [away], "nobody taught that account"
    assert look(SPAMMY % 99, 7, "submission") == [], "users' mail is not judged by it"
    learned.close()


def test_nothing_is_opened_where_nothing_was_taught(tmp_path: Path) -> None:
    judge = Judge(Panel([]), Thresholds(), False, Taught(Learned(str(tmp_path)), 6.0))
    assert asyncio.run(judge.look("smtp", Shown(SPAMMY % 1))) == [] and list(tmp_path.iterdir()) == []


def test_long_messages_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = taught(tmp_path)
    monkeypatch.setattr(judging, "LARGEST", len(SPAMMY % 99) - 1)
    assert (
        asyncio.run(Judge(Panel([]), Thresholds(), False, Taught(learned, 6.0)).look("smtp", Shown(SPAMMY % 99), 7))
        == []
    )
    learned.close()


def test_trouble_is_no_judgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = taught(tmp_path)

    def ask(*args: object) -> None:
        raise OSError("the disk")

    monkeypatch.setattr(Learned, "ask", ask)
    judge = Judge(Panel([]), Thresholds(), False, Taught(learned, 6.0))
    assert asyncio.run(judge.look("smtp", Shown(SPAMMY % 99), 7)) == []
    learned.close()


def test_scores() -> None:
    assert [finding(Said(chance, 9, True), 6.0).reasons[0].score for chance in (1.0, 0.9, 0.5, 0.0)] == [
        6.0,
        3.0,
        0.0,
        -1.5,
    ]
    assert finding(Said(0.5, 0, False), 6.0).reasons[0].name == "learned.unsure"
