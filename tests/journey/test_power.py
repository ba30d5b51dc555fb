"""R3, short: some disks as power loss leaves them. The whole of it is `make test-power`."""

import shutil
from pathlib import Path

import pytest

from tests.crash import power


@pytest.mark.harness
@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_r3_nothing_acknowledged_is_lost_without_power(tmp_path: Path, content: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    found = power.run(tmp_path, content, images=16, seed=3, count=6)
    assert found.images == 16 and found.acknowledged > 36
    assert found.wrong == []
