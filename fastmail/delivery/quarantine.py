"""Messages that were taken and kept back, until somebody releases or deletes them: infected ones, and those with a
score that the operator chose.

A message is one file, ``quarantine/ID`` below the data directory: a line of JSON (Kept) and its content (LF), as
recipients here would have it but for the trace fields of a delivery. ID is the one that the client heard and that the
trace has.

Promise: ``keep`` returns when the file and its name are on the disk. The place is bounded (MOST messages, ``octets``),
and nothing gives way to what comes later: when it is full, ``keep`` raises StorageFull, and the client hears 452. What
is older than ``seconds`` is removed by ``prune``, which worker 0 calls once an hour. A file that cannot be read is
left out of lists, and the log names it. Everything but ``run`` waits for the disk.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from fastmail.durable.replace import make_directories, sync_directory, sync_file
from fastmail.message.header import Octets
from fastmail.model.errors import CannotDo, CorruptData, StorageFailed, StorageFull
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PLACE = "quarantine"
MODE = 0o600
LONGEST_ID = 64  # characters
MOST = 10_000  # messages
HEAD = 4 << 20  # octets of the first line; a transaction has limits.recipients addresses
EVERY = 3600.0  # s between two looks for what is too old
FRESH = "."  # what the name of a file begins with that is being written
LEFT = 86400.0  # s after which such a file was left by a process that died


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept beside the content. ``at``: s since 1970; ``asked``: its recipients; ``why``: what was thought of
    it; ``client`` fields as in deliver.Envelope. A field that is missing has its default, and older programs take no
    notice of new ones."""

    id: str
    at: int
    sender: str
    asked: tuple[Rcpt, ...]
    why: str = ""
    size: int = 0
    message_id: str = ""
    options: EsmtpOptions = NO_OPTIONS
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    doubted: bool = False
    version: int = 1

    @property
    def recipients(self) -> list[str]:
        return [one.address for one in self.asked]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class Quarantine:
    """The place; any number of processes may use it."""

    def __init__(self, data_dir: str, seconds: float, octets: int) -> None:
        self._directory = os.path.join(data_dir, PLACE)
        self._seconds = seconds
        self._octets = octets

    def keep(self, kept: Kept, content: Octets) -> None:
        """Keep a message. StorageFull, StorageFailed."""
        line = _encode(kept) + b"\n"
        try:
            make_directories(self._directory)
            messages, octets = self._used()
            if messages >= MOST or octets + len(line) + len(content) > self._octets:
                log.event("quarantine.full", "error", messages=messages, octets=octets, then="clients hear 452")
                raise StorageFull("the quarantine is full")
            self._write(kept.id, line, content)
        except OSError as error:
            raise StorageFailed(f"{self._directory}: {error.strerror}") from error
        count("quarantine.kept")

    def _used(self) -> tuple[int, int]:
        """(messages, their octets), also of those that are being written."""
        with os.scandir(self._directory) as found:
            sizes = [_size(one) for one in found]
        return len(sizes), sum(sizes)

    def _write(self, ident: str, line: bytes, content: Octets) -> None:
        path, fresh = self._path(ident), self._path(ident, FRESH)
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(line)
                file.write(content)
                sync_file(file)  # before it has its name
            os.rename(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh)
            raise
        sync_directory(self._directory)

    def _path(self, ident: str, front: str = "") -> str:
        """CannotDo for what is no id: it may come from a command line."""
        if not ident.isascii() or not ident.isalnum() or len(ident) > LONGEST_ID:
            raise CannotDo("an id such as 1K3M5P7R9T2V4 is expected; `fastmail quarantine list` shows them")
        return os.path.join(self._directory, front + ident)

    def load(self, ident: str) -> tuple[Kept, bytes]:
        """A message: (what is known of it, its content). CannotDo where there is none of that id; CorruptData."""
        path = self._path(ident)
        try:
            with open(path, "rb") as file:
                line, content = file.readline(HEAD), file.read()
            return _decode(line), content
        except FileNotFoundError:
            raise CannotDo(f"{ident} is not in quarantine; `fastmail quarantine list` shows what is") from None
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CorruptData(f"{path} is damaged") from None

    def raw(self, ident: str) -> bytes:
        """The file of a message, for backups. CannotDo where there is none of that id; StorageFailed."""
        path = self._path(ident)
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise CannotDo(f"{ident} is not in quarantine any more") from None
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error

    def put_back(self, ident: str, raw: bytes, at: int) -> bool:
        """Bring a file back that ``raw`` returned; False where there is one of that id. ``at``: s since 1970 when the
        message came: its days count from then. CorruptData for what is no such file; CannotDo, StorageFailed."""
        path = self._path(ident)
        line, end, content = raw.partition(b"\n")
        try:
            if not end or _decode(line).id != ident:
                raise CorruptData(f"{ident} is not what the backup says")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise CorruptData(f"{ident} is damaged") from None
        try:
            make_directories(self._directory)
            if os.path.lexists(path):
                return False
            self._write(ident, line + end, content)
            os.utime(path, (at, at), follow_symlinks=False)
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error
        return True

    def each(self) -> Iterator[Kept]:
        """What is known of all, the oldest first: ids grow with time."""
        for name in self._names():
            try:
                with open(self._path(name), "rb") as file:
                    found = _decode(file.readline(HEAD))
            except FileNotFoundError:
                continue  # released meanwhile
            except (OSError, msgspec.DecodeError, UnicodeDecodeError, CannotDo) as error:
                log.event("quarantine.damaged", "warning", file=name, error=error)
                continue
            yield found

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._directory) if not name.startswith(FRESH))
        except FileNotFoundError:
            return []

    def remain(self, kept: Kept, asked: Sequence[Rcpt], content: bytes) -> None:
        """Keep a message for these recipients only: the others have it."""
        self._write(kept.id, _encode(msgspec.structs.replace(kept, asked=tuple(asked))) + b"\n", content)

    def remove(self, ident: str) -> None:
        """Let go of a message. CannotDo where there is none of that id."""
        try:
            os.unlink(self._path(ident))
        except FileNotFoundError:
            raise CannotDo(f"{ident} is not in quarantine; `fastmail quarantine list` shows what is") from None
        sync_directory(self._directory)

    def prune(self, now: float) -> int:
        """Remove what is too old, and what a process that died has left; how many files that were."""
        removed = 0
        try:
            with os.scandir(self._directory) as found:
                old = [(one.name, _age(one, now)) for one in found]
        except FileNotFoundError:
            return 0
        for name, age in old:
            if age > (LEFT if name.startswith(FRESH) else self._seconds):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._directory, name))
                    removed += 1
                    log.event("quarantine.expired", id=name)
        return removed

    async def run(self) -> None:
        """Prune now and once an hour, until cancelled."""
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(None, self.prune, time.time())
            except OSError as error:
                log.event("quarantine.failed", "error", error=error, then="it is tried again in an hour")
            await asyncio.sleep(EVERY)


def _size(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _age(entry: "os.DirEntry[str]", now: float) -> float:
    """By the time when the file was written."""
    try:
        return now - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
