"""Base subjects, dates, ids, threads and sorting, compiled, against their slow, obvious forms (RFC 5256 2, 3)."""

import email.utils
import random
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import mime, order
from fastmail._core.threads import Threads
from fastmail._core.uidset import UidSet
from tests.support import threading as slow
from tests.support.examples import some

PIECES = [
    "re",
    "Fwd",
    "fw",
    ":",
    " ",
    "[a]",
    "[",
    "]",
    "[fwd:",
    "(fwd)",
    "x",
    "é",
    "\t",
    "\r\n ",
    "(",
    "[fwd: b]",
    "RE:",
    "[b] ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=some(3000), deadline=None)
def test_base_subject_agrees_with_the_steps_of_the_standard(text: str) -> None:
    base, reply = order.base_subject(text.encode())
    assert (base.decode(), reply) == slow.base_subject(text)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.integers(-12 * 60, 14 * 60))
def test_dates_agree_with_the_standard_library(when: datetime, minutes: int) -> None:
    local = when.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert order.sent_date(email.utils.format_datetime(local).encode()) == int(local.timestamp())
    old = local.strftime("%d-%b-%Y %H:%M:%S").encode()
    assert order.sent_date(old) == int(local.replace(tzinfo=UTC).timestamp())


@given(st.binary(max_size=60))
def test_any_octets_have_a_date_and_ids_or_not(value: bytes) -> None:
    order.sent_date(value)
    assert all(one and b"<" not in one and b">" not in one for one in order.message_ids(value))
    order.base_subject(value)


class Mailbox:
    """Messages whose ids, references, subjects and dates repeat, as the compiled table and as the oracle see them."""

    def __init__(self, rng: random.Random, count: int) -> None:
        ids = [f"m{k}" for k in range(max(2, count))]
        self.entries: list[slow.Entry] = []
        items, uids, dates = [], [], []
        for number in range(count):
            uid = number * rng.choice([1, 1, 3]) + 1 if not uids else uids[-1] + rng.choice([1, 1, 1, 40])
            refs = rng.choices(ids, k=rng.choice([0, 0, 1, 2, 3, 6]))
            ident = rng.choice([*ids, ""]) if rng.random() < 0.4 else ids[number]
            subject = rng.choice(["", "x", "y", "Re: x", "[l] fwd: y", "X", f"z{number}"])
            sent = rng.randint(1, 8)
            head = f"Subject: {subject}\nDate: {sent} Jan 2024 10:00 +0000\n"
            head += f"Message-ID: <{ident}>\n" if ident else ""
            head += "References: " + " ".join(f"<{one}>" for one in refs) + "\n" if refs else ""
            uids.append(uid)
            dates.append(5)
            items.append((uid, mime.scan(head.encode() + b"\nx\n")))
            base, reply = slow.base_subject(subject)
            when = int(datetime(2024, 1, sent, 10, tzinfo=UTC).timestamp())
            self.entries.append(
                slow.Entry(uid, when, base.upper(), reply, ident.encode() or None, tuple(one.encode() for one in refs))
            )
        self.table = Threads(bytes(range(16)))
        cut = rng.randint(0, count)
        for part in (slice(0, cut), slice(cut, count)):
            assert self.table.add(uids[part], dates[part], items[part]) == ([], [])  # type: ignore[arg-type]
        self.uids = uids

    def check(self, rng: random.Random) -> None:
        found = sorted(rng.sample(self.uids, rng.randint(0, len(self.uids))) if rng.random() < 0.5 else self.uids)
        chosen = [entry for entry in self.entries if entry.uid in found]
        names = {entry.uid: entry.uid for entry in chosen}
        want = UidSet.of(found)
        assert self.table.answer(0, want, None) == slow.render(slow.ordered_subject(chosen), names)
        assert self.table.answer(1, want, None) == slow.render(slow.references(chosen, True), names)
        assert self.table.answer(2, want, None) == slow.render(slow.references(chosen, False), names)
        all_uids = UidSet.of(self.uids)
        numbers = {uid: all_uids.seq(uid) for uid in names}
        assert self.table.answer(1, want, all_uids) == slow.render(slow.references(chosen, True), numbers)


@given(st.integers(0, 1 << 40), st.integers(0, 24))
@settings(max_examples=some(1500), deadline=None)
def test_threads_are_those_of_the_plain_algorithm(seed: int, count: int) -> None:
    rng = random.Random(seed)
    box = Mailbox(rng, count)
    box.check(rng)
    kept = UidSet.of(sorted(rng.sample(box.uids, len(box.uids) // 2)))
    box.table.keep(kept)
    box.entries = [entry for entry in box.entries if entry.uid in kept]
    box.uids = list(kept)
    assert len(box.table) == len(kept)
    box.check(rng)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.binary(max_size=3), st.integers()), max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_ranked_sorts_as_sorted_does(rows: list[tuple[int, bytes, int]], down: bool, down_too: bool) -> None:
    rows = [(a, b, c % (1 << 60)) for a, b, c in rows]
    columns = [
        ([row[0] for row in rows], down),
        ([row[1] for row in rows], down_too),
        ([row[2] for row in rows], False),
    ]
    wanted = list(range(len(rows)))
    for values, reverse in reversed(columns):
        wanted.sort(key=values.__getitem__, reverse=reverse)  # type: ignore[index]
    assert order.ranked(columns, len(rows)) == wanted  # type: ignore[arg-type]
