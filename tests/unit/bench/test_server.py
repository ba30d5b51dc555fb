"""fastmail.bench.server: how the throw-away server is set up. That it serves is in tests/journey/test_bench.py."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fastmail.bench import server
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.local import LocalDirectory


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations of what would have been started."""
    seen: list[Config] = []

    @contextlib.contextmanager
    def serving(config: str, log: str, ports: Sequence[int], patience: float = 20.0) -> Iterator[int]:
        seen.append(load(config))
        yield 4711

    monkeypatch.setattr(server, "serving", serving)
    return seen


def test_a_server_with_its_users_in_a_directory_of_its_own(tmp_path: Path, started: list[Config]) -> None:
    with server.running(str(tmp_path), "segments", 3, "\n[limits]\nconnections = 77\n", fresh=5) as target:
        (config,) = started
        assert (config.store.content, config.server.workers, config.limits.connections) == ("segments", 3, 77)
        assert config.log.level == "warning"
        listening = {name: getattr(config.listen, name) for name in server.PROTOCOLS}
        assert listening == {name: [f"127.0.0.1:{port}"] for name, port in target.ports.items()}
        assert (target.pid, target.fresh, Path(target.directory).parent) == (4711, 5, tmp_path)
        directory = LocalDirectory(config.server.data_dir)
        names = {record.address for record in directory.accounts()}
        directory.close()
        assert {*target.everybody, target.big, "f0@bench.example", "f4@bench.example"} <= names
        assert target.idlers(2) == ["f3@bench.example", "f4@bench.example"]
        assert target.idlers(4) == [target.pattern % n for n in range(4)], "not so many are left"
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_behind_one_that_fails(tmp_path: Path, started: list[Config]) -> None:
    with pytest.raises(RuntimeError), server.running(str(tmp_path), "maildir", 1, fresh=0):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
