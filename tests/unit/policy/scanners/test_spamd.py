"""spamd: what goes there, and what its answers mean."""

import pytest

from fastmail.policy.scanners import wire
from fastmail.policy.scanners.nouns import Trouble
from tests.support.scanning import MESSAGE, ask

SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 23\r\nSpam: True ; 15.0 / 5.0\r\n\r\nBAYES_99,HTML_MESSAGE\r\n"
HAM = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; -1.9 / 5.0\r\n\r\n"


@pytest.mark.parametrize("singly", [False, True])
def test_spam(singly: bool) -> None:
    found, there = ask("spamassassin", SPAM, "spamd", singly=singly, front=b"Received: x\n")
    assert (found.said, found.action, found.always) == ("15/5", "junk", False)
    (reason,) = found.reasons
    assert (reason.name, reason.score, reason.why) == ("spamassassin", 15.0, "15 of 5: BAYES_99 HTML_MESSAGE")
    head, _, sent = there.heard[0].partition(b"\r\n\r\n")
    assert sent == b"Received: x\n" + MESSAGE
    assert head == b"SYMBOLS SPAMC/1.5\r\nContent-length: %d" % len(sent)


@pytest.mark.parametrize("singly", [False, True])
def test_no_spam_has_a_score_all_the_same(singly: bool) -> None:
    found, _ = ask("spamassassin", HAM, "spamd", singly=singly)
    assert (found.action, found.reasons[0].score) == ("accept", -1.9)


def test_what_it_says_is_cut_down() -> None:
    """Rules of any number and length, ended early or without end."""
    rules = b"A" * 90 + b"," + b"\r\nX-Forged: 1\0" * 5000
    for more in (b"", b"Content-length: 999999999\r\n", b"Content-length: -1\r\n", b"Content-length: x\r\n"):
        found, _ = ask(
            "spamassassin",
            SPAM.partition(b"\r\nCon")[0] + b"\r\n" + more + b"spam: True ; 6 / 5\r\n\r\n" + rules,
            "spamd",
        )
        assert len(found.reasons[0].why) <= 200 and "\r" not in found.reasons[0].why


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SPAMD/1.1 0 EX_OK\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n\r\n",
        b"SPAMD/1.1 76 Bad header line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        HAM.replace(b"-1.9", b"nan"),
        HAM.replace(b"-1.9", b"1e300"),
        HAM.replace(b"5.0", b""),
        HAM.replace(b"False", b"Maybe"),
        b"SPAMD/1.1 0 EX_OK\r\n" + b"A: b\r\n" * 10_000,
        b"x" * (wire.ANSWER + 1),
    ],
)
def test_anything_else_is_no_answer(answer: bytes) -> None:
    with pytest.raises(Trouble):
        ask("spamassassin", answer, "spamd")
