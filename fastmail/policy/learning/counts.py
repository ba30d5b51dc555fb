"""What was learned: for each account, and for everybody together, how many messages were called spam and how many ham
(mail that is no spam), and how often each word was in either. An LMDB environment of its own, ``learned`` below the
data directory.

Promise: a message counts once for an owner, by its digest, and taking it back leaves the counts as they were. Lessons
of one call are one commit, durable when it returns. Words are kept as keyed hashes, so the file tells no text. It is
bounded: beyond ``most`` words of an owner the rarest go, of these the oldest first; beyond KNOWN messages the oldest
are no longer known by their digests (their words still count). A word that went and came again has counts that are too
low; none goes below zero. All methods but ``state`` wait for the disk: call them from helper threads.

    word   owner(8, big-endian) hash(8)      <IIH  messages with it: spam, ham; day when it was last learned
    owner  owner(8)                          <BIIII  version, messages: spam, ham; words; known messages
    known  owner(8) digest(16)               <BH  what it was called (1 spam, 2 ham); day
    meta   word.key                          32 octets: key of the hashes

Owner 0 is everybody. Days count from 2020. A change of these rows, or of how words are found (policy.learning.words),
is a new layout of the environment, which an older fastmail does not open.
"""

import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from fastmail.durable.env import Environment
from fastmail.durable.transaction import Reading, Txn
from fastmail.policy.learning import chance
from fastmail.policy.learning.words import Words

