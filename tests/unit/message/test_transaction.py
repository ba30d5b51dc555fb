"""fastmail.message.transaction: ids that nobody else has, in the order of time."""

import os
import time

import pytest

from fastmail.message import transaction


def test_ids_grow_and_say_when_they_were_made() -> None:
    before = transaction.oldest(0.0)
    made = [transaction.new_id() for _ in range(10_000)]
    assert made == sorted(set(made)) and all(len(one) == transaction.SIZE for one in made)
    assert before < made[0] and transaction.oldest(-60.0) > made[-1] > transaction.oldest(60.0)
    assert abs((transaction.number_of(made[0]) >> 12) / 1e6 - time.time()) < 60


def test_a_clock_that_is_set_back_gives_no_number_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    last = transaction.new_number()
    monkeypatch.setattr(transaction.time, "time", lambda: 1_000_000.0)
    assert last < transaction.new_number() < transaction.new_number()


def test_number_and_salt_make_the_id() -> None:
    number = transaction.new_number()
    ident = transaction.make(number, transaction.salt())
    assert transaction.number_of(ident) == number and ident[8:] == transaction.salt() == transaction.new_id()[8:]
    assert transaction.make(number, b"") == ident[:8] + bytes(8), "of a message that was queued before there were salts"


def test_a_process_that_was_forked_has_another_salt() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, transaction.salt())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100)
    os.close(reader)
    os.close(writer)
    assert len(theirs) == 8 and theirs != transaction.salt()
