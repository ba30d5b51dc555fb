"""``fastmail.Maildir``: ``mailbox.Maildir`` of Python's library with an index, for programs that read large Maildirs.

It behaves as the library's class does and may be used beside it, beside a running server, and by several processes.
The index is a directory beside new/ and cur/ (``fastmail.index``, LMDB): opening a folder, listing keys with flags and
sizes, and reading headers cost no look at the messages, nor a listing of the folder, while nothing changed. Where no
index can be written (a Maildir of somebody else) it is kept in memory. Removing it is safe at any time.

One thing is narrower: links and the like in new/ and cur/ are no messages, and no link below the Maildir is followed.
"""

import contextlib
import email
import email.message
import email.policy
import errno
import mailbox
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastmail.durable import beneath, files
from fastmail.durable.env import Environment
from fastmail.model.errors import MailError

FOLDER = "fastmail.index"
MAP = 16 << 30
FRESH = 1_000_000_000  # ns: a directory that changed this recently may change again without a new time
BATCH = 500  # headers that go into the index together
HEADER = 1 << 20  # octets that a header may have
TABLES = ["row", "head"]
STATE = b"state"
FILES = ("data.mdb", "lock.mdb")  # of the index


_environments: dict[str, tuple[Environment, int]] = {}  # LMDB opens a file once in each process


def _open(path: str) -> Environment:
    env, users = _environments.get(path) or (Environment(path, TABLES, 1, MAP), 0)
    _environments[path] = env, users + 1
    return env


def _close(path: str) -> None:
    env, users = _environments.pop(path)
    if users > 1:
        _environments[path] = env, users - 1
    else:
        env.close()


@dataclass(frozen=True, slots=True)
class Row:
    """What the index knows of a message. ``flags`` as letters; ``size`` in octets on disk; ``date``: when it arrived, s
    since 1970."""

    key: str
    subdir: str
    flags: str
    size: int
    date: int


