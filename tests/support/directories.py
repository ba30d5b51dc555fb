"""The implementations of a directory that one suite runs over: in memory, and in LMDB."""

from collections.abc import Callable
from pathlib import Path

from fastmail.directory.local import LocalDirectory
from fastmail.directory.mailing import Mailing
from fastmail.directory.memory import MemoryDirectory

MAKERS: dict[str, Callable[[Path], Mailing]] = {
    "memory": lambda path: MemoryDirectory(),
    "local": lambda path: LocalDirectory(str(path)),
}
