"""Environments with a journal, as tests open them, read them, and take them away as a crash or a loss of power would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from fastmail.durable import checkpoint, journal
from fastmail.durable.env import Environment
from fastmail.durable.layouts import Former
from fastmail.durable.opening import Journaled
from fastmail.durable.recovery import Files

ROOT = Path(__file__).parents[2]
PAGE = 4096
SECTOR = 512
Rows = dict[str, dict[bytes, bytes]]


def environment(
    place: Path,
    tables: Iterable[str] = ("rows",),
    size: int = 1 << 26,
    owner: Files | None = None,
    least: int = journal.LEAST,
    layout: int = 1,
    former: Sequence[Former] = (),
) -> Environment:
    """The environment ``place``/env, with a journal that has paths relative to ``place``."""
    journaled = Journaled(str(place), (lambda db: owner) if owner is not None else None, least)
    return Environment(str(place / "env"), list(tables), layout, size, former, journaled)


def put(env: Environment, rows: dict[bytes, bytes], sync: bool = True, table: str = "rows") -> None:
    """One transaction."""
    txn = env.begin(write=True)
    try:
        for key, value in rows.items():
            txn.put(key, value, db=env.db[table])
        txn.commit()
    finally:
        txn.abort()
    if sync:
        env.sync()


def rows(env: Environment) -> Rows:
    """All tables but ``meta``."""
    with env.read() as txn:
        return {
            name: {bytes(key): bytes(value) for key, value in txn.cursor(db=db).iternext()}
            for name, db in env.db.items()
            if name != "meta"
        }


def crashed(place: Path, where: Path) -> Path:
    """A copy of everything, as the kernel has it at this moment: what is left when all processes are killed."""
    shutil.copytree(place, where, ignore=shutil.ignore_patterns("lock.mdb"))
    return where


def beside(place: Path, name: str) -> Path:
    """Another directory, of this test only."""
    return place.with_name(f"{place.name}-{name}")


def take(env: Environment, wait: bool = True) -> bool:
    """Take a checkpoint now."""
    assert env._checkpoints is not None
    return env._checkpoints.take(wait=wait)


def state(place: Path) -> checkpoint.State:
    found = checkpoint.read(str(place / "env"))
    assert found is not None
    return found


def found(place: Path, at: journal.Position | None = None) -> list[journal.Found]:
    """The records behind the last checkpoint, or ``at``."""
    return list(journal.records(str(place / "env" / "journal"), at or state(place).position))


def mixture(old: bytes, new: bytes, random: Random) -> bytes:
    """What may be on a disk when ``old`` is, and ``new`` was written since without a sync: each page the old one, the
    new one, or sectors of both; the file as long as before, or longer."""
    end = random.choice([len(old), len(new), random.randrange(len(old), len(new) + 1) // PAGE * PAGE, len(new)])
    end = max(end, len(old))
    share = random.random()
    image = bytearray()
    for at in range(0, end, PAGE):
        before, after = old[at : at + PAGE].ljust(PAGE, b"\0"), new[at : at + PAGE].ljust(PAGE, b"\0")
        if before == after or random.random() < share:
            image += after
        elif random.random() < 0.3:
            for part in range(0, PAGE, SECTOR):
                image += random.choice([before, after])[part : part + SECTOR]
        else:
            image += before
    return bytes(image[:end])


HEAD = "import os, signal, sys\nfrom pathlib import Path\nfrom tests.support.journals import *\n"


def _command(script: str, arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-c", HEAD + script, *map(str, arguments)]


@contextmanager
def started(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs a script, killed at the end."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(_command(script, arguments), cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def in_process(script: str, *arguments: object, status: int | None = 0) -> str:
    """Run a script in a process of its own; what it wrote."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(_command(script, arguments), cwd=ROOT, env=environ, capture_output=True, text=True)
    assert status is None or done.returncode == status, done.stderr
    return done.stdout
