"""What was learned: exact, bounded, and the same from every process."""

import random
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from fastmail.policy.learning import counts
from fastmail.policy.learning.counts import EVERYBODY, HAM, SPAM, Learned, Lesson, Totals
from fastmail.policy.learning.words import Words

ME = 7


def message(*words: str, ident: str = "") -> Words:
    return Words(frozenset(words), blake2b(f"{ident} {sorted(words)}".encode(), digest_size=16).digest())


def rows(learned: Learned) -> dict[str, list[tuple[bytes, bytes]]]:
    """All that is there, but for the day on which a word was last learned."""
    with learned.env.read() as txn:
        return {
            name: [
                (bytes(k), bytes(v)[: -2 if name == "word" else None])
                for k, v in txn.cursor(db=learned.env.db[name]).iternext()
            ]
            for name in counts.TABLES
        }


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    made = Learned(str(tmp_path), least=2)
    yield made
    made.close()


def test_a_message_counts_once(learned: Learned) -> None:
    one = message("cheap", "pills")
    assert learned.teach([Lesson(ME, one, SPAM)]) == ["learned"]
    before = rows(learned)
    assert learned.teach([Lesson(ME, one, SPAM), Lesson(ME, one, SPAM, undo=True)]) == ["known", "known"]
    assert rows(learned) == before
    assert learned.totals(ME) == Totals(1, 0, 2, 1) and learned.totals(EVERYBODY) == Totals()
    assert learned.owners() == [ME]


def test_what_is_taken_back_leaves_nothing(learned: Learned) -> None:
    learned.teach([Lesson(ME, message("dinner", "ready"), HAM)])
    before = rows(learned)
    one = message("cheap", "ready")
    assert learned.teach([Lesson(ME, one, SPAM)]) == ["learned"]
    assert learned.teach([Lesson(ME, one, HAM, undo=True)]) == ["taken back"]
    assert rows(learned) == before
    assert learned.teach([Lesson(ME, one, SPAM), Lesson(ME, one, 0)]) == ["learned", "taken back"]
    assert rows(learned) == before
    assert learned.teach([Lesson(ME, one, 0)]) == ["known"] and rows(learned) == before


