"""Group commit: operations that wait are made durable together, with one sync, and only then answered.

Each environment has one commit thread. It takes a round of operations, writes and names their files (durable.stage),
applies them in one transaction, whose journal record holds their rows and content, and syncs the journal once. While it
works, the next round gathers (durable.rounds); so rounds grow under load, and a lone operation never waits for others.

Promise: a future gets its result only after all of these steps. Operations are published in the order in which they
were committed. An operation that fails gets its own exception, its files are removed, and no other operation of the
batch fails with it.

Failures: after a failed sync no operation that depended on it is acknowledged, and nothing more is written: the kernel
may take pages for clean that never reached the disk. Reading continues; writes are refused until the server is started
again, and the log says so. A full disk is no such failure.
"""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import lmdb
from msgspec import Struct

from fastmail.durable import files, stage
from fastmail.durable.env import STOPPED, Environment
from fastmail.durable.errors import translate
from fastmail.durable.journal import BOUND
from fastmail.durable.rounds import Rounds
from fastmail.durable.transaction import Txn
from fastmail.durable.writing import Writing
from fastmail.model.errors import MailError, StorageFailed, StorageFull
from fastmail.telemetry import log

Octets = bytes | bytearray | memoryview
PATIENCE, PAUSE = 2.5, 0.1  # s of all tries and between two: other processes notice a checkpoint within 1 s
IO_ERROR = os.strerror(errno.EIO)
EXPECTED = (MailError, OSError, lmdb.Error)  # errors of disks and callers; any other one is a bug and is logged


class FileWrite(Struct):
    """One file to create.

    Its chunks are written to ``temporary``, which is renamed to ``path``, a name in ``directory``. With ``source``
    nothing is written; the path becomes a hard link of ``source``. The journal makes small content durable. ``synced``
    files are synced themselves: because another program will open them, or because the ``source`` is another program's
    file; ``request`` sets it for large content too.
    """

    directory: bytes
    path: bytes
    temporary: bytes = b""
    chunks: Sequence[Octets] = ()
    mtime: int = -1
    source: bytes = b""
    synced: bool = False

    def request(self) -> "stage.Write":
        """Return the write as durable.stage takes it."""
        if self.source:
            return self.source, self.path, self.directory, None, 0 if self.synced else -1, -1, True
        self.synced = self.synced or large(self.chunks)
        return self.temporary, self.path, self.directory, self.chunks, self.mtime, -1, self.synced

    def note(self, txn: Writing) -> None:
        """Record the file in the transaction's journal record, unless it is synced by itself. After ``request``."""
        if self.source:
            txn.linked(self.path, self.source)
        elif not self.synced:
            txn.made(self.path, self.mtime, self.chunks)

    def undo(self, error: BaseException) -> None:
        """Remove the file, because its operation failed."""
        files.unlink_batch([self.path])


class PieceWrite(Struct):
    """Octets to write at an offset of an open file (a segment). ``spoilt`` is called if their operation fails."""

    fd: int
    offset: int
    chunks: Sequence[Octets]
    path: bytes
    spoilt: Callable[[BaseException], None]

    def request(self) -> "stage.Write":
        """Return the write as durable.stage takes it."""
        return b"", b"", b"", self.chunks, self.offset, self.fd, large(self.chunks)

    def note(self, txn: Writing) -> None:
        """Record the octets in the transaction's journal record, unless they are synced by themselves."""
        if not large(self.chunks):
            txn.piece(self.path, self.offset, self.chunks)

    def undo(self, error: BaseException) -> None:
        """Tell the segment's writer that the octets count for nothing."""
        self.spoilt(error)


def large(chunks: Sequence[Octets]) -> bool:
    """True if content is too large for the journal and is synced by itself."""
    return sum(map(len, chunks)) > BOUND


class Operation(Struct):
    """What to make durable: first the files, then what ``apply`` changes in the transaction.

    ``apply``: changes rows and returns the result; it may run twice, each time in a new transaction. ``adds``: it fills
    the index with something new, so it is refused where only the reserve for removing is left. ``after``: called on the
    loop with this operation once its outcome is known, even if nobody awaits the future any more. ``repeatable``: a
    second ``apply`` recognises that the first was committed and changes nothing. ``tells``: returns, from the result,
    the keys that the queue's ``publish`` gets. ``unsure``: the commit failed but may have reached the disk."""

    apply: Callable[[Txn], Any]
    files: Sequence[FileWrite | PieceWrite] = ()
    adds: bool = False
    after: "Callable[[Operation], None] | None" = None
    repeatable: bool = False
    tells: Callable[[Any], Sequence[bytes]] | None = None
    unsure: bool = False
    future: "asyncio.Future[Any] | None" = None
    error: BaseException | None = None
    result: Any = None


