"""The queue on disk: an LMDB environment for what has to be done, segments for the messages (queue.contents).

    item   id(8)                                  Item
    job    id(8) number(2)                        Job
    line   destination NUL rank(1) due(8) id(8) number(2)  empty: jobs that are not held; rank 0 is the highest
                                                  priority (RFC 6710), and in each they are in the order in which
                                                  they are due
    alive  segment(4)                             how many items have their content there (one that is shared with a
                                                  mailbox lies in the mail store)
    rate   login, @domain, or a key of rates      hour and what was sent in it (queue.rates)
    tls    day NUL domain NUL ...                 counts of sessions (queue.facts)
    policy domain                                 what a domain asks of those who send to it (queue.facts)
                                                  (a key that begins with NUL is no domain: other facts, and
                                                  destinations that an administrator wants tried now)

Promise: an Outgoing is stored whole or not at all, and is durable when ``enqueue`` returns: first the content is
synced, then the records are written, in one commit with other waiting work. The outcome of an attempt and the report
that it causes are in one commit. Memory does not grow with the depth of the queue: everything is read a window at a
time, and finding the destinations at start costs a step for each destination, not for each message. A segment that
nothing refers to is removed.
"""

import asyncio
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastmail.durable.commit import CommitQueue, Operation, PieceWrite
from fastmail.durable.env import Environment
from fastmail.durable.opening import Journaled
from fastmail.durable.transaction import Txn
from fastmail.message import transaction
from fastmail.model.errors import CorruptData, StorageFailed, TooMuch
from fastmail.model.esmtp import Rcpt
from fastmail.queue import rates
from fastmail.queue.contents import Contents, Shared
from fastmail.queue.facts import Facts
from fastmail.queue.model import ITEM_KEY, KEY, LOCAL, LONGEST_NAME, Item, Job, Outgoing, item_of, number_of
from fastmail.queue.rates import Charge
from fastmail.queue.rows import item_row, job_row, read_item, read_job
from fastmail.telemetry import log

LAYOUT = 3
TABLES = ["item", "job", "line", "ready", "alive", "policy", "rate", "tls"]  # ready: what layout 1 had instead of line
WANTED = b"\0wanted\0"  # in the table policy: older servers ignore such rows, as no domain begins so
RANK = struct.Struct(">BQ")  # in a key of line: FIRST less the priority, due time; so jobs sort by both
FIRST = 9  # the highest priority (RFC 6710 4.1)
RANKED = RANK.size + KEY.size  # octets of a key of line after its destination and NUL
YOUNG = 900.0  # s; a hold older than this whose message is not in the queue is given back
PART, PART_HERE = 50, 1000  # recipients of a job of a mailing list: at other hosts, here
Change = Callable[[Job], Job | None]


def _rate_key(who: str) -> bytes:
    return who.encode()[: rates.LONGEST_KEY]


def ready_key(job: Job) -> bytes:
    """Return the key of a job in the table ``line``."""
    name = job.destination.encode()[:LONGEST_NAME]
    return name + b"\0" + RANK.pack(FIRST - job.priority, job.due) + job.key


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that begin with ``prefix``. A damaged key may have the highest octet there is."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def _parts(item: Item, groups: Mapping[str, list[Rcpt]]) -> Iterator[tuple[str, list[Rcpt]]]:
    """Yield (destination, recipients) of each job. The recipients of a mailing list are split into several jobs,
    because a job's row is written again after each attempt, and an attempt that a crash interrupts is repeated."""
    for destination, recipients in groups.items():
        most = (PART_HERE if destination == LOCAL else PART) if item.verp else max(1, len(recipients))
        for start in range(0, len(recipients), most):
            yield destination, recipients[start : start + most]


def open_queue(data_dir: str, map_size: int) -> Environment:
    """Open the environment of the queue."""
    place = os.path.join(data_dir, "queue", "index")
    return Environment(place, TABLES, LAYOUT, map_size, journaled=Journaled(data_dir))


