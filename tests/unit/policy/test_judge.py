"""Scanners and the classifier together."""

import asyncio
import time
from pathlib import Path

import pytest

from fastmail.policy import judge as judging
from fastmail.policy.judge import Judge, Taught, finding
from fastmail.policy.learning.counts import HAM, SPAM, Learned, Lesson, Said
from fastmail.policy.learning.words import Words, read
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


def test_nobody_waits_for_a_thread_where_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are words read, until something is taught."""
    monkeypatch.setattr(judging, "UNTAUGHT", 0.0)
    asked: list[int] = []
    words: list[bytes] = []
    real, real_read = judging._ask, judging.read

    def ask(learned: Learned, owner: int, content: bytes) -> Said | None:
        asked.append(owner)
        return real(learned, owner, content)

    def reading(content: bytes) -> Words:
        words.append(content)
        return real_read(content)

    monkeypatch.setattr(judging, "_ask", ask)
    monkeypatch.setattr(judging, "read", reading)
    learned = taught(tmp_path)
    judge = Judge(Panel([]), Thresholds(), False, Taught(learned, 6.0))

    def said(owner: int) -> list[str]:
        return [one.reasons[0].name for one in asyncio.run(judge.look("smtp", Shown(SPAMMY % 99), owner))]

    assert [said(8), said(8), said(9), said(8)] == [[]] * 4 and asked == [8, 9] and not words
    assert said(7) == said(7) == ["learned.spam"] and asked == [8, 9, 7, 7]
    learned.teach([Lesson(8, read(text % n), kind) for text, kind in ((SPAMMY, SPAM), (DINNER, HAM)) for n in range(2)])
    assert said(8) == said(8) == [] and asked == [8, 9, 7, 7, 8], "it is looked again, and that is too little"
    learned.teach([Lesson(8, read(text % 9), kind) for text, kind in ((SPAMMY, SPAM), (DINNER, HAM))])
    assert said(8) == ["learned.spam"] and said(9) == []
    learned.forget(8)
    assert said(8) == []
    learned.close()


def test_what_is_remembered_of_owners_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "REMEMBERED", 3)
    learned = taught(tmp_path)
    judge = Judge(Panel([]), Thresholds(), False, Taught(learned, 6.0))
    for owner in range(20, 30):
        assert asyncio.run(judge.look("smtp", Shown(SPAMMY % 99), owner)) == [] and len(judge._silent) <= 3
    learned.close()


def test_the_first_lesson_counts_a_moment_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned(str(tmp_path), least=3)
    judge = Judge(Panel([]), Thresholds(), False, Taught(learned, 6.0))
    assert asyncio.run(judge.look("smtp", Shown(SPAMMY % 99), 7)) == []
    taught(tmp_path).close()
    judge._untaught = time.monotonic()
    assert [one.who for one in asyncio.run(judge.look("smtp", Shown(SPAMMY % 99), 7))] == ["learned"]
    learned.close()
