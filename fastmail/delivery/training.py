"""Users teach by moving mail: what goes to the Junk mailbox is spam, what comes out of it is ham. The server's own
classifier learns that, and scanners that are configured to learn (policy.scanners.teaching); either may be missing.

Promise: nobody waits for it. A command that moved or copied messages only notes where they went (``moved``), after its
commit; one task reads and learns them a moment later, in other threads, a batch at a time. At most NOTED messages are
noted, and a process that dies loses its notes: a lesson more or less changes little. A clean stop works off LAST of
them.

Moved to Junk, a message is learned as spam; moved from there to any mailbox but Trash, it is ham. Where it was
learned as the other thing before, that is only taken back: somebody had made a mistake. Copies count as moves do, and
where they come from is not looked at again.

Scanners are taught after the classifier, and the next batch waits for them, so a slow one costs no memory. At a stop
they are taught no more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastmail.delivery import uses
from fastmail.model.errors import MailError
from fastmail.policy.learning.counts import EVERYBODY, HAM, SPAM, Learned, Lesson
from fastmail.policy.learning.words import read
from fastmail.policy.scanners import teaching
from fastmail.policy.scanners.teaching import Pupil, teach_all
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

NOTED = 10_000  # messages
LATER = 1.0  # s from the first note to its lesson: users move one message after the other
BATCH = 50  # messages of a commit
OCTETS = 4 << 20  # of their contents
LARGEST = 4 << 20  # octets of a message that is learned
PAUSE = 0.05  # s behind each batch
LAST = 200  # messages that are learned at a stop


@dataclass(frozen=True, slots=True)
class _Note:
    """``uids``: messages in ``target`` that are not learned yet."""

    account: Account
    source: bytes
    target: bytes
    uids: deque[int]


class Trainer:
    """One in each worker. ``learned``: the classifier's counts; ``shared``: what users teach counts for everybody
    too; ``pupils``: scanners that learn."""

    def __init__(
        self,
        learned: Learned | None,
        store: Store,
        shared: bool = False,
        resolve: Callable[[int], Account | None] = lambda number: None,
        pupils: Sequence[Pupil] = (),
    ) -> None:
        self._learned = learned
        self._pupils = pupils
        self._store = store
        self._owners = (EVERYBODY,) if shared else ()
        self._resolve = resolve
        self._notes: deque[_Note] = deque()
        self._noted = 0  # messages
        self._worker: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def moved(self, account: Account, source: bytes, target: bytes, uids: Sequence[int]) -> None:
        """A user put messages from one of the account's mailboxes into another (keys), where they have these UIDs.
        Called behind the commit: it does nothing else."""
        room = NOTED - self._noted
        if room <= 0 or self._closing.is_set():
            count("learned.left_out", len(uids))
            return
        note = _Note(account, source, target, deque(uids[:room]))
        self._notes.append(note)
        self._noted += len(note.uids)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def sweep(self) -> None:
        """Begin to look at all owners once: accounts may have been removed."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Learn the last of what was noted."""
        self._closing.set()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*filter(None, (self._sweeper, self._worker)), return_exceptions=True)
        if self._learned is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._learned.close)

    # ---------------------------------------------------------------- in the background

    async def _work(self) -> None:
        done = 0
        try:
            while self._notes and not (self._closing.is_set() and done >= LAST):
                await self._wait(LATER)
                batch: list[tuple[_Note, bytes, int]] = []
                octets = 0
                while self._notes and len(batch) < BATCH and octets < OCTETS:
                    note = self._notes[0]
                    kind = self._kind(note) if note.uids else 0
                    if not kind:
                        self._notes.popleft()
                        self._noted -= len(note.uids)
                        continue
                    self._noted -= 1
                    content = await self._content(note, note.uids.popleft())
                    if content is not None:
                        batch.append((note, content, kind))
                        octets += len(content)
                if batch:
                    await self._teach(batch)
                    await self._pass_on(
                        [teaching.Lesson(content, kind == SPAM, note.account.address) for note, content, kind in batch]
                    )
                    done += len(batch)
                    await self._wait(PAUSE)
        finally:
            self._worker = None

    async def _wait(self, seconds: float) -> None:
        """For so long, or until the end."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    def _kind(self, note: _Note) -> int:
        """What a move says of its messages; 0 for nothing."""
        try:
            with self._store.snapshot(note.account) as snapshot:
                boxes = snapshot.boxes(note.account.id)
        except (MailError, OSError) as error:
            log.event("learned.failed", "warning", account=note.account.address, error=error)
            return 0
        junk, trash = (
            one.key if one else b"" for one in (uses.mailbox(boxes, uses.JUNK), uses.mailbox(boxes, uses.TRASH))
        )
        if note.target == junk:
            return SPAM if note.source != junk else 0
        return HAM if note.source == junk and note.target != trash else 0

    async def _content(self, note: _Note, uid: int) -> bytes | None:
        """One of a note's messages; None where it is gone, or too large."""
        try:
            content = await self._store.content(note.account, note.target, uid)
        except (MailError, OSError) as error:
            log.event("learned.failed", "warning", account=note.account.address, error=error)
            return None
        return content if content is not None and len(content) <= LARGEST else None

    def _lessons(self, batch: Sequence[tuple[_Note, bytes, int]]) -> list[Lesson]:
        """What the classifier learns of messages; in a helper thread."""
        out = []
        for note, content, kind in batch:
            words = read(content)
            out += [Lesson(owner, words, kind, undo=True) for owner in (note.account.id, *self._owners)]
        return out

    async def _teach(self, batch: Sequence[tuple[_Note, bytes, int]]) -> None:
        if self._learned is None:
            return
        loop = asyncio.get_running_loop()
        try:
            lessons = await loop.run_in_executor(None, self._lessons, batch)
            done = await loop.run_in_executor(None, self._learned.teach, lessons)
        except (MailError, OSError) as error:
            log.event("learned.failed", "warning", messages=len(batch), error=error)
            return
        count("learned.messages", sum(one != "known" for one in done))

    async def _pass_on(self, lessons: Sequence[teaching.Lesson]) -> None:
        """Have scanners learn the same, unless the process ends."""
        if not self._pupils:
            return
        passing = asyncio.ensure_future(teach_all(self._pupils, lessons))
        ending = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((passing, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            passing.cancel()
            await asyncio.gather(passing, ending, return_exceptions=True)

    async def _sweep(self) -> None:
        """Forget accounts that are no more."""
        loop = asyncio.get_running_loop()
        try:
            if self._learned is None or not self._learned.there:
                return
            for owner in await loop.run_in_executor(None, self._learned.owners):
                if owner != EVERYBODY and self._resolve(owner) is None:
                    await loop.run_in_executor(None, self._learned.forget, owner)
        except (MailError, OSError) as error:
            log.event("learned.failed", "warning", error=error)