class Spool:
    """The queue, one object in each process that uses it, all over the same directory. Opened at first use."""

    def __init__(
        self,
        data_dir: str,
        map_size: int,
        published: Callable[[], None] = lambda: None,
        holds: Shared | None = None,
    ) -> None:
        self._holds = holds
        self._directory = os.path.join(data_dir, "queue")
        self._map_size = map_size
        self._published = published
        self._under_way = 0
        self._env: Environment | None = None
        self._opening = threading.Lock()
        self._queue: CommitQueue | None = None
        self._contents = Contents(self._directory, lambda: self.env, holds)
        self.facts = Facts(self)

    # ---------------------------------------------------------------- life

    @property
    def env(self) -> Environment:
        if self._env is None:
            with self._opening:  # a helper thread may be the first to ask
                if self._env is None:
                    env = open_queue(os.path.dirname(self._directory), self._map_size)
                    self._line_up(env)
                    self._env = env
        return self._env

    def _line_up(self, env: Environment) -> None:
        """Put the jobs of layout 1 into the table ``line``."""
        with env.read() as txn:
            if not txn.stat(env.db["ready"])["entries"]:
                return
        with env.write() as txn:
            for _, value in txn.cursor(db=env.db["job"]).iternext():
                job = read_job(value)
                if not job.paused:
                    txn.put(ready_key(job), b"", db=env.db["line"])
            txn.drop(env.db["ready"], delete=False)

    def _commits(self) -> CommitQueue:
        if self._queue is None:
            self._queue = CommitQueue(self.env, asyncio.get_running_loop(), lambda _: self._published(), "queue")
        return self._queue

    async def close(self) -> None:
        """Finish what was submitted, and close."""
        if self._queue is not None:
            await self._queue.close()
        self._contents.close()
        if self._env is not None:
            self._env.close()

    # ---------------------------------------------------------------- in

    def new_id(self) -> int:
        """Return a new id; ids grow with time. With the process's salt it is the id of the message's transaction."""
        return transaction.new_number()

    async def enqueue(
        self, outgoing: Outgoing, most: int = 0, domain_most: int = 0, charges: Sequence[Charge] = ()
    ) -> Item:
        """Keep it; durable when it returns. TooMuch when its login would have more than ``most`` recipients an hour, or
        all logins of its domain more than ``domain_most``, or more is sent than ``charges`` say. When it raises
        anything else, it may be there all the same: ``has`` knows, and doing it again does no harm."""
        jobs, apply = await self._place(outgoing, most, domain_most, charges)
        item: Item = await self._begin(apply, jobs, True)
        return item

    async def has(self, ident: int) -> bool:
        """Return True if the message with this id is in the queue. The question waits for all writes before it, so the
        answer is durable."""
        found: bool = await self.submit(lambda txn: txn.get(ITEM_KEY.pack(ident), db=self.env.db["item"]) is not None)
        return found

    def queued(self, ident: int) -> bool:
        """Return the same, from the last commit."""
        with self.env.read() as txn:
            return txn.get(ITEM_KEY.pack(ident), db=self.env.db["item"]) is not None

    def submit(self, apply: Callable[[Txn], Any]) -> "asyncio.Future[Any]":
        """Commit a change of rows. The future gets the result of ``apply`` once that is durable."""
        return self._begin(apply, [])

    def _begin(
        self, apply: Callable[[Txn], Any], writes: Sequence[PieceWrite], adds: bool = False
    ) -> "asyncio.Future[Any]":
        future = self._commits().submit(Operation(apply, writes, adds, self._done))
        self._under_way += 1
        return future

    def _done(self, _: Operation | None = None) -> None:
        """Called when an operation is committed or has failed, even if nobody waits for it any more: its files are in
        use until then."""
        self._under_way -= 1
        if not self._under_way:
            self._contents.release()

    async def _place(
        self, outgoing: Outgoing, most: int = 0, domain_most: int = 0, charges: Sequence[Charge] = ()
    ) -> tuple[list[PieceWrite], Callable[[Txn], Item]]:
        """The content's job, unless the store has it, and what writes the records."""
        item, groups = outgoing.item, outgoing.groups
        item.salt = item.salt or transaction.salt()
        pieces = [] if item.hold else [await self._contents.write(outgoing)]

        def apply(txn: Txn) -> Item:
            there = txn.get(ITEM_KEY.pack(item.id), db=self.env.db["item"])
            if there is not None:
                if read_item(there).salt != item.salt:
                    # the next attempt gets another number
                    raise StorageFailed(f"number {item.number} was given by two processes")
                return item  # it was committed before, but whoever enqueued it did not learn that
            recipients = sum(map(len, groups.values()))
            all_of_them = list(charges)
            if most and item.login:
                all_of_them.append(Charge(_rate_key(item.login), recipients, most))
            if domain_most and item.login:
                domain = "@" + item.login.rpartition("@")[2]
                all_of_them.append(Charge(_rate_key(domain), recipients, domain_most, who=domain))
            rates.take(txn, self.env.db["rate"], all_of_them, item.arrived)
            self._put(txn, item, groups)
            return item

        return pieces, apply

    def _put(self, txn: Txn, item: Item, groups: dict[str, list[Rcpt]]) -> None:
        db = self.env.db
        txn.put(ITEM_KEY.pack(item.id), item_row(item), db=db["item"])
        asked = item.options
        for number, (destination, recipients) in enumerate(_parts(item, groups)):
            job = Job(
                1, item.id, number, destination, recipients, asked.release or item.arrived, priority=asked.priority
            )
            txn.put(job.key, job_row(job), db=db["job"])
            txn.put(ready_key(job), b"", db=db["line"])
        self._contents.count(txn, item, 1)

    def over(self, charges: Sequence[Charge], now: float = 0.0) -> str:
        """Return why the limit does not allow so much now, by the rows of the last commit; empty if it does."""
        now = now or time.time()
        try:
            with self.env.read() as txn:
                for one in charges:
                    found = txn.get(one.key, db=self.env.db["rate"])
                    rates.check(bytes(found) if found is not None else None, one, now)
        except TooMuch as error:
            return str(error)
        return ""

    async def charge(self, charges: Sequence[Charge], now: float = 0.0) -> None:
        """Count what is sent without the queue; durable when it returns. TooMuch if that is above the limit; then
        nothing is counted."""
        now = now or time.time()
        await self.submit(lambda txn: rates.take(txn, self.env.db["rate"], charges, now))

    # ---------------------------------------------------------------- out

    async def change(
        self, key: bytes, change: Change, reports: Sequence[Outgoing] = (), most: int = 0, domain_most: int = 0
    ) -> list[int]:
        """Replace a job by the result of ``change`` (None: the job is done), and queue reports in the same commit.

        Returns the ids of the reports that are now in the queue. When the job is gone because somebody dropped it
        meanwhile, nothing changes and the reports are not queued. A report with a login is left out where that login or
        its domain would have more recipients than ``most`` or ``domain_most`` (see ``enqueue``)."""
        files: list[PieceWrite] = []
        puts: list[Callable[[Txn], Item]] = []

        def all_of_it(txn: Txn) -> list[int]:
            queued: list[int] = []
            if self._replace(txn, key, change):
                for put in puts:
                    with suppress(TooMuch):  # nothing of the report is written yet when this is raised
                        queued.append(put(txn).id)
            return queued

        self._under_way += 1  # keeps the segment open in which the reports get their places
        try:
            for report in reports:
                pieces, apply = await self._place(report, most, domain_most)
                files += pieces
                puts.append(apply)
            future = self._begin(all_of_it, files)
        finally:
            self._done()
        queued: list[int] = await future
        return queued

    def change_now(self, key: bytes, change: Change, wanted: bool = False) -> bool:
        """Do the same for a command, without reports. Returns False when the job does not exist. ``wanted``: the runner
        is to try the destination now, even if it could not be reached before."""
        with self.env.write() as txn:
            found = self._replace(txn, key, change)
            row = txn.get(key, db=self.env.db["job"])
            if wanted and row is not None:
                txn.put(WANTED + read_job(row).destination.encode()[:LONGEST_NAME], b"", db=self.env.db["policy"])
            return found

    def wanted(self) -> list[str]:
        """Return the destinations that an administrator wants tried now."""
        out = []
        with self.env.read() as txn:
            cursor = txn.cursor(db=self.env.db["policy"])
            if cursor.set_range(WANTED):
                for key in cursor.iternext(values=False):
                    if key[: len(WANTED)] != WANTED:
                        break
                    out.append(bytes(key[len(WANTED) :]).decode("utf-8", "surrogateescape"))
        return out

    async def heard(self, wanted: Sequence[str]) -> None:
        """Remove these from ``wanted``: the runner has seen them."""
        table = self.env.db["policy"]

        def apply(txn: Txn) -> None:
            for name in wanted:
                txn.delete(WANTED + name.encode("utf-8", "surrogateescape"), db=table)

        await self.submit(apply)

    def pull_in(self, longest: float) -> int:
        """Make jobs due now that wait longer than the longest wait between two attempts, as happens after the clock was
        set back; returns how many. Messages that their sender releases later keep their time (RFC 4865)."""
        now = time.time()
        late = [job.key for item, job in self.jobs() if job.due > now + longest and item.options.release <= now]

        def change(job: Job) -> Job:
            job.due = int(now)
            return job

        return sum(self.change_now(key, change) for key in late)

    def _replace(self, txn: Txn, key: bytes, change: Change) -> bool:
        db = self.env.db
        found = txn.get(key, db=db["job"])
        if found is None:
            return False
        old = read_job(found)
        if not old.paused:
            txn.delete(ready_key(old), db=db["line"])
        new = change(old)
        if new is not None:
            txn.put(key, job_row(new), db=db["job"])
            if not new.paused:
                txn.put(ready_key(new), b"", db=db["line"])
            return True
        txn.delete(key, db=db["job"])
        item = item_of(key)
        cursor = txn.cursor(db=db["job"])
        if not (cursor.set_range(item) and item_of(cursor.key()) == item):
            row = txn.pop(item, db=db["item"])
            if row is not None:
                self._contents.count(txn, read_item(row), -1)
        return True

    # ---------------------------------------------------------------- looking

    def destinations(self) -> dict[str, int]:
        """Return for each destination when its first job is due."""
        out: dict[str, int] = {}
        with self.env.read() as txn:
            cursor = txn.cursor(db=self.env.db["line"])
            more = cursor.first()
            while more:
                name, _, rest = bytes(cursor.key()).partition(b"\0")
                if len(rest) < RANKED:  # damaged: `fastmail check --repair` rebuilds the table line
                    more = cursor.set_range(bytes(cursor.key()) + b"\0")
                    continue
                text = name.decode("utf-8", "surrogateescape")
                priority, due = RANK.unpack_from(rest)
                out[text] = min(due, out.get(text, due))
                # go on at the next priority, or at the next destination
                more = cursor.set_range(_after(name + b"\0" + bytes([priority])))
        return out

    def due(self, destination: str, now: float, most: int, skip: Callable[[bytes], bool]) -> tuple[list[Job], int]:
        """Return (up to ``most`` jobs that are due, without those that ``skip`` names; time at which the next one is
        due, 0 for none)."""
        out: list[Job] = []
        later = 0
        prefix = destination.encode("utf-8", "surrogateescape")[:LONGEST_NAME] + b"\0"
        with self.env.read() as txn:
            cursor = txn.cursor(db=self.env.db["line"])
            more = cursor.set_range(prefix)
            while more and cursor.key()[: len(prefix)] == prefix:
                rank = bytes(cursor.key()[: len(prefix) + 1])  # up to the priority
                for at in cursor.iternext(values=False):
                    if at[: len(rank)] != rank:
                        break
                    key = bytes(at[-KEY.size :])
                    if len(at) != len(prefix) + RANKED or skip(key):
                        continue
                    due: int = RANK.unpack_from(at, len(prefix))[1]
                    if due <= now and len(out) >= most:
                        return out, due
                    if due > now:
                        later = min(due, later or due)
                        break
                    found = txn.get(key, db=self.env.db["job"])
                    try:
                        job = read_job(found or b"")
                        if job.paused or ready_key(job) != at:  # it would be found here again and again
                            raise CorruptData("a job stands in line where it does not belong")
                        out.append(job)
                    except CorruptData as error:
                        self._set_aside(bytes(at), key, error)
                more = cursor.set_range(_after(rank))
        return out, later

    def _set_aside(self, at: bytes, key: bytes, error: CorruptData) -> None:
        """Take a job that cannot be read out of the line; `fastmail check --repair` finds it."""
        log.event("queue.damaged", "error", id=number_of(KEY.unpack(key)[0]), error=error)
        line = self.env.db["line"]
        done = self.submit(lambda txn: txn.delete(at, db=line))
        done.add_done_callback(lambda done: done.cancelled() or done.exception())

    def waiting(self, destination: str, most: int) -> int:
        """Return how many jobs of a destination are in line, counting at most ``most``."""
        prefix = destination.encode()[:LONGEST_NAME] + b"\0"
        with self.env.read() as txn:
            cursor = txn.cursor(db=self.env.db["line"])
            found = 0
            if cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if found >= most or key[: len(prefix)] != prefix:
                        break
                    found += 1
            return found

    def item(self, ident: int) -> Item | None:
        with self.env.read() as txn:
            found = txn.get(ITEM_KEY.pack(ident), db=self.env.db["item"])
            return read_item(found) if found is not None else None

    def job(self, key: bytes) -> Job | None:
        with self.env.read() as txn:
            found = txn.get(key, db=self.env.db["job"])
            return read_job(found) if found is not None else None

    def jobs(self, ident: int | None = None) -> Iterator[tuple[Item, Job]]:
        """Yield every job with its message, or the jobs of one message, reading a window at a time."""
        at = ITEM_KEY.pack(ident) if ident is not None else b""
        while True:
            window: list[tuple[Item, Job]] = []
            more = False
            with self.env.read() as txn:
                cursor = txn.cursor(db=self.env.db["job"])
                if cursor.set_range(at):
                    for key, value in cursor.iternext():
                        if len(window) >= 500 or (ident is not None and item_of(key) != ITEM_KEY.pack(ident)):
                            break
                        row = txn.get(item_of(key), db=self.env.db["item"])
                        with suppress(CorruptData):
                            window.append((read_item(row or b""), read_job(value)))
                        at = bytes(key) + b"\0"
                        more = True
            yield from window
            if not more:
                return

    def depth(self) -> tuple[int, int]:
        """Return (messages, jobs) in the queue."""
        with self.env.read() as txn:
            return txn.stat(self.env.db["item"])["entries"], txn.stat(self.env.db["job"])["entries"]

    async def content(self, item: Item) -> bytes:
        """Return the message with LF, checked. CorruptData when it is damaged or missing."""
        return await self._contents.read(item)

    # ---------------------------------------------------------------- order

    async def let_go(self) -> int:
        """Give back the store's holds of messages that are not in the queue any more; returns how many. A message gets
        its hold before it is queued, so young holds are kept."""
        if self._holds is None:
            return 0
        over = await asyncio.get_running_loop().run_in_executor(None, self._left_over, self._holds)
        if over:
            await self._holds.let_go(over)
        return len(over)

    def _left_over(self, store: Shared) -> list[int]:
        young = int((time.time() - YOUNG) * 1e6) << 12
        return [ident for ident in store.holders() if ident < young and self.item(ident) is None]

    def sweep(self) -> int:
        """Remove segments that nothing refers to and nobody writes to; returns how many."""
        return self._contents.sweep()
