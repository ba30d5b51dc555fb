"""The web process as its supervisor has it: when it starts, what it says, and how soon it starts again."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from fastmail.app import worker
from fastmail.app.webprocess import LATE, SOON, WebProcess
from fastmail.config.settings import Config
from tests.support.ports import free_ports


def process(*places: str) -> WebProcess:
    config = Config()
    config.web.listen, config.web.plain = list(places), True
    made = WebProcess(config)
    made.load_certificate()
    made.bind(0o660, None)
    return made


def start(one: WebProcess, words: bytes, code: int) -> int:
    """Start a process that says this and ends. Returns its status."""

    def be_child(hears: int, says: int, work: Callable[[], None]) -> NoReturn:
        os.write(says, words)
        os._exit(code)

    one.start(be_child, lambda: None, None)
    return os.waitpid(one.pid, 0)[1]


def test_nothing_is_started_without_a_place() -> None:
    one = process()
    assert not one.is_due and one.unix_sockets == [] and one.tls is None


def test_one_that_ends_is_started_again_more_slowly_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = process(f"127.0.0.1:{free_ports(1)[0]}")
    waits = []
    for _ in range(12):
        now = time.monotonic() + 1000.0 * (len(waits) + 1)
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        assert one.is_due
        status = start(one, b"the reason", 1)
        assert one.pid and not one.is_due
        assert one.ended(status, wanted=False) == b"the reason" and not one.pid and not one.is_due
        waits.append(one._due - now)
    assert waits[0] == pytest.approx(SOON) and waits[-1] == pytest.approx(LATE) and waits == sorted(waits)
    status = start(one, worker.SERVES, 0)
    later = time.monotonic() + 100.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert one.ended(status, wanted=False) == b"", "it served, so there is no reason"
    assert one._due == pytest.approx(later + SOON), "one that served for long is started at once"
    status = start(one, b"", 0)
    assert one.ended(status, wanted=True) == b""
    one.close_sockets()


def test_paths_that_are_bound_are_known(tmp_path: Path) -> None:
    one = process(f"unix:{tmp_path}/s", f"127.0.0.1:{free_ports(1)[0]}")
    assert one.unix_sockets == [f"{tmp_path}/s"] and os.path.exists(f"{tmp_path}/s")
    one.close_sockets()
