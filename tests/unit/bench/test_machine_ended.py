"""Measuring the disk, while Ctrl-C removes the directory."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from fastmail.bench import machine


def test_no_thread_complains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    plain = os.rename

    def rename(old: str, new: str) -> None:
        shutil.rmtree(tmp_path / "files0")
        plain(old, new)

    monkeypatch.setattr(machine.os, "rename", rename)
    machine._files(str(tmp_path), b"x", 1, 0.01)
    assert complaints == []
