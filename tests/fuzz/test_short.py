"""A few seconds of `make fuzz` for each protocol."""

import argparse
import asyncio

import pytest

from tests.fuzz import sessions


@pytest.mark.parametrize("protocol", sessions.PROTOCOLS)
def test_damaged_sessions(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = asyncio.run(sessions.main(argparse.Namespace(seconds=4.0, seed=1, protocol=protocol)))
    assert done == 0, capsys.readouterr().out