class Maildir(mailbox.Maildir):
    """See the module; and ``mailbox.Maildir`` for everything that is not here."""

    if TYPE_CHECKING:  # of the library's class, though its stubs do not say so
        _paths: dict[str, str]
        _toc: dict[str, str]

        def _lookup(self, key: str) -> str: ...

    def __init__(self, dirname: Any, factory: Any = None, create: bool = True) -> None:
        super().__init__(dirname, factory, create)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._state = b""
        self._known: dict[str, bytes] = {}  # headers that are not in the index yet, or all where there is none
        self._env: Environment | None = None
        self._place = os.path.join(os.path.realpath(self._path), FOLDER)
        self._top = beneath.guarded(self._path)
        with contextlib.suppress(OSError, MailError):
            if not any(os.path.islink(one) for one in (self._place, *(f"{self._place}/{name}" for name in FILES))):
                self._env = _open(self._place)

    def close(self) -> None:
        """Give the index back."""
        super().close()
        if self._env is not None:
            self._keep_headers()
            self._env = None
            _close(self._place)

    def __del__(self) -> None:
        if getattr(self, "_env", None) is not None:
            self.close()

    # ---------------------------------------------------------------- what the library's class asks

    def _refresh(self) -> None:
        state = self._now()
        if state and state == self._state:
            return
        if not (state and self._load(state)):
            self._look(state)
        self._state = state

    def _now(self) -> bytes:
        """Change times of new/ and cur/; empty while they cannot be relied on."""
        places = [f"{self._top}/{sub}" for sub in ("new", "cur")]
        times = files.directory_times([os.fsencode(place) for place in places])
        if min(times) < 0:
            raise FileNotFoundError(errno.ENOENT, "no directory, or a link", places[times.index(min(times))])
        if max(times) > time.time_ns() - FRESH:
            return b""
        return b"%d %d" % tuple(times)

    def _load(self, state: bytes) -> bool:
        """From the index, when it is of this state."""
        if self._env is None:
            return False
        toc: dict[str, str] = {}
        sizes: dict[str, tuple[int, int]] = {}
        with self._env.read() as txn:
            if txn.get(STATE, db=self._env.db["meta"]) != state:
                return False
            for key, value in txn.cursor(db=self._env.db["row"]).iternext():
                place, size, date = bytes(value).rsplit(b" ", 2)
                name = os.fsdecode(bytes(key))
                toc[name] = os.fsdecode(place)
                sizes[name] = int(size), int(date)
        self._toc, self._sizes = toc, sizes
        return True

    def _look(self, state: bytes) -> None:
        """List the directories, and write down what is new or gone."""
        toc: dict[str, str] = {}
        for sub in ("new", "cur"):
            with beneath.scan(f"{self._top}/{sub}") as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        toc[entry.name.partition(self.colon)[0]] = f"{sub}/{entry.name}"
        sizes: dict[str, tuple[int, int]] = {}
        for key, place in list(toc.items()):
            known = self._sizes.get(key)
            if known is None:
                try:
                    found = beneath.lstat(f"{self._top}/{place}")
                except OSError:
                    del toc[key]
                    continue
                known = found.st_size, int(found.st_mtime)
            sizes[key] = known
        old = self._toc if self._sizes else {}
        self._toc, self._sizes = toc, sizes
        if self._env is not None:
            self._write(state, old)

    def _write(self, state: bytes, old: dict[str, str]) -> None:
        env = self._env
        assert env is not None
        rows, heads = env.db["row"], env.db["head"]
        whole = not old
        with contextlib.suppress(MailError), env.write() as txn:
            if whole:
                txn.drop(rows, delete=False)
            for key in old.keys() - self._toc.keys():
                txn.delete(os.fsencode(key), db=rows)
                txn.delete(os.fsencode(key), db=heads)
            for key, place in self._toc.items():
                if whole or old.get(key) != place:
                    size, date = self._sizes[key]
                    txn.put(os.fsencode(key), b"%b %d %d" % (os.fsencode(place), size, date), db=rows)
            txn.put(STATE, state, db=env.db["meta"])

    def iterkeys(self) -> Iterator[str]:
        self._refresh()
        yield from tuple(self._toc)

    def remove(self, key: str) -> None:
        super().remove(key)
        self._toc.pop(key, None)

    # ---------------------------------------------------------------- what is more

    def rows(self) -> Iterator[Row]:
        """Every message with its flags, size and date, without reading or listing anything that did not change."""
        self._refresh()
        for key, place in self._toc.items():
            sub, _, name = place.partition("/")
            yield Row(key, sub, self._flags_in(name), *self._sizes[key])

    def _flags_in(self, name: str) -> str:
        _, colon, info = name.rpartition(self.colon)
        return info[2:].partition(",")[0] if colon and info.startswith("2,") else ""

    def get_flags(self, key: str) -> str:
        """Its flags as letters."""
        return self._flags_in(self._lookup(key).rpartition("/")[2])

    def get_message(self, key: str) -> Any:
        """As the library's, of a file that is read through no link."""
        place = self._lookup(key)
        file: Any
        with os.fdopen(beneath.open_file(f"{self._top}/{place}"), "rb") as file:
            message: Any = self._factory(file) if self._factory else mailbox.MaildirMessage(file)
            date = os.fstat(file.fileno()).st_mtime
        sub, _, name = place.partition("/")
        message.set_subdir(sub)
        if self.colon in name:
            message.set_info(name.rpartition(self.colon)[2])
        message.set_date(date)
        return message

    def get_bytes(self, key: str) -> bytes:
        return beneath.read(f"{self._top}/{self._lookup(key)}", -1)

    def get_file(self, key: str) -> Any:
        file: Any = os.fdopen(beneath.open_file(f"{self._top}/{self._lookup(key)}"), "rb")
        return mailbox._ProxyFile(file)

    def get_size(self, key: str) -> int:
        """Octets on disk."""
        self._lookup(key)
        known = self._sizes.get(key)
        return known[0] if known is not None else beneath.lstat(f"{self._top}/{self._lookup(key)}").st_size

    def get_headers(self, key: str) -> email.message.Message:
        """The message's header fields; read once from the file, then from the index. KeyError when it is not there."""
        place = self._lookup(key)
        raw = self._kept_header(key)
        if raw is None:
            raw = self._known[key] = _read_header(f"{self._top}/{place}")
            if len(self._known) >= BATCH:
                self._keep_headers()
        return email.message_from_bytes(raw, policy=email.policy.compat32)

    def _kept_header(self, key: str) -> bytes | None:
        if key in self._known or self._env is None:
            return self._known.get(key)
        with self._env.read() as txn:
            found = txn.get(os.fsencode(key), db=self._env.db["head"])
            return zlib.decompress(found) if found is not None else None

    def _keep_headers(self) -> None:
        """What was read since the last time goes into the index, in one commit."""
        if self._env is None or not self._known:
            return
        known, self._known = self._known, {}
        with contextlib.suppress(MailError), self._env.write() as txn:
            for key, raw in known.items():
                txn.put(os.fsencode(key), zlib.compress(raw, 1), db=self._env.db["head"])

    def read_all_headers(self) -> int:
        """Read the headers that the index has not, in one pass; how many there were."""
        self._refresh()
        known = set(self._known)
        if self._env is not None:
            with self._env.read() as txn:
                cursor = txn.cursor(db=self._env.db["head"])
                known |= {os.fsdecode(bytes(key)) for key in cursor.iternext(values=False)}
        missing = [key for key in self._toc if key not in known]
        for key in missing:
            with contextlib.suppress(OSError):
                self._known[key] = _read_header(f"{self._top}/{self._toc[key]}")
            if len(self._known) >= BATCH:
                self._keep_headers()
        self._keep_headers()
        return len(missing)

    def get_folder(self, folder: str) -> "Maildir":
        return Maildir(os.path.join(self._path, "." + folder), factory=self._factory, create=False)

    def remove_folder(self, folder: str) -> None:
        _remove_index(os.path.join(self._path, "." + folder))
        super().remove_folder(folder)

    def add_folder(self, folder: str) -> "Maildir":
        path = os.path.join(self._path, "." + folder)
        made = Maildir(path, factory=self._factory)
        mark = os.path.join(beneath.guarded(path), "maildirfolder")
        os.close(beneath.open_file(mark, os.O_CREAT | os.O_WRONLY, 0o666))
        return made


def _remove_index(path: str) -> None:
    """The index of a folder that is about to be removed."""
    place = os.path.join(os.path.realpath(path), FOLDER)
    if place not in _environments and os.path.isdir(place):
        shutil.rmtree(place, ignore_errors=True)


def _read_header(path: str) -> bytes:
    """Up to and with the empty line."""
    with os.fdopen(beneath.open_file(path), "rb") as file:
        data = file.read(8192)
        while len(data) < HEADER:
            end = min((at for at in (data.find(b"\n\n"), data.find(b"\r\n\r\n")) if at >= 0), default=-1)
            if end >= 0:
                return data[: data.index(b"\n", end + (2 if data[end : end + 1] == b"\r" else 1)) + 1]
            more = file.read(65536)
            if not more:
                break
            data += more
    return data
