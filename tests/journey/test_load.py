"""R11 to R13, R19, R20, R22 to R25, S22 to S24, S29, S34, S36, and clients that do not read, short: the whole of it is
`make test-load`."""

from pathlib import Path

import pytest

from tests.load.gates import GATES


@pytest.mark.harness
@pytest.mark.alone
@pytest.mark.parametrize("gate", list(GATES))
def test_a_gate_is_kept(tmp_path: Path, gate: str) -> None:
    assert GATES[gate](tmp_path / "s", 0.02)
