"""What sessions do about reports: which messages are counted, and which end here."""

import asyncio
from pathlib import Path

import pytest

from fastmail.feedback.counting import Tally
from fastmail.feedback.days import SEEN, Days
from fastmail.feedback.service import Feedback
from fastmail.feedback.taking import Taker
from tests.support.reporting import received
from tests.unit.feedback.test_taking import mail

OURS = "dmarc@example.org"


def counted(tmp_path: Path, recipients: list[str], content: bytes, result: str = "pass") -> bool:
    async def main() -> bool:
        days = Days(str(tmp_path))
        feedback = Feedback(Tally(days), Taker(days, OURS, lambda domain: True))
        feedback.note(received(result), "192.0.2.1", "", recipients, content)
        assert feedback.tally is not None
        await feedback.tally.close()
        found = bool(days.keys(SEEN))
        days.close()
        return found

    return asyncio.run(main())


def test_no_report_is_made_about_reports(tmp_path: Path) -> None:
    hello = b"From: a@example.org\nSubject: hello\n\n"
    about = b"From: a@example.org\nSubject: Report\n Domain: us.test\n\n".replace(b"\n D", b" D")
    assert not counted(tmp_path, [OURS], hello)
    assert not counted(tmp_path, ["user@example.org"], about)
    assert counted(tmp_path / "a", ["user@example.org"], about, "fail"), "anybody can write such a subject"
    assert counted(tmp_path / "b", ["user@example.org"], hello)
    assert counted(tmp_path / "c", [OURS, "user@example.org"], hello)


@pytest.mark.parametrize("keep", [True, False])
def test_a_message_that_was_read_may_end_here(tmp_path: Path, keep: bool) -> None:
    async def main() -> None:
        feedback = Feedback(None, Taker(Days(str(tmp_path)), OURS, lambda domain: True, keep))
        assert await feedback.take([OURS], mail(), None) is not keep
        assert not await feedback.take([OURS, "user@example.org"], mail(), None)
        assert not await feedback.take(["user@example.org"], mail(), None)
        assert not await feedback.take([OURS], b"From: a@b.test\n\nhello\n", None), "nobody has read it"
        assert not await Feedback().take([OURS], mail(), None)
        Feedback().note(received(), "192.0.2.1", "", [], b"")

    asyncio.run(main())
