"""The house stays liveable: layers inside compiled modules, file sizes, heads of files, RFC citations."""

import dataclasses
import re
from pathlib import Path

import pytest

from tests.support.sources import PACKAGE, ROOT, outline, text

PYTHON = sorted(PACKAGE.rglob("*.py"))
CYTHON = sorted(PACKAGE.rglob("*.pyx"))
ROWS = [["_core"], ["model", "telemetry"], ["message"], ["durable", "dns"], ["net"], ["directory"], ["store", "auth", "queue", "policy"], ["delivery"],
        ["smtp"], ["imap", "pop3"], ["config"], ["admin"], ["app"], ["cli"]]  # fmt: skip
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
LINES = 500  # of a file
COMPILED = 800  # of a compiled one, whose helpers are static functions of the same C file, so that they can be inlined
STEPS = 60  # lines of a function


@pytest.mark.parametrize("path", CYTHON, ids=lambda p: p.name)
def test_compiled_modules_keep_the_layers(path: Path) -> None:
    mine = path.relative_to(PACKAGE).parts[0]
    for other in re.findall(r"(?:from|import)\s+fastmail\.(\w+)", text(path)):
        assert other == mine or LEVEL[other] < LEVEL[mine], f"{path} imports fastmail.{other}"


@pytest.mark.parametrize("path", CYTHON, ids=lambda p: p.name)
def test_compiled_modules_have_a_stub_and_no_intrinsics(path: Path) -> None:
    assert path.with_suffix(".pyi").exists()
    assert not re.search(r"immintrin|_mm_|__m128|arm_neon", text(path))


def test_only_durable_syncs() -> None:
    """Which sync comes before which reply is decided in one package. The benchmarks measure what a sync costs."""
    others = [path for path in PYTHON + CYTHON if path.relative_to(PACKAGE).parts[0] not in ("durable", "bench")]
    found = re.compile(
        r"\bos\.(?:fsync|fdatasync|sync)\b|import (?:fsync|fdatasync|sync)\b|\bc_(?:fsync|fdatasync|syncfs)\b"
    )
    assert [path for path in others if found.search(text(path))] == []


def test_files_are_rooms_not_halls() -> None:
    assert [path for path in PYTHON if len(text(path).splitlines()) > LINES] == []
    assert [path for path in CYTHON if len(text(path).splitlines()) > COMPILED] == []


def test_functions_can_be_read_at_a_glance() -> None:
    long = [
        (path.relative_to(PACKAGE), function.name)
        for path in PYTHON
        for function in outline(path).functions
        if function.last - function.first >= STEPS
    ]
    assert long == []


def test_the_median_file_is_small() -> None:
    sizes = sorted(n for p in PYTHON if (n := len(text(p).splitlines())) > 10)
    assert sizes[len(sizes) // 2] <= 200


def test_files_open_with_what_they_do() -> None:
    assert [path for path in PYTHON if not outline(path).docstring] == []


@pytest.mark.parametrize("name", ["smtp", "imap", "pop3"])
def test_protocol_files_name_their_rfc(name: str) -> None:
    for path in (PACKAGE / name).glob("*.py"):
        head = outline(path).docstring
        if path.name != "__init__.py":
            assert re.search(r"RFC \d+", head), path


def test_rfc_index_matches_the_code() -> None:
    index = {}
    for line in (ROOT / "docs" / "rfc.txt").read_text().splitlines():
        match = re.match(r"(\d+)\s+(yes|partial|no)\s+\S", line)
        if match:
            index[int(match.group(1))] = match.group(2)
    cited = set()
    for path in PYTHON + CYTHON + sorted((ROOT / "fastmail").rglob("*.pyi")):
        for group in re.findall(r"RFC ((?:\d{3,5}(?: \d+(?:\.\d+)*)?(?:,| and|;)?\s*)+)", text(path)):
            cited |= {int(n) for n in re.findall(r"\b(\d{3,5})\b", group) if int(n) > 800}
    missing = {n for n in cited if n not in index}
    assert not missing, f"cited but not in docs/rfc.txt: {sorted(missing)}"
    done = {n for n, state in index.items() if state != "no"}
    assert done <= cited, f"in docs/rfc.txt but cited nowhere: {sorted(done - cited)}"


def test_no_unfinished_work() -> None:
    word = "TO" + "DO|FIX" + "ME|XX" + "X"
    for path in PYTHON + CYTHON:
        assert not re.search(rf"\b({word})\b|NotImplementedError", text(path)), path


def test_every_setting_is_explained() -> None:
    from fastmail.config.settings import SECTIONS, TABLES

    for section in [*SECTIONS.values(), *TABLES.values()]:
        assert section.__doc__
        for item in dataclasses.fields(section):
            assert len(item.metadata["help"]) > 10, item.name


def test_every_package_has_unit_tests() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == {path.parent.name for path in (ROOT / "tests" / "unit").glob("*/__init__.py")}
    for name in packages:
        assert list((ROOT / "tests" / "unit" / name).glob("test_*.py")), name


def test_what_is_below_a_maildir_is_reached_one_way_only() -> None:
    """The store asks durable.beneath, which follows no link, and never ``os`` by a path. What a whole root is may be
    asked: that is the administrator's."""
    by_path = r"\bos\.(?:open|l?stat|listdir|scandir|rename|replace|unlink|remove|r?mkdir|makedirs|rmdir|link|symlink|utime|l?chown|chmod|walk|access)\("
    by_path += r"|\bos\.path\.(?:isdir|isfile|l?exists|getsize|getmtime|islink|realpath)\b|(?<![\w.])open\(|\bshutil\."
    places = [*(ROOT / "fastmail" / "store" / "local").rglob("*.py"), ROOT / "fastmail" / "durable" / "dotlock.py"]
    found = [
        f"{path.name}: {line.strip()}"
        for path in places
        for line in text(path).splitlines()
        if re.search(by_path, line) and "def open(" not in line
    ]
    whole = "return not self._commits.settings.segments or os.path.isdir(self._account_paths.home(account).root)"
    assert found == [f"mailboxes.py: {whole}"]
