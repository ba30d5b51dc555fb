"""Group commit: whatever waits is made durable together, in the order content, names, index; then replies go out.

Two stages. Content threads (up to CONTENT_THREADS, started as load asks for them) write and sync the files of an
operation, rename them and sync the directories; the kernel's journal merges what they sync at the same time. One
index thread for each environment then takes every operation whose files are in place, applies all to one LMDB
transaction and commits. While it works the next batch gathers: batches grow by themselves under load, and a lone
operation never waits for company.

Promise: a future is resolved with a result only after all of that; operations are published in the order in which
they were committed. An operation that fails gets its own exception, its files are removed, and it harms no other.
After a failed sync nothing that depended on it is acknowledged.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lmdb

from fastmail.durable import files
from fastmail.durable.env import Environment, translate
from fastmail.model.errors import MailError

MAX_BATCH = 256
CONTENT_THREADS = 16


@dataclass(slots=True)
class FileJob:
    """One file to be made: written to ``temporary``, then renamed to ``directory``/``name``.

    With ``source`` nothing is written: ``source`` is hard-linked (or, if ``adopt``, renamed) to its place.
    """

    directory: bytes
    name: bytes
    temporary: bytes = b""
    chunks: Sequence[bytes | bytearray | memoryview] = ()
    mtime: int = -1
    source: bytes = b""
    adopt: bool = False

    @property
    def path(self) -> bytes:
        return self.directory + b"/" + self.name


@dataclass(slots=True)
class Operation:
    """What to make durable: files first, then ``apply`` in the transaction. ``apply`` may run twice."""

    apply: Callable[[Any], Any]
    files: list[FileJob] = field(default_factory=list)
    future: "asyncio.Future[Any] | None" = None
    error: BaseException | None = None
    result: Any = None


class CommitQueue:
    """Submit from the event loop; everything else happens on the stages' threads."""

    def __init__(
        self, env: Environment, loop: asyncio.AbstractEventLoop, publish: Callable[[list[Any]], None], name: str = "w"
    ) -> None:
        self._env = env
        self._loop = loop
        self._publish = publish
        self._name = name
        self._content: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._index: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._writers: list[threading.Thread] = []
        self._in_content = 0
        self._committer = threading.Thread(target=self._run_index, name=f"commit-{name}", daemon=True)
        self._committer.start()

    def submit(self, operation: Operation) -> "asyncio.Future[Any]":
        """Queue an operation; the future has its ``apply`` result once it is durable and published."""
        operation.future = self._loop.create_future()
        if operation.files:
            self._in_content += 1
            if self._in_content > len(self._writers) and len(self._writers) < CONTENT_THREADS:
                name = f"content-{self._name}-{len(self._writers)}"
                writer = threading.Thread(target=self._run_content, name=name, daemon=True)
                self._writers.append(writer)
                writer.start()
            self._content.put(operation)
        else:
            self._index.put(operation)
        return operation.future

    async def close(self) -> None:
        """Finish what was submitted, then stop the threads."""
        for _ in self._writers:
            self._content.put(None)
        for writer in self._writers:
            await self._loop.run_in_executor(None, writer.join)
        self._index.put(None)
        await self._loop.run_in_executor(None, self._committer.join)

    def _run_content(self) -> None:
        while True:
            batch, stop = _take(self._content, 1 + self._content.qsize() // CONTENT_THREADS)
            if batch:
                try:
                    _write_files(batch)
                except BaseException as error:  # a bug must not silence a store
                    for operation in batch:
                        operation.error = operation.error or error
                for operation in batch:
                    self._index.put(operation)
            if stop:
                return

    def _run_index(self) -> None:
        stop = False
        while not stop:
            batch, stop = _take(self._index, MAX_BATCH)
            if not batch:
                continue
            try:
                commit_batch(self._env, batch)
            except BaseException as error:
                for operation in batch:
                    operation.error = operation.error or error
            try:
                self._loop.call_soon_threadsafe(self._settle, batch)
            except RuntimeError:  # the loop is gone: nobody waits for an answer
                return

    def _settle(self, batch: list[Operation]) -> None:
        self._in_content -= sum(1 for operation in batch if operation.files)
        self._publish([operation.result for operation in batch if operation.error is None])
        for operation in batch:
            future = operation.future
            if future is None or future.done():
                continue
            if operation.error is not None:
                future.set_exception(operation.error)
            else:
                future.set_result(operation.result)


def _take(source: "queue.SimpleQueue[Operation | None]", most: int) -> tuple[list[Operation], bool]:
    """Wait for one operation, then take what else waits, up to ``most``; True when the end was among them."""
    item = source.get()
    batch: list[Operation] = []
    while item is not None:
        batch.append(item)
        if len(batch) >= most:
            return batch, False
        try:
            item = source.get_nowait()
        except queue.Empty:
            return batch, False
    return batch, True


def commit_batch(env: Environment, batch: list[Operation]) -> None:
    """Commit operations whose files are in place; each ends with a result or an error."""
    ready = [operation for operation in batch if operation.error is None]
    if ready and not _apply(env, ready):
        for operation in ready:
            if operation.error is None:
                _apply(env, [operation])
    for operation in batch:
        if operation.error is not None and operation.files:
            files.unlink_batch([job.path for job in operation.files])
        if operation.error is not None and not isinstance(operation.error, MailError):
            operation.error = translate(operation.error)


def _write_files(batch: list[Operation]) -> None:
    """1. content, 2. names: both synced when this returns; an operation with a file that failed has its error."""
    made = [(operation, job) for operation in batch for job in operation.files if not job.source]
    if made:
        jobs = [(job.temporary, job.path, job.directory, job.chunks, job.mtime) for _, job in made]
        for (operation, job), code in zip(made, files.place(jobs), strict=True):
            if code:
                operation.error = OSError(code, os.strerror(code), job.path)
    linked = [(operation, job) for operation in batch for job in operation.files if job.source]
    if not linked:
        return
    for operation, job in linked:
        if operation.error is None:
            try:
                if job.adopt:
                    os.rename(job.source, job.path)
                else:
                    os.link(job.source, job.path)
            except OSError as error:
                operation.error = error
    directories = list({job.directory for operation, job in linked if operation.error is None})
    bad = {d: code for d, code in zip(directories, files.sync_dirs(directories), strict=True) if code}
    for operation, job in linked:
        if job.directory in bad and operation.error is None:
            code = bad[job.directory]
            operation.error = OSError(code, os.strerror(code), job.directory)


def _apply(env: Environment, operations: list[Operation]) -> bool:
    """3. index: all in one transaction. False when one failed, and nothing was kept: try them one by one."""
    txn = None
    try:
        txn = env.begin(write=True)
        for operation in operations:
            operation.result = operation.apply(txn)
        txn.commit()
        return True
    except (MailError, OSError, lmdb.Error, ValueError, KeyError, TypeError, ArithmeticError) as error:
        if len(operations) == 1:
            operations[0].error = error
        return False
    finally:
        if txn is not None:
            txn.abort()
