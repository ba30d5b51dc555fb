"""Messages that are kept back: on the disk, bounded, and gone in time."""

import os
import stat
from pathlib import Path

import pytest

from fastmail.delivery import quarantine
from fastmail.delivery.quarantine import Kept, Quarantine
from fastmail.model.errors import CannotDo, CorruptData, StorageFailed, StorageFull
from fastmail.model.esmtp import EsmtpOptions, Rcpt

CONTENT = b"Subject: x\n\n{not json}\n"
ASKED = (Rcpt("a@x.test", "rfc822;a@x.test", "NEVER"), Rcpt("b@x.test"))


def kept(ident: str = "1K3M", **more: object) -> Kept:
    return Kept(ident, 5, "joe@example.org", ASKED, "x: quarantine 12", len(CONTENT), **more)  # type: ignore[arg-type]


def place(path: Path, octets: int = 10_000, seconds: float = 60.0) -> Quarantine:
    return Quarantine(str(path), seconds, octets)


def test_what_is_kept_is_there_for_another_process(tmp_path: Path) -> None:
    one = kept(options=EsmtpOptions(ret="HDRS", envid="e"), peer="192.0.2.1", doubted=True)
    place(tmp_path).keep(one, memoryview(CONTENT))
    place(tmp_path).keep(kept("1K3N"), b"")
    assert place(tmp_path).load("1K3M") == (one, CONTENT)
    assert [found.id for found in place(tmp_path).each()] == ["1K3M", "1K3N"]
    assert one.recipients == ["a@x.test", "b@x.test"]
    file = tmp_path / "quarantine" / "1K3M"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    place(tmp_path).remove("1K3M")
    with pytest.raises(CannotDo, match="not in quarantine"):
        place(tmp_path).remove("1K3M")


def test_it_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("name"), rename(a, b))[1])
    monkeypatch.setattr(quarantine, "sync_directory", lambda path: done.append("directory"))
    place(tmp_path).keep(kept(), CONTENT)
    assert done == ["sync", "name", "directory"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    (tmp_path / "quarantine").mkdir()
    with pytest.raises(StorageFailed, match="Input/output"):
        place(tmp_path).keep(kept(), CONTENT)
    assert os.listdir(tmp_path / "quarantine") == []


def test_nothing_gives_way_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = place(tmp_path, octets=600)
    small.keep(kept(), CONTENT)
    with pytest.raises(StorageFull):
        small.keep(kept("1K3N"), bytes(500))
    monkeypatch.setattr(quarantine, "MOST", 1)
    with pytest.raises(StorageFull):
        place(tmp_path).keep(kept("1K3N"), b"")
    assert [one.id for one in small.each()] == ["1K3M"]


def test_what_is_old_is_removed(tmp_path: Path) -> None:
    here = place(tmp_path)
    assert here.prune(0.0) == 0 and list(here.each()) == []
    for ident in ("1K3M", "1K3N"):
        here.keep(kept(ident), CONTENT)
    left = tmp_path / "quarantine" / ".1K3P"  # by a process that died
    left.write_bytes(b"x")
    for file, at in ((tmp_path / "quarantine" / "1K3M", 1000), (tmp_path / "quarantine" / "1K3N", 1050), (left, 1000)):
        os.utime(file, (at, at))
    assert here.prune(1061.0) == 1 and [one.id for one in here.each()] == ["1K3N"] and left.exists()
    assert here.prune(1001.0 + quarantine.LEFT) == 2 and not left.exists()


def test_who_has_it_is_no_recipient_any_more(tmp_path: Path) -> None:
    here = place(tmp_path)
    here.keep(kept(), CONTENT)
    found, content = here.load("1K3M")
    here.remain(found, [ASKED[1]], content)
    found, content = here.load("1K3M")
    assert (found.asked, found.sender, content) == ((ASKED[1],), "joe@example.org", CONTENT)


@pytest.mark.parametrize("ident", ["", "../passwd", ".1K3M", "1K/3M", "\u0661", "1K3M\n"])
def test_only_ids_name_files(tmp_path: Path, ident: str) -> None:
    with pytest.raises(CannotDo, match="an id such as"):
        place(tmp_path).load(ident)


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    here = place(tmp_path)
    here.keep(kept("1K3N"), CONTENT)
    for name in ("1K3M", "1K3P", "x.y"):
        (tmp_path / "quarantine" / name).write_bytes(b"\xff\n")
    assert [one.id for one in here.each()] == ["1K3N"]
    with pytest.raises(CorruptData, match="damaged"):
        here.load("1K3M")


def test_fields_that_a_later_version_has_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "quarantine").mkdir()
    line = b'{"id":"1K3M","at":5,"sender":"","asked":[["a@x.test","","","more"]],"new":[1],"version":2}\n'
    (tmp_path / "quarantine" / "1K3M").write_bytes(line + CONTENT)
    found, content = place(tmp_path).load("1K3M")
    assert (found.recipients, found.version, content) == (["a@x.test"], 2, CONTENT)