def test_called_the_other_thing_it_is_learned_anew(learned: Learned) -> None:
    one = message("cheap")
    assert learned.teach([Lesson(ME, one, SPAM), Lesson(ME, one, HAM)]) == ["learned", "learned"]
    assert learned.totals(ME) == Totals(0, 1, 1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_any_lessons_taken_back_leave_what_was_there(learned: Learned, seed: int) -> None:
    """And counts are those of the lessons that hold, in whatever order they came."""
    rng = random.Random(seed)
    vocabulary = [f"word{n}" for n in range(12)]
    mail = [message(*rng.sample(vocabulary, rng.randint(0, 6)), ident=str(n)) for n in range(10)]
    learned.teach([Lesson(1, mail[0], SPAM), Lesson(EVERYBODY, mail[1], HAM)])
    before = rows(learned)
    holds: dict[tuple[int, int], int] = {}
    for _ in range(40):
        at, owner, kind, undo = (
            rng.randrange(2, 10),
            rng.choice((1, 2, EVERYBODY)),
            rng.choice((SPAM, HAM, 0)),
            rng.random() < 0.3,
        )
        learned.teach([Lesson(owner, mail[at], kind, undo)])
        known = holds.pop((owner, at), 0)
        if known and known != kind and undo:
            continue
        if kind:
            holds[owner, at] = kind
    fresh = Learned(str(Path(learned.path).parent / "fresh"))
    assert fresh.env
    fresh._hash = learned._hash
    fresh.teach([Lesson(1, mail[0], SPAM), Lesson(EVERYBODY, mail[1], HAM)])
    fresh.teach([Lesson(owner, mail[at], kind) for (owner, at), kind in holds.items()])
    for name in ("word", "known"):
        assert rows(learned)[name] == rows(fresh)[name]
    learned.teach([Lesson(owner, mail[at], 0) for owner, at in holds])
    after = rows(learned)
    assert after["word"] == before["word"] and after["known"] == before["known"]
    assert learned.totals(1) == Totals(1, 0, len(mail[0].words), 1)


def test_the_rarest_and_oldest_words_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned(str(tmp_path), most=80)
    often = [message(*(f"often{n}" for n in range(40)), ident=str(n)) for n in range(3)]
    monkeypatch.setattr(counts, "_today", lambda: 10)
    learned.teach([Lesson(ME, one, SPAM) for one in often])
    learned.teach([Lesson(ME, message(*(f"old{n}" for n in range(30))), HAM)])
    monkeypatch.setattr(counts, "_today", lambda: 11)
    learned.teach([Lesson(ME, message(*(f"new{n}" for n in range(20))), HAM)])
    totals = learned.totals(ME)
    assert (totals.spam, totals.ham, totals.words, totals.known) == (3, 2, 70, 5)
    left = {bytes(k) for k, _ in rows(learned)["word"]}
    assert len(left) == 70
    assert left >= set(learned._keys(ME, message(*(f"often{n}" for n in range(40)), *(f"new{n}" for n in range(20)))))
    learned.teach([Lesson(ME, message(*(f"old{n}" for n in range(30))), 0)])  # which went: nothing falls below zero
    assert learned.totals(ME).ham == 1


def test_the_oldest_messages_are_known_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = Learned(str(tmp_path), known=8)
    for day in range(9):
        monkeypatch.setattr(counts, "_today", lambda day=day: day)
        learned.teach([Lesson(ME, message("x", ident=str(day)), SPAM)])
    assert learned.totals(ME) == Totals(9, 0, 1, 7)
    assert learned.teach([Lesson(ME, message("x", ident="0"), SPAM), Lesson(ME, message("x", ident="8"), SPAM)]) == [
        "learned",
        "known",
    ]


def test_owners_are_bounded_apart(tmp_path: Path) -> None:
    learned = Learned(str(tmp_path), most=10)
    mine = message(*(f"mine{n}" for n in range(10)))
    learned.teach([Lesson(ME, mine, SPAM), Lesson(ME + 1, message(*(f"x{n}" for n in range(50))), SPAM)])
    assert learned.totals(ME).words == 10 and learned.totals(ME + 1).words == 8


def test_it_says_something_when_enough_was_learned(learned: Learned) -> None:
    spam = [message("cheap", "pills", "buy", f"s{n}", ident=f"s{n}") for n in range(4)]
    ham = [message("dinner", "ready", "joe", f"h{n}", ident=f"h{n}") for n in range(4)]
    assert learned.ask(ME, spam[0]) is None
    learned.teach([Lesson(EVERYBODY, one, SPAM) for one in spam] + [Lesson(EVERYBODY, ham[0], HAM)])
    assert learned.ask(ME, spam[0]) is None, "there is too little ham"
    learned.teach([Lesson(EVERYBODY, one, HAM) for one in ham])
    said = learned.ask(ME, message("cheap", "pills", "buy", "now"))
    assert said is not None and said.chance > 0.9 and (said.clues, said.own) == (3, False)
    said = learned.ask(ME, message("dinner", "ready", "joe"))
    assert said is not None and said.chance < 0.1
    said = learned.ask(ME, message("nobody", "knows"))
    assert said is not None and (said.chance, said.clues) == (0.5, 0)
    # what an account teaches counts before what everybody does
    learned.teach([Lesson(ME, one, HAM) for one in spam] + [Lesson(ME, one, SPAM) for one in ham])
    said = learned.ask(ME, message("cheap", "pills", "buy", "now"))
    assert said is not None and said.chance < 0.1 and said.own
    other = learned.ask(ME + 1, message("cheap", "pills", "buy", "now"))
    assert other is not None and other.chance > 0.9


def test_forgetting(learned: Learned) -> None:
    learned.teach([Lesson(ME, message("a", "b"), SPAM), Lesson(ME + 1, message("a"), HAM)])
    learned.forget(ME)
    assert learned.owners() == [ME + 1] and learned.totals(ME) == Totals() and learned.totals(ME + 1).words == 1
    assert all(key.startswith((ME + 1).to_bytes(8, "big")) for table in rows(learned).values() for key, _ in table)


def test_it_is_there_after_a_restart_and_tells_no_text(tmp_path: Path) -> None:
    learned = Learned(str(tmp_path))
    assert not learned.there
    learned.teach([Lesson(ME, message("supercalifragilistic"), SPAM)])
    learned.close()
    again = Learned(str(tmp_path))
    assert again.there and again.teach([Lesson(ME, message("supercalifragilistic"), SPAM)]) == ["known"]
    assert again.teach([Lesson(ME, message("supercalifragilistic", ident="2"), SPAM)]) == ["learned"]
    assert again.totals(ME) == Totals(2, 0, 1, 2)
    again.close()
    assert b"supercali" not in (tmp_path / "learned" / "data.mdb").read_bytes()
