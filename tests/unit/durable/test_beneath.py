"""fastmail.durable.beneath: no link behind the mark of a path is followed, with openat2 and without it."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmail.durable import beneath, files, replace, stage
from fastmail.model.errors import StorageFailed
from tests.support import without_openat2

pytestmark = pytest.mark.parametrize("way", list(without_openat2.WAYS))


def refused(code: int | tuple[int, ...], work: Callable[[], object]) -> None:
    with pytest.raises(OSError) as found:
        work()
    assert found.value.errno in (code if isinstance(code, tuple) else (code,)), found.value


def farm(path: Path) -> str:
    """A root, reached by an administrator's link, full of links to a neighbour; its path with the mark."""
    for who in ("mine", "other"):
        for sub in ("cur", "new", "tmp"):
            (path / who / sub).mkdir(parents=True)
        (path / who / "cur" / "file").write_bytes(who.encode())
    (path / "home").symlink_to("mine")
    mine = path / "mine"
    (mine / "away").symlink_to(path / "other")
    (mine / "near").symlink_to("../other/cur")
    (mine / "inside").symlink_to("cur")
    (mine / "cur" / "link").symlink_to(path / "other" / "cur" / "file")
    (mine / "cur" / "magic").symlink_to("/proc/self/cwd")
    os.mkfifo(mine / "cur" / "pipe")
    return beneath.guarded(str(path / "home"))


def test_what_leads_elsewhere_is_not_opened(way: str, tmp_path: Path) -> None:
    def work() -> None:
        top = farm(tmp_path)
        assert beneath.read(f"{top}/cur/file", 100) == b"mine"
        for name in ("away/cur/file", "near/file", "inside/file", "cur/link", "cur/magic/x"):
            refused(errno.ELOOP, lambda name=name: beneath.read(f"{top}/{name}", 100))
            refused(errno.ELOOP, lambda name=name: files.read_file(f"{top}/{name}".encode()))
            refused(errno.ELOOP, lambda name=name: beneath.open_file(f"{top}/{name}", os.O_WRONLY | os.O_CREAT))
        for name in ("../other/cur/file", "cur/../../other/cur/file", "..", "cur/.."):
            refused(errno.EXDEV, lambda name=name: beneath.open_fd(f"{top}/{name}", os.O_RDONLY))
        refused(errno.EINVAL, lambda: beneath.read(f"{top}/cur/pipe", 1))  # and nobody waited
        refused(errno.ENXIO, lambda: beneath.open_file(f"{top}/cur/pipe", os.O_WRONLY))
        refused(errno.ENOENT, lambda: beneath.read(f"{top}/cur/none", 1))
        refused(errno.ENOTDIR, lambda: beneath.read(f"{top}/cur/file/x", 1))
        refused(errno.ENAMETOOLONG, lambda: beneath.read(f"{top}/{'x' * 300}/y", 1))
        for name in ("away", "near", "inside"):
            assert not beneath.is_directory(f"{top}/{name}") and beneath.exists(f"{top}/{name}")
            refused((errno.ELOOP, errno.ENOTDIR), lambda name=name: beneath.names(f"{top}/{name}"))
        assert beneath.is_directory(top) and "cur" in beneath.names(top)
        found = files.directory_times([f"{top}/{name}".encode() for name in ("cur", "near", "away/cur", "none")])
        assert found == [(tmp_path / "mine" / "cur").stat().st_mtime_ns, -1, -1, -1]

    without_openat2.run(way, work)


def test_files_read_one_after_the_other_lead_nowhere_else(way: str, tmp_path: Path) -> None:
    def work() -> None:
        for directory, below in ((farm(tmp_path), "cur/"), (beneath.guarded(str(tmp_path / "mine")) + "/cur", "")):
            one = files.Directory(directory.encode())
            for _ in range(2):
                assert one.read_now(f"{below}file".encode()) in (b"mine", None)
            refusals = {
                "link": errno.ELOOP,
                "magic/x": errno.ELOOP,
                "none": errno.ENOENT,
                "pipe": errno.EIO,
                "x" * 5000: errno.ENAMETOOLONG,
            }
            for name, code in {**refusals, "../../other/cur/file": errno.EXDEV}.items():
                try:
                    found = one.read_now(f"{below}{name}".encode())
                except OSError as error:
                    assert error.errno == code, (name, error)
                else:
                    assert found is None, name  # that cannot be said without waiting: the other form says it
            one.close()
            assert one.read_now(f"{below}file".encode()) in (b"mine", None), "it is opened again"

    without_openat2.run(way, work)


