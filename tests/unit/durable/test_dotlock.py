"""fastmail.durable.dotlock: one holder, and locks of the dead are taken away."""

import os
import subprocess
import sys
import time
from pathlib import Path

from fastmail.durable import dotlock


def test_one_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "x.lock")
    assert dotlock.take(path) and not dotlock.take(path)
    assert Path(path).read_text() == f"{os.getpid()}:{os.uname().nodename}"
    dotlock.drop(path)
    dotlock.drop(path)
    dotlock.touch(path)
    assert dotlock.take(path)


def test_locks_that_nobody_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for text in (f"{gone.stdout.strip()}:{os.uname().nodename}", gone.stdout.strip()):
        path.write_text(text)
        assert dotlock.take(str(path))
    for text in (f"{gone.stdout.strip()}:elsewhere.example.test", f"{os.getpid()}:{os.uname().nodename}", "", "\xff"):
        path.write_text(text, encoding="latin-1")
        assert not dotlock.take(str(path))
        old = time.time() - (dotlock.STALE if text else dotlock.UNSAID) - 1
        os.utime(path, (old, old))
        assert dotlock.take(str(path))


def test_many_that_want_it(tmp_path: Path) -> None:
    """Each adds one to a number, under the lock."""
    (tmp_path / "n").write_text("0")
    program = (
        "import sys, time; from pathlib import Path; from fastmail.durable import dotlock\n"
        "place = Path(sys.argv[1])\n"
        "for _ in range(40):\n"
        "    while not dotlock.take(str(place / 'n.lock')): time.sleep(0.001)\n"
        "    (place / 'n').write_text(str(int((place / 'n').read_text()) + 1))\n"
        "    dotlock.drop(str(place / 'n.lock'))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(4)]
    assert [one.wait(60) for one in running] == [0] * 4
    assert (tmp_path / "n").read_text() == "160"


def test_many_that_find_a_dead_one(tmp_path: Path) -> None:
    """One of them gets it; what was taken in its place is not taken away."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    program = (
        "import os, sys, time; from pathlib import Path; from fastmail.durable import dotlock\n"
        "place = Path(sys.argv[1])\n"
        "while not (place / 'go').exists(): pass\n"
        "for n in range(6):\n"
        "    while not (place / f'{n}.lock').exists(): pass\n"
        "    if dotlock.take(str(place / f'{n}.lock')):\n"
        "        time.sleep(0.1); print(n, dotlock.is_held(str(place / f'{n}.lock')))\n"
        "(place / f'{os.getpid()}.ended').touch()\n"  # the locks of one that ends are dead again: wait for the others
        "while len(list(place.glob('*.ended'))) < 4: time.sleep(0.01)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for n in range(6):
        (tmp_path / f"{n}.lock").write_text(f"{gone.stdout.strip()}:{os.uname().nodename}")
    (tmp_path / "go").touch()
    lines = [line for one in running for line in one.communicate(timeout=60)[0].splitlines()]
    assert sorted(lines) == [f"{n} True" for n in range(6)]


def test_a_lock_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert dotlock.take(str(path)) and dotlock.is_held(str(path))
    path.write_text("1:elsewhere.example.test")
    assert not dotlock.is_held(str(path))
    dotlock.drop(str(path))
    assert path.exists()
