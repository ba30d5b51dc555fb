"""tests.support.forks: tests in forked processes end as they do in one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each starts pytest anew
ROOT = Path(__file__).parents[2]
ENDS = """
import os, signal, sys, time, warnings
import pytest

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    place = tmp_path_factory.mktemp("shared")
    yield place
    (place.parent.parent / f"torn down by {os.getpid()}").touch()

@pytest.mark.parametrize("n", range(40))
def test_many(n, shared, tmp_path):
    assert tmp_path.is_dir() and shared.is_dir() and tmp_path.parent.name.startswith(PLACE)
    print("said by", n)
    assert n != 7, "seven is bad"

def test_skipped():
    pytest.skip("for a reason")

def test_warned():
    warnings.warn("mind the step", UserWarning)

@pytest.mark.xfail
def test_expected():
    assert 0

@pytest.fixture
def broken():
    yield
    raise ValueError("torn down badly")

def test_of_a_broken_fixture(broken):
    pass

def test_what_is_printed_is_captured(capfd):
    os.write(1, b"to the file")
    assert capfd.readouterr().out == "to the file"
"""


def run(place: Path, text: str, *args: str) -> "subprocess.CompletedProcess[str]":
    (place / "test_some.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.forks", "-p", "no:cacheprovider", "-rA", "-q"]
    return subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", place, f"--basetemp={place}/tmp", *args, place / "test_some.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def outcomes(said: str) -> tuple[list[str], str]:
    """The outcome of each test, and how many there are of each."""
    last = re.search(r"(\d+ .*) in [\d.]+s", said.splitlines()[-1])
    assert last, said
    return sorted(re.findall(r"(?m)^(?:PASSED|FAILED|SKIPPED|XFAIL|ERROR) .*", said)), last[1]


def test_everything_is_reported_as_by_one_process(tmp_path: Path) -> None:
    one = run(tmp_path, ENDS.replace("PLACE", "'tmp'"))
    several = run(tmp_path, ENDS.replace("PLACE", "'fork'"), "--forks", "3")
    assert outcomes(several.stdout) == outcomes(one.stdout)
    assert outcomes(one.stdout)[1] == "1 failed, 42 passed, 1 skipped, 1 xfailed, 1 warning, 1 error"
    assert several.returncode == one.returncode == 1
    for text in ("said by 7", "seven is bad", "mind the step", "torn down badly"):
        assert text in several.stdout
    assert several.stdout.count("said by 39") == one.stdout.count("said by 39")
    assert len(list(tmp_path.glob("tmp/torn down by *"))) > 1  # each process that made the fixture, at its end


def test_a_process_that_dies_fails_its_test_and_no_other(tmp_path: Path) -> None:
    text = """
import os, signal, pytest
@pytest.mark.parametrize("n", range(50))
def test_many(n):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 20:
        os._exit(5)
"""
    done = run(tmp_path, text, "--forks", "2")
    assert outcomes(done.stdout)[1] == "2 failed, 48 passed", done.stdout
    assert "ended with SIGKILL" in done.stdout and "ended with status 5" in done.stdout


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_no_more_is_begun_after_the_failure_that_is_one_too_many(tmp_path: Path, option: str) -> None:
    text = """
import pytest, time
@pytest.mark.parametrize("n", range(400))
def test_many(n):
    time.sleep(0.005)
    assert n
"""
    done = run(tmp_path, text, "--forks", "2", option)
    counts = outcomes(done.stdout)[1]
    assert counts.startswith("1 failed"), done.stdout
    assert int((re.findall(r"(\d+) passed", counts) or ["0"])[0]) < 200


def test_what_fails_to_be_collected_ends_it(tmp_path: Path) -> None:
    done = run(tmp_path, "import nothing_of_that_name\ndef test_one(): pass\n", "--forks", "2")
    assert done.returncode == 2 and "nothing_of_that_name" in done.stdout
