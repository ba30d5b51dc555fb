"""What the fuzzers found before; and a few seconds of `make fuzz-every` for each parser and protocol."""

import argparse
import asyncio
import time

import pytest

from tests.fuzz import parsers, sessions


@pytest.mark.parametrize("parser", parsers.PARSERS)
def test_what_was_found_before(parser: str) -> None:
    kept = parsers.CASES / parser
    for seed in [int(line) for line in kept.read_text().split()] if kept.exists() else [1]:
        assert parsers.once(parser, seed) == "", f"seed {seed}"


@pytest.mark.harness
@pytest.mark.parametrize("protocol", sessions.PROTOCOLS)
def test_damaged_sessions(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = asyncio.run(sessions.main(argparse.Namespace(seconds=4.0, seed=1, protocol=protocol)))
    assert done == 0, capsys.readouterr().out


@pytest.mark.harness
@pytest.mark.parametrize("parser", parsers.PARSERS)
def test_damaged_input(parser: str) -> None:
    until = time.monotonic() + 2.0
    seed = 1
    while time.monotonic() < until:
        assert parsers.once(parser, seed) == "", f"seed {seed}"
        seed += 1
