"""fastmail.backup.vault: a run that ends at any moment, by a kill or a power cut, spoils no later one."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastmail.backup import vault as module
from fastmail.backup.save import verify
from fastmail.backup.vault import Vault, write_rows
from fastmail.durable import files
from fastmail.durable.replace import replace_file

CONTENTS = [b"message %d\n" % number * (number * 40 + 1) for number in range(8)]
CALLS = ("open", "fdopen", "write", "fsync", "rename", "makedirs", "unlink")


class Killed(BaseException):
    """The process ends here."""


def run(path: Path, contents: list[bytes]) -> str:
    """One backup of an account with these messages; the name of the run."""
    vault = Vault(str(path))
    with vault.locked():
        place = vault.begin()
        replace_file(f"{place}/directory.json", json.dumps({"version": 1, "accounts": []}).encode())
        file = write_rows(f"{place}/accounts/user@example.test.jsonl.gz")
        file.write('{"account": "user@example.test", "subscribed": []}\n{"mailbox": "INBOX"}\n')
        for uid, content in enumerate(contents, 1):
            digest, _ = vault.keep(content)
            file.write(json.dumps({"uid": uid, "object": digest, "octets": len(content)}) + "\n")
        file.close()
        return vault.finish(place)


@contextmanager
def killed_at(number: int, unsynced: set[str]) -> Iterator[list[int]]:
    """End at the ``number``-th of the calls that change files, counted in the list; ``unsynced``: files whose octets
    the disk need not have by then."""
    count = [0]
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}
    real["sync"] = files.sync_file_system
    patch = pytest.MonkeyPatch()

    def wrap(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            count[0] += 1
            if count[0] == number:
                raise Killed
            if name == "rename" and "/partial/" in args[0]:
                assert args[0] not in unsynced  # its content comes first
            result = real[name](*args, **more)
            if name == "open" and args[1] & os.O_CREAT:
                unsynced.add(args[0])
            elif name == "fsync":
                unsynced.discard(os.readlink(f"/proc/self/fd/{args[0]}"))
            elif name == "rename" and args[0] in unsynced:
                unsynced.discard(args[0])
                unsynced.add(args[1])
            elif name == "sync":
                unsynced.clear()
            return result

        return call

    for name in CALLS:
        patch.setattr(os, name, wrap(name))
    patch.setattr(files, "sync_file_system", wrap("sync"))
    try:
        yield count
    finally:
        patch.undo()


@pytest.mark.parametrize("power", [False, True])
def test_a_run_that_ends_at_any_moment_is_no_harm(tmp_path: Path, power: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    run(tmp_path / "whole", CONTENTS[:2])
    with killed_at(0, set()) as count:
        run(tmp_path / "whole", CONTENTS)
    assert count[0] > 40
    for number in range(1, count[0] + 1):
        path = tmp_path / str(number)
        run(path, CONTENTS[:2])
        unsynced: set[str] = set()
        with pytest.raises(Killed), killed_at(number, unsynced):
            run(path, CONTENTS)
        if power:
            for name in unsynced:
                if os.path.isfile(name):
                    os.truncate(name, os.path.getsize(name) // 2)
        vault = Vault(str(path))
        for name in vault.runs():  # whatever run has a name is whole
            assert verify(vault, name, lambda _: None) == []
        name = run(path, CONTENTS)
        assert verify(vault, name, lambda _: None) == []
        assert not os.listdir(path / "partial")
        assert all(module.FORM.fullmatch(os.path.basename(one)) for one in vault._objects())
        assert not [one for one in os.listdir(path / "runs") if one.startswith(".")]


def test_a_run_that_the_disk_did_not_take_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: bytes) -> None:
        assert os.fsdecode(path) == str(tmp_path)
        raise OSError(errno.EIO, "Input/output error")

    first = run(tmp_path, CONTENTS[:2])
    monkeypatch.setattr(files, "sync_file_system", failing)
    with pytest.raises(OSError, match="Input/output error"):
        run(tmp_path, CONTENTS)
    assert Vault(str(tmp_path)).runs() == [first]


@pytest.mark.parametrize("torn", [b"", CONTENTS[5][:100], b"x" * len(CONTENTS[5])])
def test_a_torn_object_is_written_again(tmp_path: Path, torn: bytes) -> None:
    vault = Vault(str(tmp_path))
    place = vault.object_path(hashlib.blake2b(CONTENTS[5], digest_size=32).hexdigest())
    os.makedirs(os.path.dirname(place))
    Path(place).write_bytes(torn)
    Path(place + ".1234").write_bytes(torn)  # what an earlier version left
    run(tmp_path, CONTENTS)
    assert verify(vault, "", lambda _: None) == [] and not os.path.exists(place + ".1234")


def test_what_an_earlier_run_read_counts_only_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, CONTENTS)
    vault = Vault(str(tmp_path))
    digest = hashlib.blake2b(CONTENTS[5], digest_size=32).hexdigest()
    assert vault.is_sound(digest, len(CONTENTS[5])) and vault.is_sound(digest, -1)
    os.truncate(vault.object_path(digest), 5)
    assert not vault.is_sound(digest, len(CONTENTS[5])) and not vault.is_sound(digest, -1)
    assert not vault.is_sound("0" * 64, 5)


def test_half_of_a_removed_run_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (2, 4, 6):
        os.rename(tmp_path / "runs" / run(tmp_path, CONTENTS[:count]), tmp_path / "runs" / f"2026010{count}")
    vault = Vault(str(tmp_path))

    def end(path: str) -> None:
        os.unlink(path + "/directory.json")
        raise Killed

    monkeypatch.setattr(module.shutil, "rmtree", end)
    with pytest.raises(Killed):
        vault.prune(1)
    monkeypatch.undo()
    assert vault.runs() == ["20260104", "20260106"]
    assert vault.prune(1)[0] == 1 and vault.runs() == ["20260106"]
    run(tmp_path, CONTENTS)
    assert verify(vault, "20260106", lambda _: None) == []
