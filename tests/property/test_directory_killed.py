"""A process that changes a directory is killed at random moments: what it was told to be done is there, nothing is half
done, and the next process goes on. What should be there is what the plain model says (tests.support.directory_model)."""

import os
import random
import signal
import time
from copy import deepcopy
from pathlib import Path

import pytest

from fastmail.directory.local import LocalDirectory
from tests.property.test_directory import agree, change
from tests.support.directory_model import Model

KILLS = 12
LONGEST = 0.15  # s that a process lives
pytestmark = pytest.mark.slow


def work(path: str, model: Model, seed: int, done: int) -> None:
    """Change the directory until killed; an octet goes to ``done`` behind each change, when it is on the disk."""
    place, chance = LocalDirectory(path), random.Random(seed)
    while True:
        change(chance, place, model)
        os.write(done, b".")


def killed(path: str, model: Model, seed: int, after: float) -> int:
    """How many changes a process was sure of when it was killed."""
    said, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(path, model, seed, done)
        finally:
            os._exit(1)
    os.close(done)
    os.read(said, 1)  # it is at work
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    count = 1
    while found := os.read(said, 65536):
        count += len(found)
    os.close(said)
    return count


def same(place: LocalDirectory, model: Model) -> bool:
    try:
        agree(place, model)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_what_was_done_is_there_and_nothing_by_half(tmp_path: Path, seed: int) -> None:
    moments, path = random.Random(seed), str(tmp_path / "directory")
    model, sure = Model(), 0
    LocalDirectory(path).close()
    for number in range(KILLS):
        place = LocalDirectory(path)
        again = place.copied(str(tmp_path / f"again{number}"))  # where the same changes are made once more
        place.close()
        count = killed(path, deepcopy(model), 1000 * seed + number, moments.random() * LONGEST)
        sure += count
        place, chance = LocalDirectory(path), random.Random(1000 * seed + number)
        for _ in range(count):
            change(chance, again, model)
        if not same(place, model):  # the change that nobody was told of may be there, and then all of it
            change(chance, again, model)
            agree(place, model)
        again.close()
        for one, _ in list(place.renames()):
            place.followed(one)
        agree(place, model)
        place.close()
    assert sure > KILLS
