"""Group commit: whatever waits is made durable together; then replies go out.

One thread for each environment takes every operation that waits, puts their files in place (durable.stage), applies all
to one transaction, whose record in the journal holds rows and content, and syncs the journal once. While it works the
next batch gathers: batches grow by themselves under load, and a lone operation never waits for company.

Promise: a future is resolved with a result only after all of that; operations are published in the order in which
they were committed. An operation that fails gets its own exception, its files are removed, and it harms no other.
After a failed sync nothing that depended on it is acknowledged; and as the kernel then may take for clean what never
reached the disk, nothing more is written at all: reading goes on, every write is refused until the server is started
anew, and the log says so. A full disk is no such failure.
"""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import lmdb

from fastmail.durable import files, stage
from fastmail.durable.env import STOPPED, Environment, translate
from fastmail.durable.journal import BOUND
from fastmail.durable.transaction import Txn
from fastmail.durable.writing import Writing
from fastmail.model.errors import MailError, StorageFailed, StorageFull
from fastmail.telemetry import log

Octets = bytes | bytearray | memoryview
PATIENCE, PAUSE = 2.5, 0.1  # s: longer than a process needs to hear of a checkpoint
MOST = 256  # operations of a batch
IO_ERROR = os.strerror(errno.EIO)
EXPECTED = (MailError, OSError, lmdb.Error)  # what disks and callers do; anything else is a bug, for the log


@dataclass(slots=True)
class FileJob:
    """One file to be made: written to ``temporary`` and renamed to ``directory``/``name``; with ``source`` nothing is
    written, ``source`` is linked to that place. Small content is made durable by the journal, unless the file is to be
    ``synced``: for another program that comes to it without us, or because a ``source`` was another program's."""

    directory: bytes
    name: bytes
    temporary: bytes = b""
    chunks: Sequence[Octets] = ()
    mtime: int = -1
    source: bytes = b""
    synced: bool = False

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name

    @property
    def _synced(self) -> bool:
        return self.synced or large(self.chunks)

    def job(self) -> "stage.Job":
        if self.source:
            return self.source, self.path, self.directory, None, 0 if self.synced else -1, -1, True
        return self.temporary, self.path, self.directory, self.chunks, self.mtime, -1, self._synced

    def note(self, txn: Writing) -> None:
        """Tell the journal."""
        if self.source:
            txn.linked(self.path, self.source)
        elif not self._synced:
            txn.made(self.path, self.mtime, self.chunks)

    def undo(self, error: BaseException) -> None:
        """Its operation failed."""
        files.unlink_batch([self.path])


@dataclass(slots=True)
class PieceJob:
    """Octets to be written at an offset of an open file; ``spoilt`` is told when their operation failed."""

    fd: int
    offset: int
    chunks: Sequence[Octets]
    path: bytes
    spoilt: Callable[[BaseException], None]

    def job(self) -> "stage.Job":
        return b"", b"", b"", self.chunks, self.offset, self.fd, large(self.chunks)

    def note(self, txn: Writing) -> None:
        if not large(self.chunks):
            txn.piece(self.path, self.offset, self.chunks)

    def undo(self, error: BaseException) -> None:
        self.spoilt(error)


def large(chunks: Sequence[Octets]) -> bool:
    """Is content synced by itself?"""
    return sum(map(len, chunks)) > BOUND


@dataclass(slots=True)
class Operation:
    """What to make durable: files first, then ``apply`` in the transaction. ``apply`` may run twice. ``adds``: it fills
    the index with something new, and is refused where only the reserve for removing is left. ``after`` is called with
    the operation once its outcome is known, also when nobody waits for that any more, on the loop. ``repeatable``:
    ``apply`` finds what it has committed before, and then changes nothing. ``tells``: what those who watch are to be
    told of, from the result, for the queue's ``publish``. ``unsure``: its commit failed, and may have been made all the
    same."""

    apply: Callable[[Txn], Any]
    files: Sequence[FileJob | PieceJob] = ()
    adds: bool = False
    after: "Callable[[Operation], None] | None" = None
    repeatable: bool = False
    tells: Callable[[Any], Sequence[bytes]] | None = None
    unsure: bool = False
    future: "asyncio.Future[Any] | None" = None
    error: BaseException | None = None
    result: Any = None


