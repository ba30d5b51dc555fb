"""What a confined process may write to; each try in a process of its own, because nothing undoes it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from fastmail.app.confine import confine
inside, other, outside = sys.argv[1:]
why = confine([inside, other])
if why:
    print("no", why)
    sys.exit()
def what(work):
    try:
        work()
        return "done"
    except OSError as error:
        return error.strerror
def write(path):
    with open(path, "w") as file:
        file.write("x")
os.mkdir(inside + "/deep")
for name, work in {
    "write inside": lambda: write(inside + "/deep/a"),
    "link across": lambda: os.link(inside + "/deep/a", inside + "/b"),
    "rename across": lambda: os.rename(inside + "/deep/a", other + "/a"),
    "null": lambda: write("/dev/null"),
    "read outside": lambda: open(outside + "/there").close(),
    "write outside": lambda: write(outside + "/new"),
    "append outside": lambda: open(outside + "/there", "a").close(),
    "truncate outside": lambda: os.truncate(outside + "/there", 0),
    "unlink outside": lambda: os.unlink(outside + "/there"),
    "rename out": lambda: os.rename(inside + "/b", outside + "/b"),
    "by a link": lambda: (os.symlink(outside, inside + "/way"), write(inside + "/way/new")),
    "a child": lambda: os.waitstatus_to_exitcode(os.system(f"touch {outside}/child")) and os.unlink(outside),
}.items():
    print(name + ":", what(work))
"""


def test_a_confined_process_writes_to_its_directories_only(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("inside", "other", "outside")]
    for place in places:
        place.mkdir()
    (places[2] / "there").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, places)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("no this kernel has no Landlock"):
        pytest.skip(done.stdout)
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    for name in ("write inside", "link across", "rename across", "null", "read outside"):
        assert found.pop(name) == "done", name
    assert len(found) == 7 and not {"done"} & set(found.values()), found
    assert [path.name for path in places[2].iterdir()] == ["there"] and (places[2] / "there").read_text() == "kept"


def test_what_cannot_be_confined_says_why(tmp_path: Path) -> None:
    program = "import sys; from fastmail.app.confine import confine; print(confine(sys.argv[1:])); open(sys.argv[1] + '.x', 'w')"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "missing")], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and done.stdout.strip() != "", "nothing changed, and it says why"
