"""R1 and R2, short: some kills, each of another kind. The whole of it is `make test-crash`."""

import shutil

import pytest

from tests.crash import kill

KINDS = {"maildir": ("keeper", "recovery", "supervisor"), "segments": ("checkpoint, all", "worker")}


@pytest.mark.harness
@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_r1_nothing_is_lost_by_kills(content: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    done = kill.run(len(KINDS[content]), 5, content, KINDS[content])
    assert done.total() == len(KINDS[content])
