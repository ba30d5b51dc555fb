"""Files of expunged messages, while another program renames them."""

import errno
import os
from pathlib import Path

import pytest

from fastmail.durable import files
from fastmail.store.local.maildir import housekeeping


def maildir(path: Path, *names: str) -> str:
    for sub in ("new", "cur", "tmp"):
        (path / sub).mkdir()
    for name in names:
        (path / name).write_text("x")
    return str(path)


def test_a_file_is_found_whatever_its_name_is_now(tmp_path: Path) -> None:
    directory = maildir(tmp_path, "cur/1.a:2,S", "cur/2.b:2,")
    done = housekeeping.Done(b"key")
    housekeeping._unlink(directory, [(b"one", b"n1.a"), (b"two", b"c2.b:2,"), (b"three", b"c3.c:2,")], done)
    assert os.listdir(tmp_path / "cur") == [] and sorted(done.unlinked) == [b"one", b"three", b"two"] and not done.more


def test_nothing_is_gone_after_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = maildir(tmp_path, "cur/1.a:2,S")
    looks = iter([{}, {}])
    real = housekeeping.by_base
    monkeypatch.setattr(housekeeping, "by_base", lambda path: next(looks, None) or real(path))
    done = housekeeping.Done(b"key")
    housekeeping._unlink(directory, [(b"one", b"n1.a")], done)
    assert os.listdir(tmp_path / "cur") == [] and done.unlinked == [b"one"]
    (tmp_path / "cur/1.a:2,S").write_text("y")
    looks = iter([{}, {}])
    assert housekeeping.read_by_base(directory, b"n1.a") == b"y"


def test_one_that_is_renamed_again_and_again_is_tried_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = maildir(tmp_path, "cur/1.a:2,")
    real, turns = files.unlink_batch, iter(range(100))

    def late(paths: list[bytes]) -> list[int]:
        """Another program was here a moment before."""
        old = next((tmp_path / "cur").iterdir(), None)
        if old is not None:
            old.rename(tmp_path / "cur" / f"1.a:2,{'S' * (next(turns) % 2)}")
        return real(paths)

    monkeypatch.setattr(files, "unlink_batch", late)
    done = housekeeping.Done(b"key")
    housekeeping._unlink(directory, [(b"one", b"c1.a:2,F")], done)
    if os.listdir(tmp_path / "cur"):
        assert done.more and not done.unlinked
    monkeypatch.setattr(files, "unlink_batch", real)
    again = housekeeping.Done(b"key")
    housekeeping._unlink(directory, [(b"one", b"c1.a:2,F")], again)
    assert os.listdir(tmp_path / "cur") == [] and again.unlinked == [b"one"] and not again.more


def test_names_that_are_not_on_the_disk_for_certain_are_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = maildir(tmp_path, "new/1.a")
    monkeypatch.setattr(files, "sync_dirs", lambda paths: [errno.EIO] * len(paths))
    done = housekeeping.Done(b"key")
    housekeeping._rename(directory, [(1, b"n1.a", b"c1.a:2,S", 5)], done)
    assert os.listdir(tmp_path / "cur") == ["1.a:2,S"] and done.named == []
    monkeypatch.undo()
    housekeeping._rename(directory, [(1, b"n1.a", b"c1.a:2,S", 5)], done)
    assert done.named == [(1, b"c1.a:2,S", 5)]
