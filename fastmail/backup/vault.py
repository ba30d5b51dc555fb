"""Where backups are kept: a directory of its own, readable without this program.

    objects/ab/abcd...     a message's octets, named by their BLAKE2b-256; written once, never changed
    partial/               objects that are being written
    runs/<time>/           one backup: directory.json, accounts/<address>.jsonl.gz for each account, and
                           others.jsonl.gz (backup.others)
    latest                 the newest complete run

An account's file has a line (JSON) for the account, then for each mailbox a line and one for each of its messages. A
run appears under its name when everything in it is on the disk; what an interrupted one left begins with a dot and is
removed by the next. Runs share objects, so that each costs what is new.

Promise: an object gets its name once its octets are on the disk, and one that is there already counts only if it has
the octets that its name and size say. So a run that was killed, or lost its power, at any moment costs the next one
nothing but the work.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from typing import IO, Any

from fastmail.durable import beneath, files
from fastmail.durable.replace import name_files, replace_file, sync_directory
from fastmail.model.errors import CannotDo, CorruptData, in_words

VERSION = 1
FORM = re.compile(r"[0-9a-f]{64}")
BATCH = 256  # objects that get their names together
BATCH_OCTETS = 64 << 20
LONGEST = 16 << 20  # characters of a line of an account's file
OTHERS = "others.jsonl.gz"
LARGEST = 1 << 30  # octets of directory.json


class Vault:
    """One backup directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._top = beneath.guarded(beneath.plain(path))  # no link in it is followed when it is read
        self._partial: dict[str, str] = {}  # digest: where its octets are, until it gets its name
        self._octets = 0  # of these

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one backup at a time."""
        os.makedirs(os.path.join(self.path, "objects"), mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(self.path, "runs"), mode=0o700, exist_ok=True)
        with open(os.path.join(self.path, "lock"), "a", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CannotDo(f"another backup to {self.path} is under way") from None
            yield

    # ---------------------------------------------------------------- objects

    def object_path(self, digest: str) -> str:
        return os.path.join(self.path, "objects", digest[:2], digest)

    def keep(self, content: bytes) -> tuple[str, bool]:
        """(name of the object, was it new); on the disk once the run is finished."""
        digest = hashlib.blake2b(content, digest_size=32).hexdigest()
        if digest in self._partial or self._has(digest, content):
            return digest, False
        temporary = os.path.join(self.path, "partial", digest)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        self._partial[digest] = temporary
        self._octets += len(content)
        if len(self._partial) >= BATCH or self._octets >= BATCH_OCTETS:
            self._name_objects()
        return digest, True

    def _has(self, digest: str, content: bytes) -> bool:
        """Is the object there, with these octets? A run that was cut short may have left a part of it."""
        try:
            with open(self.object_path(digest), "rb") as file:
                return os.fstat(file.fileno()).st_size == len(content) and file.read() == content
        except OSError:
            return False

    def is_sound(self, digest: str, octets: int) -> bool:
        """May a message that an earlier run has read be left unread? ``octets``: its size, -1 where that run did not
        write it down: the object is read then."""
        try:
            if octets >= 0:
                return os.stat(self.object_path(digest)).st_size == octets
            self.read(digest)
        except (OSError, CorruptData):
            return False
        return True

    def _name_objects(self) -> None:
        """Objects that were written get their names, octets first."""
        pairs = [(temporary, self.object_path(digest)) for digest, temporary in self._partial.items()]
        for place in {os.path.dirname(final) for _, final in pairs}:
            os.makedirs(place, mode=0o700, exist_ok=True)
        name_files(pairs)
        self._partial.clear()
        self._octets = 0

    def read(self, digest: str) -> bytes:
        """The octets; CorruptData when they are not what the name says."""
        try:
            if not FORM.fullmatch(digest):
                raise CorruptData(f"{digest[:80]!r} is no name of an object")
            content = files.read_file(os.fsencode(os.path.join(self._top, "objects", digest[:2], digest))) or b""
        except OSError as error:
            raise CorruptData(f"object {digest} cannot be read: {error.strerror}") from None
        if hashlib.blake2b(content, digest_size=32).hexdigest() != digest:
            raise CorruptData(f"object {digest} is damaged")
        return content

    # ---------------------------------------------------------------- runs

    def runs(self) -> list[str]:
        """Names of complete runs, oldest first."""
        try:
            names = os.listdir(os.path.join(self.path, "runs"))
        except OSError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    def run_path(self, name: str = "") -> str:
        """A run's directory, the newest without a name; CannotDo where there is none."""
        known = self.runs()
        if not known:
            raise CannotDo(f"{self.path} has no backup; `fastmail backup {self.path}` makes one")
        if name and name not in known:
            raise CannotDo(f"{self.path} has no backup {name}; there are: {', '.join(known)}")
        return os.path.join(self.path, "runs", name or known[-1])

    def begin(self) -> str:
        """The directory of a new run; what an interrupted one left is removed."""
        top = os.path.join(self.path, "runs")
        for name in os.listdir(top):
            if name.startswith("."):
                shutil.rmtree(os.path.join(top, name))
        self._partial.clear()
        shutil.rmtree(os.path.join(self.path, "partial"), ignore_errors=True)
        os.makedirs(os.path.join(self.path, "partial"), mode=0o700)
        for path in self._objects():
            if not FORM.fullmatch(os.path.basename(path)):
                os.unlink(path)  # an earlier version wrote objects there
        place = os.path.join(top, "." + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        os.makedirs(os.path.join(place, "accounts"), mode=0o700)
        return place

    def finish(self, place: str) -> str:
        """Everything to the disk, then its name; the name."""
        self._name_objects()
        # names of objects, and the run's own files; sync(2) would report no error, and wait for other disks
        files.sync_file_system(os.fsencode(self.path))
        begun = name = os.path.basename(place)[1:]
        number = 0
        while os.path.exists(final := os.path.join(self.path, "runs", name)):
            number += 1
            name = f"{begun}-{number}"  # another of the same second
        os.rename(place, final)
        sync_directory(os.path.dirname(final))
        replace_file(os.path.join(self.path, "latest"), name.encode() + b"\n")
        return name

    def prune(self, keep: int) -> tuple[int, int]:
        """Leave the newest ``keep`` runs, and the objects that they name: (runs, objects) that went."""
        gone = self.runs()[:-keep]
        for name in gone:
            place, hidden = (os.path.join(self.path, "runs", one) for one in (name, "." + name))
            os.rename(place, hidden)  # half of a run must not pass for a whole one
            shutil.rmtree(hidden)
        if not gone:
            return 0, 0
        used = {row["object"] for name in self.runs() for row in self._messages(name)}
        others = (row for name in self.runs() for row in self.others(name))
        used |= {row["object"] for row in others if isinstance(row, dict) and "object" in row}
        removed = 0
        for path in self._objects():
            if os.path.basename(path) not in used:
                os.unlink(path)
                removed += 1
        return len(gone), removed

    def _objects(self) -> Iterator[str]:
        """Paths of all files among the objects."""
        for top, _, names in os.walk(os.path.join(self.path, "objects")):
            for name in names:
                yield os.path.join(top, name)

    def _messages(self, run: str) -> Iterator[dict[str, Any]]:
        for address in self.accounts(run):
            for row in self.rows(address, run):
                if "object" in row:
                    yield row

    def accounts(self, run: str = "") -> list[str]:
        """Addresses in a run."""
        names = os.listdir(os.path.join(self.run_path(run), "accounts"))
        return sorted(name.removesuffix(".jsonl.gz") for name in names if name.endswith(".jsonl.gz"))

    def rows(self, address: str, run: str = "") -> Iterator[dict[str, Any]]:
        """Lines of an account's file: ``account``, then for each mailbox ``mailbox`` and its messages (``uid``)."""
        name = os.path.basename(self.run_path(run))
        place = os.path.join(self._top, "runs", name, "accounts", address + ".jsonl.gz")
        try:
            yield from _lines(place)
        except FileNotFoundError:
            raise CannotDo(f"the backup has no account {address}") from None

    def others(self, run: str = "") -> Iterator[dict[str, Any]]:
        """Lines about what is neither mail nor accounts; none for a run of a version that did not save it."""
        name = os.path.basename(self.run_path(run))
        with contextlib.suppress(FileNotFoundError):
            yield from _lines(os.path.join(self._top, "runs", name, OTHERS))

    def other_rows(self, place: str) -> IO[str]:
        """The file for these, of a run that was begun, to be closed by the caller."""
        return write_rows(os.path.join(place, OTHERS))

    def directory(self, run: str = "") -> dict[str, Any]:
        """Domains, accounts and aliases of a run."""
        name = os.path.basename(self.run_path(run))
        place = os.path.join(self._top, "runs", name, "directory.json")
        try:
            found: dict[str, Any] = json.loads(beneath.read(place, LARGEST))
        except (OSError, ValueError, RecursionError) as error:
            raise CorruptData(f"{beneath.plain(place)} is damaged: {in_words(error)}") from None
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise CannotDo(f"{place} was written by another version of fastmail")
        return found


def _lines(place: str) -> Iterator[dict[str, Any]]:
    """The lines of a compressed file. FileNotFoundError, CorruptData."""
    try:
        with os.fdopen(beneath.open_file(place), "rb") as raw, gzip.open(raw, "rt", encoding="utf-8") as file:
            while line := file.readline(LONGEST):
                if len(line) == LONGEST:
                    raise ValueError("a line is too long")
                yield json.loads(line)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise CorruptData(f"{beneath.plain(place)} is damaged: {in_words(error)}") from None


def write_rows(place: str) -> IO[str]:
    """A compressed file of lines, to be closed by the caller."""
    return gzip.open(place, "wt", encoding="utf-8", compresslevel=3)