class CommitQueue:
    """Takes operations from the event loop and commits them on its own thread.

    ``publish`` is called on the loop after each batch with the keys that its operations tell, in the order of commit.
    """

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
        self._ready: SimpleQueue[list[Operation] | None] = SimpleQueue()  # rounds; None ends the thread
        self._rounds = Rounds(loop, self._ready.put)
        self._closing = False
        self._broken = ""
        self._thread = threading.Thread(target=self._run, name=f"commit-{name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queue an operation. The future gets the result of ``apply`` once that is durable and published."""
        operation.future = self._loop.create_future()
        if self._broken or self._closing:
            operation.error = StorageFailed(self._broken or "it is being closed")  # the commit thread may have ended
            operation.future.set_exception(operation.error)
            if operation.after is not None:
                self._loop.call_soon(operation.after, operation)
        else:
            self._rounds.add(operation)
        return operation.future

    async def close(self) -> None:
        """Finish what was submitted, then stop the thread."""
        self._closing = True
        self._ready.put(self._rounds.take())
        self._ready.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _run(self) -> None:
        """The commit thread: commit one round after the other."""
        while (batch := self._ready.get()) is not None:
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[Operation]) -> None:
        """Commit a batch on the commit thread, and have the loop deliver the outcomes."""
        try:
            if self._broken:
                raise StorageFailed(self._broken)
            write_files(batch)
            commit_batch(self._env, batch)
        except BaseException as error:  # even a bug must end in an answer: the thread has to go on
            if not isinstance(error, StorageFailed):
                log.event("store.bug", "error", error=repr(error))
            for operation in batch:
                operation.error = operation.error or error
        for operation in batch:
            if isinstance(operation.error, StorageFailed) and (self._env.broken or IO_ERROR in str(operation.error)):
                self._break(str(operation.error))
        try:
            self._loop.call_soon_threadsafe(self._finish_batch, batch)
        except RuntimeError:
            return  # the loop is closed, so nobody awaits an answer

    def _break(self, why: str) -> None:
        """Refuse all later operations: after a failed write or sync the disk cannot be trusted."""
        if not self._broken:
            self._broken = STOPPED + why.removeprefix(STOPPED)
            log.event("store.readonly", "error", why=why, then="check the disk, then start the server again")

    def _finish_batch(self, batch: list[Operation]) -> None:
        """On the loop: have the next round begun, publish what this one changed, then resolve its futures."""
        if not self._closing:
            self._rounds.committed()
        try:
            kept = (one for one in batch if one.error is None)
            self._publish([key for one in kept if one.tells is not None for key in one.tells(one.result)])
        except Exception as error:  # a bug in a listener must not keep durable operations from being acknowledged
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


def write_files(batch: list[Operation]) -> None:
    """Step 1 of a commit: write and name the files of all operations in one native call."""
    try:
        _write(batch)
    except Exception as error:  # the call refused one of them before it did any: find out whose it is
        if len(batch) == 1:
            batch[0].error = error
            return
        for operation in batch:
            write_files([operation])


def _write(batch: list[Operation]) -> None:
    """Write and name the files; an operation with a file that failed gets the OSError."""
    writes = [(operation, one) for operation in batch for one in operation.files]
    if not writes:
        return
    for (operation, one), code in zip(writes, stage.write_files([one.request() for _, one in writes]), strict=True):
        if code:
            operation.error = OSError(code, os.strerror(code), one.path)


def commit_batch(env: Environment, batch: list[Operation]) -> None:
    """Commit operations whose files are in place. Each ends with a result or an error.

    Any exception of one operation is contained: the batch is committed without that operation, and its files are
    removed before a scan of the directory can take them for mail."""
    ready = [operation for operation in batch if operation.error is None]
    # Together first, which is the usual case. If any operation fails, one by one, to find out which.
    if ready and not _apply(env, ready):
        for operation in ready:
            if operation.error is None:
                _apply(env, [operation])
            if isinstance(operation.error, lmdb.MapFullError):
                _with_room(env, operation)
    for operation in ready:
        if operation.unsure and operation.repeatable:  # a repetition finds out whether it was committed
            operation.error, operation.unsure = None, False
            _apply(env, [operation])
    for operation in batch:
        # The files of an operation whose commit may have succeeded stay: its rows may refer to them.
        if operation.error is not None and not (operation.unsure and operation.repeatable):
            for write in operation.files:
                write.undo(operation.error)
    kept = [operation for operation in batch if operation.error is None]
    if kept:
        try:
            env.sync()  # step 3: one sync of the journal for the whole batch
        except MailError as error:  # the changes are visible, and may or may not be durable
            for operation in kept:
                operation.error = error
    for operation in batch:
        if operation.error is not None and not isinstance(operation.error, MailError):
            if not isinstance(operation.error, EXPECTED):
                log.event("store.bug", "error", error=repr(operation.error), where=_where(operation.error))
            operation.error = translate(operation.error)


def _with_room(env: Environment, operation: Operation) -> None:
    """Try an operation again after the map was full.

    The full pages may be ones that only the last checkpoint keeps. A new checkpoint frees them as soon as all processes
    have noticed it. An operation that removes waits for that; one that adds is tried only once more."""
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
    """Refuse the operations that add; return the others."""
    for operation in operations:
        if operation.adds:
            operation.error = StorageFull("index map is full but for its reserve")
    return [operation for operation in operations if not operation.adds]


def _apply(env: Environment, operations: list[Operation]) -> bool:
    """Step 2 of a commit: apply operations in one transaction with one journal record.

    Returns False when one failed. Nothing was kept then; if there was more than one, the caller tries them one by one.
    """
    txn, committing = None, False
    try:
        txn = env.begin(write=True)
        if any(operation.adds for operation in operations) and env.crowded(txn):
            operations = _refuse(operations)
        for operation in operations:
            for write in operation.files:
                write.note(txn)
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
    """Return the source line that raised an error, for the log."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