def test_nothing_is_changed_elsewhere(way: str, tmp_path: Path) -> None:
    def work() -> None:
        top = farm(tmp_path)
        for name in ("away/cur/file", "near/file", "inside/file"):
            there, here = f"{top}/{name}", f"{top}/tmp/x"
            for one in (
                lambda there=there: beneath.unlink(there),
                lambda there=there, here=here: beneath.rename(there, here),
                lambda there=there, here=here: beneath.rename(f"{top}/cur/file", there),
                lambda there=there, here=here: beneath.link(there, here),
                lambda there=there, here=here: beneath.link(f"{top}/cur/file", there + "2"),
                lambda there=there: beneath.make_directory(there + "d"),
                lambda there=there: beneath.make_directories(there + "d"),
                lambda there=there: beneath.remove_directory(os.path.dirname(there)),
                lambda there=there: beneath.set_times(there, (1, 1)),
                lambda there=there: beneath.lstat(there),
            ):
                refused((errno.ELOOP, errno.ENOTDIR, errno.EEXIST), one)
            beneath.remove_tree(os.path.dirname(there))
        beneath.rename(f"{top}/cur/link", f"{top}/tmp/link")  # the link itself is a name like any other
        beneath.link(f"{top}/tmp/link", f"{top}/tmp/again")
        beneath.unlink(f"{top}/tmp/link")
        beneath.remove_tree(f"{top}/tmp")
        assert sorted(os.listdir(tmp_path / "mine")) == ["away", "cur", "inside", "near", "new"]
        assert sorted(os.listdir(tmp_path / "other")) == ["cur", "new", "tmp"]
        assert os.listdir(tmp_path / "other" / "cur") == ["file"]
        assert (tmp_path / "other" / "cur" / "file").read_bytes() == b"other"
        assert (tmp_path / "mine" / "cur" / "file").read_bytes() == b"mine"
        assert (tmp_path / "other" / "cur" / "file").stat().st_mtime > 1000

    without_openat2.run(way, work)


def test_what_is_ones_own_can_be_changed(way: str, tmp_path: Path) -> None:
    def work() -> None:
        top = farm(tmp_path)
        mine = tmp_path / "mine"
        beneath.make_directories(f"{top}/.A/B/cur")
        beneath.make_directories(f"{top}/.A/B/cur")
        descriptor = beneath.open_file(f"{top}/.A/B/cur/1", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, b"x")
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
        beneath.rename(f"{top}/.A/B/cur/1", f"{top}/cur/2")
        beneath.link(f"{top}/cur/2", f"{top}/new/3")
        beneath.set_times(f"{top}/cur/2", (5, 7))
        assert (mine / "new" / "3").stat().st_mtime_ns == 7 and beneath.lstat(f"{top}/cur/2").st_nlink == 2
        codes = files.rename_batch(
            [(f"{top}/{old}".encode(), f"{top}/{new}".encode())
             for old, new in (("cur/2", "new/4"), ("cur/none", "cur/x"), ("new/4", "cur/5"), ("near/file", "cur/6"))]
        )  # fmt: skip
        assert codes == [0, errno.ENOENT, 0, errno.ELOOP] and sorted(os.listdir(mine / "new")) == ["3"]
        beneath.unlink(f"{top}/new/3")
        beneath.remove_directory(f"{top}/.A/B/cur")
        assert os.listdir(mine / ".A" / "B") == []
        fresh = beneath.guarded(str(tmp_path / "not" / "yet"))
        beneath.make_directories(f"{fresh}/cur")
        assert os.listdir(tmp_path / "not" / "yet") == ["cur"]
        plain = str(tmp_path / "home" / "cur" / "link")
        assert beneath.is_directory(str(tmp_path / "home")) and os.path.exists(plain)  # not guarded: as ever

    without_openat2.run(way, work)


def test_a_group_commit_stays_in_its_maildir(way: str, tmp_path: Path) -> None:
    def work() -> None:
        top = farm(tmp_path).encode()
        (tmp_path / "mine" / "new").rmdir()
        (tmp_path / "mine" / "new").symlink_to(tmp_path / "other" / "new")
        names = [
            (b"/tmp/1", b"/cur/1"),
            (b"/tmp/2", b"/new/2"),
            (b"/away/tmp/3", b"/cur/3"),
            (b"/tmp/4", b"/away/cur/4"),
        ]
        jobs: list[stage.Write] = [
            (top + source, top + final, top + os.path.dirname(final), [b"x"], -1, -1, False) for source, final in names
        ]
        linked = [(b"/cur/file", b"/cur/5"), (b"/away/cur/file", b"/cur/6"), (b"/cur/file", b"/away/cur/7")]
        jobs += [
            (top + source, top + final, top + os.path.dirname(final), None, -1, -1, True) for source, final in linked
        ]
        loop = errno.ELOOP
        assert stage.write_files(jobs) == [0, loop, loop, loop, 0, loop, loop]
        assert os.listdir(tmp_path / "other" / "new") == [] and os.listdir(tmp_path / "other" / "tmp") == []
        assert os.listdir(tmp_path / "other" / "cur") == ["file"]
        assert os.listdir(tmp_path / "mine" / "tmp") == []

    without_openat2.run(way, work)


def test_no_descriptor_left_is_no_absence(way: str, tmp_path: Path) -> None:
    """What cannot be looked at may be there: nothing is said to be gone, and no look goes on for ever."""
    (tmp_path / "cur").mkdir()

    def work() -> None:
        top = beneath.guarded(str(tmp_path))
        old = resource.getrlimit(resource.RLIMIT_NOFILE)
        looks = (beneath.is_directory, beneath.exists, beneath.missing, replace.make_directories)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, old[1]))
        try:
            for look in looks:
                for path in (f"{top}/cur", f"{top}/none", f"{top}/none/deep"):
                    with pytest.raises(StorageFailed):
                        look(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, old)
        assert beneath.is_directory(f"{top}/cur") and not beneath.exists(f"{top}/none")

    without_openat2.run(way, work)
