"""The layout version of an environment: a newer one is refused and left as it is; an older one is raised."""

from pathlib import Path

import pytest

from fastmail.durable.env import Environment, layout_of
from fastmail.model.errors import ConfigError


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    place = str(tmp_path / "env")
    env = Environment(place, ["rows"], 7, 1 << 22)
    with env.write() as txn:
        txn.put(b"key", b"value", db=env.db["rows"])
    env.close()
    with pytest.raises(ConfigError, match="layout 7, this one reads 6"):
        Environment(place, ["rows"], 6, 1 << 22)
    assert layout_of(place)[0] == 7


def test_an_older_layout_is_raised(tmp_path: Path) -> None:
    place = str(tmp_path / "env")
    Environment(place, ["rows"], 1, 1 << 22).close()
    assert layout_of(place)[0] == 1
    Environment(place, ["rows"], 2, 1 << 22).close()
    assert layout_of(place)[0] == 2
