"""A check of what the power harness believes of disks: tests.crash.disk."""

import random
from pathlib import Path

import pytest

from tests.crash.disk import Disk, calls

LOG = """\
1 openat(AT_FDCWD</>, "{root}/tmp/a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 3<{root}/tmp/a>
1 write(3<{root}/tmp/a>, "he\\x6clo\\n", 6) = 6
1 openat(AT_FDCWD</>, "{root}/index", O_RDWR|O_DSYNC) = 5<{root}/index>
1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2
1 fsync(3<{root}/tmp/a> <unfinished ...>
2 pwrite64(5<{root}/index>, "meta", 4, 2) = 4
1 <... fsync resumed>) = 0
1 rename("{root}/tmp/a", "{root}/new/a") = 0
1 openat(AT_FDCWD</>, "{root}/index", O_RDWR) = 8<{root}/index>
1 pwrite64(4<{root}/old>, "late", 4, 0) = 4
1 fsync(6<{root}/new>) = 0
1 pwrite64(8<{root}/index>, "X", 1, 0) = 1
1 unlink("{root}/old") = 0
1 rename("{root}/no", "{root}/yes") = -1 ENOENT (No such file or directory)
"""


def test_the_disk_keeps_what_was_synced_and_any_part_of_the_rest(tmp_path: Path) -> None:
    """Without its syncs a file, its name or a write may be gone."""
    root = tmp_path / "root"
    for name in ("tmp", "new"):
        (root / name).mkdir(parents=True)
    (root / "old").write_text("before")
    (root / "index").write_text("......")
    log = tmp_path / "log"
    log.write_text(LOG.replace("{root}", str(root)))

    def images(upto: int) -> set[tuple[tuple[str, str], ...]]:
        disk = Disk(root)
        for number, call in enumerate(calls(log)):
            if number < upto:
                disk.apply(call)
        seen = set()
        for seed in range(60):
            where = tmp_path / "image"
            disk.image(where, random.Random(seed), strict=bool(seed % 2))
            files = [path for path in sorted(where.rglob("*")) if path.is_file()]
            seen.add(tuple((str(path.relative_to(where)), path.read_text()) for path in files))
        return seen

    old, index = ("old", "before"), ("index", "......")
    made = [("tmp/a", ""), ("tmp/a", "hello\n")]
    assert images(0) == {(index, old)}
    assert images(2) == {(index, old), *((index, old, one) for one in made)}, "nothing is synced yet"
    changed = ("index", "..meta")
    assert images(4) == {(changed, old), *((changed, old, one) for one in made)}, "O_DSYNC; the other sync is not back"
    synced = {(changed, old), (changed, old, ("tmp/a", "hello\n"))}
    assert images(5) == synced, "content is synced, the name is not"
    assert images(6) == synced | {(changed, ("new/a", "hello\n"), old)}
    late, whole = ("old", "latere"), ("new/a", "hello\n")
    assert images(9) == {(changed, whole, one) for one in (old, late)}
    plain = ("index", "X.meta")  # written by the other descriptor, which is not O_DSYNC
    assert images(10) == {(one, whole, two) for one in (changed, plain) for two in (old, late)}
    assert images(11) == images(10) | {(one, whole) for one in (changed, plain)}
    assert len(list(calls(log))) == 11, "one failed"


RENAMED = """\
1 rename("{root}/new/a", "{root}/cur/a") = 0
1 fsync(6<{root}/SYNCED>) = 0
"""


@pytest.mark.parametrize("synced", ["new", "cur"])
def test_a_rename_is_kept_whole(tmp_path: Path, synced: str) -> None:
    """Whichever of its two directories is synced. Without a sync it may not be kept at all."""
    root, log = tmp_path / "root", tmp_path / "log"
    for name in ("new", "cur"):
        (root / name).mkdir(parents=True)
    (root / "new" / "a").write_text("mail")
    log.write_text(RENAMED.replace("{root}", str(root)).replace("SYNCED", synced))
    disk, seen = Disk(root), []
    for call in calls(log):
        disk.apply(call)
        found = set()
        for seed in range(60):
            disk.image(tmp_path / "image", random.Random(seed), strict=bool(seed % 2))
            found.add(tuple(str(path.relative_to(tmp_path / "image")) for path in (tmp_path / "image").glob("*/*")))
        seen.append(found)
    assert seen == [{("new/a",), ("cur/a",)}, {("cur/a",)}]
