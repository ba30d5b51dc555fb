"""How far `fastmail upgrade` has come, on standard error: a bar on a terminal, otherwise a line now and then."""

import json as formats
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fastmail.cli.common import errors
from fastmail.durable import progress

PAUSE = 5.0  # s between two lines about the same environment


@contextmanager
def shown(data_dir: str, json: bool) -> Iterator[None]:
    """Say how far conversions have come until the block ends."""
    if errors.console.is_terminal and not json:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=errors.console) as bar:
            tasks: dict[str, TaskID] = {}

            def move(path: str, done: int, rows: int) -> None:
                if path not in tasks:
                    tasks[path] = bar.add_task(os.path.relpath(path, data_dir), total=rows)
                bar.update(tasks[path], completed=done)

            yield from _with(move)
    else:
        yield from _with(Lines(data_dir, json).tell)


def _with(told: "progress.Told") -> Iterator[None]:
    before, progress.told = progress.told, told
    try:
        yield
    finally:
        progress.told = before


class Lines:
    """One line when a conversion begins and when it ends, and one every PAUSE seconds."""

    def __init__(self, data_dir: str, json: bool) -> None:
        self._data_dir = data_dir
        self._json = json
        self._begun: dict[str, float] = {}
        self._last = 0.0

    def tell(self, path: str, done: int, rows: int) -> None:
        now = time.monotonic()
        first = path not in self._begun
        begun = self._begun.setdefault(path, now)
        if not first and done < rows and now - self._last < PAUSE:
            return
        self._last = now
        left = round((now - begun) * (rows - done) / done) if done else None
        name = os.path.relpath(path, self._data_dir)
        if self._json:
            text = formats.dumps({"what": name, "done": done, "rows": rows, "seconds_left": left})
        else:
            more = f", about {left} s left" if left is not None and done < rows else ""
            text = f"{name}: {done} of {rows} rows{more}"
        errors.print(text, markup=False, highlight=False, soft_wrap=True)