LAYOUT = 1
TABLES = ["word", "owner", "known"]
MAP = 64 << 30  # address space, not disk
EVERYBODY = 0
SPAM, HAM = 1, 2
MOST = 200_000  # words of an owner
KNOWN = 100_000  # messages of an owner
LEAST = 200  # messages of each kind before anything is said
KEPT = 7, 8  # part that is left when something has to go, so that it goes seldom
HASH = 8
VERSION = 1
_FIRST_DAY = 18262  # 2020-01-01, in days since 1970
_KEY = b"word.key"
_OWNER = struct.Struct(">Q")
_WORD = struct.Struct("<IIH")
_TOTALS = struct.Struct("<BIIII")
_KNOWN = struct.Struct("<BH")
Done = Literal["learned", "known", "taken back"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A message and what it is called: ``kind`` is SPAM, HAM, or 0 to take back what was learned of it. ``undo``: where
    it was called the other thing, that is taken back and nothing learned, as somebody does who made a mistake."""

    owner: int
    words: Words
    kind: int
    undo: bool = False


@dataclass(slots=True)
class Totals:
    """What is known of an owner."""

    spam: int = 0
    ham: int = 0
    words: int = 0
    known: int = 0

    def enough(self, least: int) -> bool:
        """Are there so many messages of each kind?"""
        return min(self.spam, self.ham) >= least


@dataclass(frozen=True, slots=True)
class Said:
    """``chance`` that a message is spam, by how many words (``clues``); ``own``: by what its owner taught."""

    chance: float
    clues: int
    own: bool


def _today() -> int:
    return max(0, int(time.time() // 86400) - _FIRST_DAY) & 0xFFFF


class Learned:
    """One in each process, over the same file."""

    def __init__(self, data_dir: str, most: int = MOST, least: int = LEAST, known: int = KNOWN) -> None:
        self.path = os.path.join(data_dir, "learned")
        self._most, self._least, self._most_known = most, least, known
        self._env: Environment | None = None
        self._hash = b""
        self._lock = threading.Condition()  # of what is above and below
        self._users = 0  # threads that are at work

    @property
    def env(self) -> Environment:
        with self._lock:
            if self._env is None:
                os.makedirs(self.path, mode=0o700, exist_ok=True)
                env = Environment(self.path, TABLES, LAYOUT, MAP)
                with env.write() as txn:
                    txn.put(_KEY, os.urandom(32), db=env.db["meta"], overwrite=False)
                    self._hash = bytes(txn.get(_KEY, db=env.db["meta"]))
                self._env = env
            return self._env

    @contextmanager
    def _opened(self) -> Iterator[Environment]:
        """It is not closed meanwhile."""
        with self._lock:
            env = self.env
            self._users += 1
        try:
            yield env
        finally:
            with self._lock:
                self._users -= 1
                self._lock.notify_all()

    @property
    def there(self) -> bool:
        """Was anything ever learned here? Opens nothing."""
        return self._env is not None or os.path.exists(os.path.join(self.path, "data.mdb"))

    def state(self) -> int:
        """Return a number that is another one after each lesson; 0 while nothing is open here. For the event loop: it
        waits for nothing, because the page that it looks at is always in memory."""
        env = self._env
        return env.last_commit() if env is not None else 0

    def close(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._users)
            if self._env is not None:
                self._env.close()
                self._env = None

    # ---------------------------------------------------------------- teaching

    def teach(self, lessons: Sequence[Lesson]) -> list[Done]:
        """Learn all of these, or take them back; what became of each."""
        out, totals = list[Done](), dict[int, Totals]()
        with self._opened() as env, env.write() as txn:
            for lesson in lessons:
                if lesson.owner not in totals:
                    totals[lesson.owner] = self._totals(txn, lesson.owner)
                out.append(self._teach(txn, lesson, totals[lesson.owner]))
            for owner, one in totals.items():
                self._shrink(txn, owner, one)
                row = _TOTALS.pack(VERSION, one.spam, one.ham, one.words, one.known)
                txn.put(_OWNER.pack(owner), row, db=env.db["owner"])
        return out

    def _teach(self, txn: Txn, lesson: Lesson, totals: Totals) -> Done:
        table, key = self.env.db["known"], _OWNER.pack(lesson.owner) + lesson.words.digest
        row = txn.get(key, db=table)
        before = _KNOWN.unpack(row)[0] if row is not None else 0
        if before == lesson.kind:
            return "known"
        if before:
            self._count(txn, lesson, before, totals, -1)
            txn.delete(key, db=table)
            totals.known -= 1
            if not lesson.kind or lesson.undo:
                return "taken back"
        self._count(txn, lesson, lesson.kind, totals, 1)
        txn.put(key, _KNOWN.pack(lesson.kind, _today()), db=table)
        totals.known += 1
        return "learned"

    def _count(self, txn: Txn, lesson: Lesson, kind: int, totals: Totals, by: int) -> None:
        """One message more, or less."""
        if kind == SPAM:
            totals.spam = max(0, totals.spam + by)
        else:
            totals.ham = max(0, totals.ham + by)
        table, today = self.env.db["word"], _today()
        for key in self._keys(lesson.owner, lesson.words):
            row = txn.get(key, db=table)
            spam, ham, day = _WORD.unpack(row) if row is not None else (0, 0, today)
            spam = max(0, spam + by) if kind == SPAM else spam
            ham = max(0, ham + by) if kind == HAM else ham
            if spam or ham:
                txn.put(key, _WORD.pack(spam, ham, today if by > 0 else day), db=table)
            elif row is not None:
                txn.delete(key, db=table)
            totals.words += (row is None and bool(spam or ham)) - (row is not None and not (spam or ham))

    def _shrink(self, txn: Txn, owner: int, totals: Totals) -> None:
        """Let the rarest words and the oldest messages go where there are too many."""
        if totals.words > self._most:
            rows = sorted((min(s + o, 255), day, key) for key, (s, o, day) in self._rows(txn, "word", owner, _WORD))
            totals.words = self._keep(txn, "word", [row[-1] for row in rows], self._most)
        if totals.known > self._most_known:
            old = sorted((day, key) for key, (_, day) in self._rows(txn, "known", owner, _KNOWN))
            totals.known = self._keep(txn, "known", [row[-1] for row in old], self._most_known)

    def _keep(self, txn: Txn, table: str, keys: list[bytes], most: int) -> int:
        """Delete from the front; how many stay."""
        stay = min(len(keys), most * KEPT[0] // KEPT[1])
        for key in keys[: len(keys) - stay]:
            txn.delete(key, db=self.env.db[table])
        return stay

    def _rows(self, txn: Txn, table: str, owner: int, form: struct.Struct) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        prefix = _OWNER.pack(owner)
        cursor = txn.cursor(db=self.env.db[table])
        if cursor.set_range(prefix):
            for key, value in cursor.iternext():
                if bytes(key[: len(prefix)]) != prefix:
                    return
                yield bytes(key), form.unpack(value)

    def forget(self, owner: int) -> None:
        """Everything of an owner."""
        with self._opened() as env, env.write() as txn:
            for table in ("word", "known"):
                form = _WORD if table == "word" else _KNOWN
                for key in [key for key, _ in self._rows(txn, table, owner, form)]:
                    txn.delete(key, db=env.db[table])
            txn.delete(_OWNER.pack(owner), db=env.db["owner"])

    # ---------------------------------------------------------------- asking

    def owners(self) -> list[int]:
        """Who taught anything, everybody (0) among them."""
        with self._opened() as env, env.read() as txn:
            keys = txn.cursor(db=env.db["owner"]).iternext(values=False)
            return [int(_OWNER.unpack(key)[0]) for key in keys]

    def totals(self, owner: int) -> Totals:
        """What is known of an owner."""
        with self._opened() as env, env.read() as txn:
            return self._totals(txn, owner)

    def _totals(self, txn: Reading, owner: int) -> Totals:
        row = txn.get(_OWNER.pack(owner), db=self.env.db["owner"])
        return Totals(*_TOTALS.unpack(row)[1:]) if row is not None else Totals()

    def knows(self, owner: int) -> bool:
        """Was so much taught, by the owner or by everybody, that ``ask`` says something?"""
        with self._opened() as env, env.read() as txn:
            return any(self._totals(txn, one).enough(self._least) for one in (owner, EVERYBODY))

    def ask(self, owner: int, words: Words) -> Said | None:
        """How much a message looks like spam to an owner: by what the owner taught where that is enough, or else by
        what everybody did; None where neither is."""
        with self._opened() as env, env.read() as txn:
            for one in dict.fromkeys((owner, EVERYBODY)):
                totals = self._totals(txn, one)
                if totals.enough(self._least):
                    cursor = txn.cursor(db=env.db["word"])
                    rows = [_WORD.unpack(value) for _, value in cursor.getmulti(self._keys(one, words))]
                    told = (chance.of_word(spam, ham, totals.spam, totals.ham) for spam, ham, _ in rows)
                    found = chance.clues(told)
                    return Said(chance.combined(found), len(found), one != EVERYBODY)
        return None

    def _keys(self, owner: int, words: Words) -> list[bytes]:
        """Of the rows of these words, in order."""
        prefix, key = _OWNER.pack(owner), self._hash
        names = (word.encode("utf-8", "surrogatepass") for word in words.words)
        return sorted(prefix + blake2b(name, digest_size=HASH, key=key).digest() for name in names)
