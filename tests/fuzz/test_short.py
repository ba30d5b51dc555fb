"""A few seconds of `make fuzz-every` for each parser and protocol, and what it found before."""

import argparse
import asyncio
import time

import pytest

from tests.fuzz import parsers, sessions


@pytest.mark.parametrize("protocol", sessions.PROTOCOLS)
def test_damaged_sessions(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = asyncio.run(sessions.main(argparse.Namespace(seconds=4.0, seed=1, protocol=protocol)))
    assert done == 0, capsys.readouterr().out


@pytest.mark.parametrize("parser", parsers.PARSERS)
def test_damaged_input(parser: str) -> None:
    kept = parsers.CASES / parser
    for seed in [int(line) for line in kept.read_text().split()] if kept.exists() else []:
        assert parsers.once(parser, seed) == "", f"seed {seed}"
    until = time.monotonic() + 1.0
    seed = 1
    while time.monotonic() < until:
        assert parsers.once(parser, seed) == "", f"seed {seed}"
        seed += 1