class CommitQueue:
    """Submit from the event loop; everything else happens on the queue's thread. ``publish`` is called after each batch
    with what its operations tell, in the order in which they were committed."""

    def __init__(
        self,
        env: Environment,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[list[bytes]], None],
        name: str = "w",
    ) -> None:
        self._env = env
        self._loop = loop
        self._publish = publish
        self._ready: SimpleQueue[Operation | None] = SimpleQueue()
        self._closing = False
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name=f"commit-{name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queue an operation; the future has its ``apply`` result once it is durable and published."""
        operation.future = self._loop.create_future()
        if self._broken or self._closing:
            operation.error = StorageFailed(self._broken or "it is being closed")  # its thread may have ended
            operation.future.set_exception(operation.error)
            if operation.after is not None:
                self._loop.call_soon(operation.after, operation)
        else:
            self._ready.put(operation)
        return operation.future

    async def close(self) -> None:
        """Finish what was submitted, then stop the thread."""
        self._closing = True
        self._ready.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        last = False
        while not last:
            batch: list[Operation] = []
            one = self._ready.get()
            while True:
                if one is None:
                    last = True
                else:
                    batch.append(one)
                if len(batch) >= MOST:
                    break
                try:
                    one = self._ready.get_nowait()
                except Empty:
                    break
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[Operation]) -> None:
        try:
            if self._broken:
                raise StorageFailed(self._broken)
            place_files(batch)
            commit_batch(self._env, batch)
        except BaseException as error:  # a bug must not silence a store
            if not isinstance(error, StorageFailed):
                log.event("store.bug", "error", error=repr(error))
            for operation in batch:
                operation.error = operation.error or error
        for operation in batch:
            if isinstance(operation.error, StorageFailed) and (self._env.broken or IO_ERROR in str(operation.error)):
                self._break(str(operation.error))
        try:
            self._loop.call_soon_threadsafe(self._settle, batch)
        except RuntimeError:
            return  # the loop is gone: nobody waits for an answer

    def _break(self, why: str) -> None:
        """Something could not be written or synced: trust nothing that is written from now on."""
        if not self._broken:
            self._broken = STOPPED + why.removeprefix(STOPPED)
            log.event("store.readonly", "error", why=why, then="look at the disk, then start the server anew")

    def _settle(self, batch: list[Operation]) -> None:
        try:
            kept = (one for one in batch if one.error is None)
            self._publish([key for one in kept if one.tells is not None for key in one.tells(one.result)])
        except Exception as error:  # whoever listens, what is durable is acknowledged
            log.event("store.bug", "error", error=repr(error))
        for operation in batch:
            if operation.after is not None:
                try:
                    operation.after(operation)
                except Exception as error:
                    log.event("store.bug", "error", error=repr(error))
            future = operation.future
            if future is None or future.done():
                continue
            if operation.error is not None:
                future.set_exception(operation.error)
            else:
                future.set_result(operation.result)


def place_files(batch: list[Operation]) -> None:
    """1. files: written and named, all in one call."""
    try:
        _place(batch)
    except Exception as error:  # nothing was done: what somebody wants cannot even be tried
        if len(batch) == 1:
            batch[0].error = error
            return
        for operation in batch:
            place_files([operation])


def _place(batch: list[Operation]) -> None:
    jobs = [(operation, one) for operation in batch for one in operation.files]
    if not jobs:
        return
    for (operation, one), code in zip(jobs, stage.place([one.job() for _, one in jobs]), strict=True):
        if code:
            operation.error = OSError(code, os.strerror(code), one.path)


def commit_batch(env: Environment, batch: list[Operation]) -> None:
    """Commit operations whose files are in place; each ends with a result or an error. What an operation may raise is
    not listed anywhere: whatever it is, its batch goes on without it, and its files are removed before another look at
    the directory can take them for mail."""
    ready = [operation for operation in batch if operation.error is None]
    if ready and not _apply(env, ready):
        for operation in ready:
            if operation.error is None:
                _apply(env, [operation])
            if isinstance(operation.error, lmdb.MapFullError):
                _with_room(env, operation)
    for operation in ready:
        if operation.unsure and operation.repeatable:  # doing it again tells whether it was committed
            operation.error, operation.unsure = None, False
            _apply(env, [operation])
    for operation in batch:
        if operation.error is not None and not (operation.unsure and operation.repeatable):
            for job in operation.files:
                job.undo(operation.error)
    kept = [operation for operation in batch if operation.error is None]
    if kept:
        try:
            env.sync()  # 3.
        except MailError as error:  # what they did is there, and may or may not be durable
            for operation in kept:
                operation.error = error
    for operation in batch:
        if operation.error is not None and not isinstance(operation.error, MailError):
            if not isinstance(operation.error, EXPECTED):
                log.event("store.bug", "error", error=repr(operation.error), where=_where(operation.error))
            operation.error = translate(operation.error)


def _with_room(env: Environment, operation: Operation) -> None:
    """Try once more where the map was full: of pages, perhaps, that only checkpoints keep. Another checkpoint sets them
    free, for good when all processes have heard of it; what removes waits for that."""
    end = time.monotonic() + (0.0 if operation.adds else PATIENCE)
    env.make_room()
    while True:
        operation.error, operation.unsure = None, False
        if _apply(env, [operation]) or not isinstance(operation.error, lmdb.MapFullError):
            return
        if time.monotonic() >= end:
            env.tell_full(env.env.info()["map_size"])
            return
        time.sleep(PAUSE)


def _refuse(operations: list[Operation]) -> list[Operation]:
    """There is no room for what adds something; what is left to do."""
    for operation in operations:
        if operation.adds:
            operation.error = StorageFull("index map is full but for its reserve")
    return [operation for operation in operations if not operation.adds]


def _apply(env: Environment, operations: list[Operation]) -> bool:
    """2. rows and journal: all in one transaction. False when one failed, and nothing was kept: try them one by one."""
    txn, committing = None, False
    try:
        txn = env.begin(write=True)
        if any(operation.adds for operation in operations) and env.crowded(txn):
            operations = _refuse(operations)
        for operation in operations:
            for job in operation.files:
                job.note(txn)
            operation.result = operation.apply(txn)
        committing = True
        txn.commit()
        return True
    except BaseException as error:
        if len(operations) == 1:
            operations[0].error = error
            operations[0].unsure = committing
        return False
    finally:
        if txn is not None:
            txn.abort()


def _where(error: BaseException) -> str:
    """The line that raised it, for the log."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
