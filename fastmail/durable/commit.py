"""Group commit: whatever waits is made durable together, in the order content, names, index; then replies go out.

Two stages. A native thread (durable.stage) writes, syncs and names the files of all operations that wait, round by
round. One index thread for each environment then
takes every operation whose files are in place, applies all to one LMDB transaction and commits. While it works the
next batch gathers: batches grow by themselves under load, and a lone operation never waits for company.

Promise: a future is resolved with a result only after all of that; operations are published in the order in which
they were committed. An operation that fails gets its own exception, its files are removed, and it harms no other.
After a failed sync nothing that depended on it is acknowledged; and as the kernel then may take for clean what never
reached the disk, nothing more is written at all: reading goes on, every write is refused until the process is started
anew, and the log says so. A full disk is no such failure.
"""

import asyncio
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lmdb

from fastmail.durable import files
from fastmail.durable.env import Environment, translate
from fastmail.durable.stage import FileStage
from fastmail.model.errors import MailError, StorageFailed, StorageFull
from fastmail.telemetry import log

Octets = bytes | bytearray | memoryview
IO_ERROR = os.strerror(errno.EIO)
EXPECTED = (MailError, OSError, lmdb.Error)  # what disks and callers do; anything else is a bug, for the log
Job = tuple[bytes, bytes, bytes, Sequence[Octets] | None, int, int]  # as FileStage.submit takes it


@dataclass(slots=True)
class FileJob:
    """One file to be made: written to ``temporary`` and renamed to ``directory``/``name``; with ``source`` nothing is
    written, ``source`` is linked to that place."""

    directory: bytes
    name: bytes
    temporary: bytes = b""
    chunks: Sequence[Octets] = ()
    mtime: int = -1
    source: bytes = b""

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name

    def job(self) -> Job:
        if self.source:
            return self.source, self.path, self.directory, None, -1, -1
        return self.temporary, self.path, self.directory, self.chunks, self.mtime, -1

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

    def job(self) -> Job:
        return b"", b"", b"", self.chunks, self.offset, self.fd

    def undo(self, error: BaseException) -> None:
        self.spoilt(error)


@dataclass(slots=True)
class Operation:
    """What to make durable: files first, then ``apply`` in the transaction. ``apply`` may run twice. ``adds``: it fills
    the index with something new, and is refused where only the reserve for removing is left. ``after`` is called with
    the operation once its outcome is known, also when nobody waits for that any more, on the loop. ``repeatable``:
    ``apply`` finds what it has committed before, and then changes nothing. ``unsure``: its commit failed, and may have
    been made all the same."""

    apply: Callable[[Any], Any]
    files: Sequence[FileJob | PieceJob] = ()
    adds: bool = False
    after: "Callable[[Operation], None] | None" = None
    repeatable: bool = False
    unsure: bool = False
    future: "asyncio.Future[Any] | None" = None
    error: BaseException | None = None
    result: Any = None


class CommitQueue:
    """Submit from the event loop; everything else happens on the stages' threads."""

    def __init__(
        self,
        env: Environment,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[list[Any]], None],
        name: str = "w",
        begun: Callable[[Any], None] | None = None,
    ) -> None:
        self._env = env
        self._loop = loop
        self._publish = publish
        self._begun = begun
        self._ready: deque[Operation] = deque()
        self._files = FileStage()
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
        elif operation.files:
            self._files.submit(operation, [one.job() for one in operation.files])
        else:
            self._ready.append(operation)
            self._files.ping()
        return operation.future

    async def close(self) -> None:
        """Finish what was submitted, then stop the threads."""
        await self._loop.run_in_executor(None, self._files.close)
        self._closing = True
        self._files.ping()
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        while True:
            batch: list[Operation] = []
            for operation, codes in self._files.wait():
                for one, code in zip(operation.files, codes, strict=True):
                    if code:
                        operation.error = OSError(code, os.strerror(code), one.path)
                    if code == errno.EIO:
                        self._break(f"{os.fsdecode(one.path)}: {os.strerror(code)}")
                batch.append(operation)
            while self._ready:
                batch.append(self._ready.popleft())
            if batch:
                self._commit(batch)
                if self._closing:
                    self._files.ping()  # the one of ``close`` may have come with this batch, and no other will
            elif self._closing:
                return

    def _commit(self, batch: list[Operation]) -> None:
        try:
            commit_batch(self._env, batch, self._begun)
        except BaseException as error:  # a bug must not silence a store
            log.event("store.bug", "error", error=repr(error))
            for operation in batch:
                operation.error = operation.error or error
        for operation in batch:
            if isinstance(operation.error, StorageFailed) and IO_ERROR in str(operation.error):
                self._break(str(operation.error))
        try:
            self._loop.call_soon_threadsafe(self._settle, batch)
        except RuntimeError:
            return  # the loop is gone: nobody waits for an answer

    def _break(self, why: str) -> None:
        """Something could not be written or synced: trust nothing that is written from now on."""
        if not self._broken:
            self._broken = f"nothing is written any more, because of an earlier failure: {why}"
            log.event("store.readonly", "error", why=why, then="look at the disk, then start the server anew")

    def _settle(self, batch: list[Operation]) -> None:
        self._files.settled(sum(1 for operation in batch if operation.files))
        try:
            self._publish([operation.result for operation in batch if operation.error is None])
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


def commit_batch(env: Environment, batch: list[Operation], begun: Callable[[Any], None] | None = None) -> None:
    """Commit operations whose files are in place; each ends with a result or an error. ``begun`` is called with each
    transaction before the first operation. What an operation may raise is not listed anywhere: whatever it is, its
    batch goes on without it, and its files are removed before another look at the directory can take them for mail."""
    ready = [operation for operation in batch if operation.error is None]
    if ready and not _apply(env, ready, begun):
        for operation in ready:
            if operation.error is None:
                _apply(env, [operation], begun)
    for operation in ready:
        if operation.unsure and operation.repeatable:  # doing it again tells whether it was committed
            operation.error, operation.unsure = None, False
            _apply(env, [operation], begun)
    for operation in batch:
        if operation.error is not None and not (operation.unsure and operation.repeatable):
            for job in operation.files:
                job.undo(operation.error)
        if operation.error is not None and not isinstance(operation.error, MailError):
            if not isinstance(operation.error, EXPECTED):
                log.event("store.bug", "error", error=repr(operation.error), where=_where(operation.error))
            operation.error = translate(operation.error)


def _refuse(operations: list[Operation]) -> list[Operation]:
    """There is no room for what adds something; what is left to do."""
    for operation in operations:
        if operation.adds:
            operation.error = StorageFull("index map is full but for its reserve")
    return [operation for operation in operations if not operation.adds]


def _apply(env: Environment, operations: list[Operation], begun: Callable[[Any], None] | None) -> bool:
    """3. index: all in one transaction. False when one failed, and nothing was kept: try them one by one."""
    txn, committing = None, False
    try:
        txn = env.begin(write=True)
        if begun is not None:
            begun(txn)
        if any(operation.adds for operation in operations) and env.crowded(txn):
            operations = _refuse(operations)
        for operation in operations:
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
