"""Clients that work on one mailbox at the same time (RFC 3501 7.4.1, 7162), for the model in mailbox_model.

A member believes only what it is told: EXISTS, EXPUNGE, VANISHED and FETCH, in order. It checks each answer against
the model, and at a checkpoint the model against all that it believes.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.mailbox_model import DELETED, SYSTEM, Message, Model, keyword

Send = Callable[[bytes], Awaitable[bytes]]  # a command with CRLF; everything that came back, up to its tagged reply
LINE = re.compile(rb"\* (\d+|VANISHED) (EXISTS|EXPUNGE|RECENT|FETCH|\(EARLIER\) [\d:,]+|[\d:,]+)(?: \(([^\r]*))?\r\n")
TEXT = b"Subject: x\r\n\r\nbody\r\n"
KINDS = ("plain", "condstore", "qresync", "rev2")


def uid_set(text: bytes) -> set[int]:
    """``1:3,7`` expanded."""
    out: set[int] = set()
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        out |= set(range(int(low), int(high or low) + 1))
    return out


def _flags(text: bytes) -> frozenset[bytes]:
    return frozenset(text.split()) - {b"\\Recent"}


@dataclass(slots=True)
class Seen:
    """What a client believes of one message; uid 0 until it is told."""

    uid: int = 0
    flags: frozenset[bytes] | None = None
    modseq: int = 0


@dataclass(slots=True)
class Member:
    """One client. ``kind``: what it enabled; ``careful``: it removes by UID EXPUNGE only."""

    number: int
    kind: str
    send: Send
    model: Model
    rng: random.Random
    careful: bool = False
    login: bytes = b"LOGIN user@example.test secret"
    view: list[Seen] = field(default_factory=list)
    modseq: int = 0  # HIGHESTMODSEQ up to which the view is complete
    forbidden: bool = False  # may this command's answer not tell of EXPUNGE?
    told: dict[int, tuple[frozenset[bytes] | None, int]] = field(default_factory=dict)  # flags and MODSEQ, by UID

    @property
    def _resyncs(self) -> bool:
        return self.kind == "qresync"

    # ---------------------------------------------------------------- commands and what they bring

    async def run(self, command: bytes, numbers: bool = False) -> bytes:
        """A command that must succeed. ``numbers``: it names messages by number, so none may go (RFC 3501 7.4.1)."""
        tag = b"m%d" % self.number
        self.forbidden = numbers
        self.told = {}
        answer = await self.send(tag + b" " + command + b"\r\n")
        assert re.search(rb"(?:^|\r\n)" + tag + rb" OK", answer), (command, answer)
        for match in LINE.finditer(answer):
            self._take(match)
        return answer

    def _take(self, match: re.Match[bytes]) -> None:
        if match.group(1) == b"VANISHED":
            assert self._resyncs and not self.forbidden
            gone = uid_set(match.group(2).rpartition(b" ")[2])
            for one in self.view:
                if one.uid in gone:
                    self.model.vanished(one.uid)
                    gone.discard(one.uid)
                    one.uid = -1
            self.view = [one for one in self.view if one.uid >= 0]
            for uid in sorted(gone):
                self._drop_unknown(uid)
            return
        number, kind, items = int(match.group(1)), match.group(2), match.group(3) or b""
        if kind == b"EXISTS":
            assert number >= len(self.view), "EXISTS may not shrink"
            self.view += [Seen() for _ in range(number - len(self.view))]
        elif kind == b"EXPUNGE":
            assert not self._resyncs and not self.forbidden, "EXPUNGE where it may not be told"
            one = self.view.pop(number - 1)
            if one.uid:
                self.model.vanished(one.uid)
        elif kind == b"FETCH":
            assert 1 <= number <= len(self.view), f"FETCH of message {number} of {len(self.view)}"
            self._fetched(self.view[number - 1], items)

    def _drop_unknown(self, uid: int) -> None:
        """A message is gone whose UID this client never learned: one without a UID, behind all that are lower."""
        at = max((at for at, one in enumerate(self.view) if 0 < one.uid < uid), default=-1) + 1
        assert at < len(self.view) and not self.view[at].uid, f"UID {uid} was never there"
        del self.view[at]

    def _fetched(self, one: Seen, items: bytes) -> None:
        uid, flags, modseq = (
            re.search(what, items) for what in (rb"UID (\d+)", rb"FLAGS \(([^)]*)\)", rb"MODSEQ \((\d+)")
        )
        if uid is not None:
            assert one.uid in (0, int(uid[1])), "a sequence number changed its message"
            one.uid = int(uid[1])
        if flags is not None:
            one.flags = _flags(flags[1])
            if one.uid:
                self.model.observe(one.uid, one.flags, int(modseq[1]) if modseq is not None else None)
        if modseq is not None:
            assert int(modseq[1]) >= one.modseq, f"UID {one.uid}: told of an older state after a newer one"
            one.modseq = int(modseq[1])
        if one.uid:
            self.told[one.uid] = (one.flags if flags is not None else None, one.modseq)

    async def begin(self) -> None:
        await self.run(self.login)
        enabled = {
            "condstore": b"ENABLE CONDSTORE",
            "qresync": b"ENABLE QRESYNC",
            "rev2": b"ENABLE IMAP4rev2 CONDSTORE",
        }
        if self.kind in enabled:
            await self.run(enabled[self.kind])
        answer = await self.run(b"SELECT INBOX")
        self._opened(answer)
        await self.learn()

    def _opened(self, answer: bytes) -> None:
        validity = re.search(rb"UIDVALIDITY (\d+)", answer)
        assert validity is not None
        self._complete(answer)
        self.model.uidvalidity = self.model.uidvalidity or int(validity[1])
        assert int(validity[1]) == self.model.uidvalidity, "UIDVALIDITY changed"

    async def learn(self) -> None:
        """Ask for what is not known yet."""
        while any(not one.uid or one.flags is None for one in self.view):
            await self.run(b"UID FETCH 1:* (FLAGS" + (b" MODSEQ)" if self.kind != "plain" else b")"))

    # ---------------------------------------------------------------- what it does

    async def work(self, steps: int) -> None:
        for _ in range(steps):
            action = self.rng.choices(list(self._actions()), list(self._actions().values()))[0]
            await action(self)
            await self.learn()

    @staticmethod
    def _actions() -> "dict[Callable[[Member], Awaitable[None]], int]":
        return {
            Member.append: 5, Member.keyword_on_shared: 6, Member.system_flag: 6, Member.replace: 3, Member.delete: 4,
            Member.conditional: 3, Member.copy: 2, Member.move: 1, Member.search: 2, Member.leave: 2, Member.noop: 2,
        }  # fmt: skip

    def _mine(self, private: bool | None = None) -> Message | None:
        """A message of its own that is there for sure and that it sees."""
        here = {one.uid for one in self.view}
        mine = [m for m in self.model.messages.values() if m.owner == self.number and not m.marked and not m.gone]
        mine = [m for m in mine if m.uid in here and private in (None, m.private)]
        return self.rng.choice(mine) if mine else None

    def _number(self, uid: int) -> int:
        return next(at for at, one in enumerate(self.view, 1) if one.uid == uid)

    async def noop(self) -> None:
        await self.run(self.rng.choice([b"NOOP", b"CHECK"]))

    async def append(self) -> None:
        flags = {flag for flag in SYSTEM[:3] if self.rng.random() < 0.3}
        private = self.rng.random() < 0.6
        if private and self.rng.random() < 0.3:
            flags.add(b"$Mine")
        answer = await self.run(b"APPEND INBOX (%b) {%d+}\r\n%b" % (b" ".join(sorted(flags)), len(TEXT), TEXT))
        found = re.search(rb"APPENDUID (\d+) (\d+)\]", answer)
        assert found is not None and int(found[1]) == self.model.uidvalidity
        self.model.appended(int(found[2]), self.number, private, flags)

    async def keyword_on_shared(self) -> None:
        """Its own keyword on anybody's shared message, by UID or by number."""
        here = {one.uid for one in self.view}
        shared = [m for m in self.model.messages.values() if not m.private and m.uid in here and not m.marked]
        if shared:
            await self._store(self.rng.choice(shared), {keyword(self.number)}, self.rng.random() < 0.6)

    async def system_flag(self) -> None:
        message = self._mine()
        if message is not None:
            await self._store(message, {self.rng.choice(SYSTEM[:3])}, self.rng.random() < 0.6)

    async def _store(self, message: Message, flags: set[bytes], on: bool, silent: bool | None = None) -> None:
        """+FLAGS or -FLAGS; the answer has to say what became of it."""
        if all(one.uid != message.uid for one in self.view):
            return  # somebody's EXPUNGE took it, and this client was told
        add, remove = (flags, set[bytes]()) if on else (set[bytes](), flags)
        silent = self.rng.random() < 0.3 if silent is None else silent
        by_uid = self.rng.random() < 0.6
        self.model.begin_change(message, add, remove)
        verb = (b"+" if on else b"-") + b"FLAGS" + (b".SILENT" if silent else b"")
        where = b"UID STORE %d " % message.uid if by_uid else b"STORE %d " % self._number(message.uid)
        answer = await self.run(where + verb + b" (" + b" ".join(sorted(flags)) + b")", not by_uid)
        shown = next((one for one in self.view if one.uid == message.uid), None)
        if silent and shown is not None and shown.flags is not None:
            shown.flags = (shown.flags | add) - remove
        elif silent:
            assert shown is None, "a part of the view without flags"  # told that it is gone, in the same answer
        elif message.uid in self.told:
            now = self.told[message.uid][0]
            assert now is not None and add <= now and not remove & now, (where, verb, answer)
        else:
            assert message.may_go, f"STORE of UID {message.uid} was answered without its flags: {answer!r}"
        changed = not add <= message.flags or bool(remove & message.flags)
        self.model.end_change(message, add, remove, message.uid in self.told)
        self._exact(message, answer, changed)

    def _exact(self, message: Message, answer: bytes, changed: bool) -> None:
        """A private message: its flags are those that its owner gave it, and MODSEQ grows with each change only."""
        if not message.private or self.kind == "plain":
            return
        flags, modseq = self.told.get(message.uid, (None, 0))
        if not modseq:
            assert not changed or message.may_go, f"UID {message.uid} was changed without MODSEQ: {answer!r}"
            return
        assert flags is None or flags == message.flags, (message, answer)
        if message.modseq:
            assert (modseq > message.modseq) if changed else (modseq == message.modseq), (message, changed, answer)
        message.modseq = modseq

    async def replace(self) -> None:
        """FLAGS on a private message: nothing but these stays."""
        message = self._mine(private=True)
        if message is None:
            return
        wanted = {flag for flag in (*SYSTEM[:3], b"$Mine") if self.rng.random() < 0.4}
        add, remove = wanted - message.flags, message.flags - wanted
        self.model.begin_change(message, add, remove)
        answer = await self.run(b"UID STORE %d FLAGS (%b)" % (message.uid, b" ".join(sorted(wanted))))
        self.model.end_change(message, add, remove, True)
        shown = self.view[self._number(message.uid) - 1]
        assert shown.flags == wanted, (wanted, answer)  # type: ignore[comparison-overlap]
        self._exact(message, answer, bool(add or remove))

    async def conditional(self) -> None:
        """UNCHANGEDSINCE (RFC 7162 3.1.3): with the MODSEQ that it knows, and with an older one."""
        message = self._mine(private=True)
        if message is None or self.kind == "plain" or not message.modseq:
            return
        flag = self.rng.choice(SYSTEM[:3])
        late = self.rng.random() < 0.4
        since = message.modseq - late
        add = set[bytes]() if late else {flag}
        self.model.begin_change(message, add, set())
        answer = await self.run(b"UID STORE %d (UNCHANGEDSINCE %d) +FLAGS (%b)" % (message.uid, since, flag))
        assert (b"[MODIFIED %d]" % message.uid in answer) == late, (message, since, answer)
        changed = not late and flag not in message.flags
        self.model.end_change(message, add, set(), True)
        self._exact(message, answer, changed)

    async def delete(self) -> None:
        """Mark, now and then think again, and remove."""
        message = self._mine()
        if message is None:
            return
        await self._store(message, {DELETED}, True, silent=self.rng.random() < 0.5)
        if self.rng.random() < 0.3:
            await self._store(message, {DELETED}, False, silent=False)
            if message.may_go:
                await self.run(b"NOOP")
            return
        plain = not self.careful and self.rng.random() < 0.5
        scope = self.model.begin_expunge(None if plain else {message.uid})
        answer = await self.run(b"EXPUNGE" if plain else b"UID EXPUNGE %d" % message.uid)
        self.model.end_expunge(scope, self.number)
        assert all(one.uid != message.uid for one in self.view), f"UID {message.uid} is still there: {answer!r}"

    async def copy(self) -> None:
        """A private message: the copy has its flags."""
        message = self._mine(private=True)
        if message is None:
            return
        answer = await self.run(b"UID COPY %d INBOX" % message.uid)
        found = re.search(rb"COPYUID (\d+) (\d+) (\d+)\]", answer)
        assert found is not None and int(found[2]) == message.uid, answer
        self.model.appended(int(found[3]), self.number, True, message.flags)

    async def move(self) -> None:
        message = self._mine(private=True)
        if message is None:
            return
        message.marked = True  # the removal is its own
        scope = self.model.begin_expunge({message.uid})
        await self.run(b"UID MOVE %d Archive" % message.uid)
        self.model.scopes.remove(scope)
        message.gone = True
        assert all(one.uid != message.uid for one in self.view)

    async def search(self) -> None:
        """Its own keyword: exactly where it put it, of those that are there for sure."""
        answer = await self.run(b"UID SEARCH KEYWORD " + keyword(self.number))
        listed = re.search(rb"\* SEARCH([ \d]*)|UID ALL ([\d:,]+)", answer)
        found = set(map(int, (listed[1] or b"").split())) if listed and listed[1] is not None else set()
        found |= uid_set(listed[2]) if listed and listed[2] else set()
        have = {m.uid for m in self.model.messages.values() if keyword(self.number) in m.flags}
        sure = {m.uid for m in self.model.messages.values() if not m.marked and not m.gone}
        assert found <= have and have & sure & {one.uid for one in self.view} <= found, (found, have)

    async def leave(self) -> None:
        """Go, and come back with what it knew (RFC 7162 3.2.5)."""
        if not self._resyncs:
            return
        await self.run(b"NOOP")
        await self.learn()
        # behind a NOOP or a UID FETCH everything was told, up to the highest MODSEQ that was told (RFC 7162 3.1, 6)
        modseq = max([self.modseq, *(one.modseq for one in self.view)])
        await self.run(b"UNSELECT")
        before, self.view = {one.uid: one.flags for one in self.view}, []
        await asyncio.sleep(self.rng.random() * 0.02)
        await self._return(before, modseq)

    async def _return(self, before: dict[int, frozenset[bytes] | None], modseq: int) -> None:
        answer = await self.send(
            b"m%d SELECT INBOX (QRESYNC (%d %d))\r\n" % (self.number, self.model.uidvalidity, modseq)
        )
        assert b"m%d OK [READ-WRITE]" % self.number in answer, answer
        self._opened(answer)
        merged = merge(self.model, before, answer)
        exists = re.search(rb"\* (\d+) EXISTS", answer)
        assert exists is not None and int(exists[1]) == len(merged), (merged, answer)
        self.view = [Seen(uid, flags) for uid, flags in sorted(merged.items())]
        self._complete(answer)

    # ---------------------------------------------------------------- checkpoints

    async def checkpoint(self, truth: dict[int, frozenset[bytes]]) -> None:
        """Nobody works: what this client believes is what is there."""
        await self.run(b"NOOP")
        await self.learn()
        believed = {one.uid: one.flags for one in self.view}
        assert believed == truth, difference(truth, believed)
        self._complete(await self.run(b"STATUS INBOX (HIGHESTMODSEQ)") if self.kind != "plain" else b"")

    def _complete(self, answer: bytes) -> None:
        """The view is complete up to the HIGHESTMODSEQ that this answer tells."""
        found = re.search(rb"HIGHESTMODSEQ (\d+)", answer)
        self.modseq = int(found[1]) if found is not None else 0


def merge(
    model: Model, before: dict[int, frozenset[bytes] | None], answer: bytes
) -> dict[int, frozenset[bytes] | None]:
    """What a client knew, with VANISHED (EARLIER) and FETCH of an answer applied (RFC 7162 3.2.5, 3.2.6)."""
    gone: set[int] = set()
    for match in re.finditer(rb"\* VANISHED \(EARLIER\) ([\d:,]+)", answer):
        gone |= uid_set(match[1])
    for uid in gone & before.keys():
        model.vanished(uid)
    merged = {uid: flags for uid, flags in before.items() if uid not in gone}
    for match in re.finditer(rb"FETCH \(UID (\d+) FLAGS \(([^)]*)\) MODSEQ \((\d+)\)", answer):
        merged[int(match[1])] = _flags(match[2])
        model.observe(int(match[1]), _flags(match[2]), int(match[3]))
    return merged


def difference(truth: dict[int, frozenset[bytes]], believed: dict[int, frozenset[bytes] | None]) -> str:
    """For a person who has to find out."""
    lines = [f"UID {uid}: is {truth.get(uid)}, believed {believed.get(uid)}"
             for uid in sorted(truth.keys() | believed.keys()) if truth.get(uid) != believed.get(uid)]  # fmt: skip
    return "\n".join(lines)


# -------------------------------------------------------------------- all of them


@dataclass(slots=True)
class Group:
    """Members on one mailbox. ``connect`` opens a new session and logs it in."""

    members: list[Member]
    model: Model
    connect: Callable[[], Awaitable[Send]]
    before: dict[int, frozenset[bytes] | None] = field(default_factory=dict)
    modseq: int = 1

    async def live(self, rounds: int, steps: int) -> None:
        """Work side by side, and stop for a checkpoint after each round."""
        for member in self.members:
            await member.begin()
        for _ in range(rounds):
            await asyncio.gather(*(member.work(steps) for member in self.members))
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        """What a new session sees is what the model says; so is what everybody believes, and what a client that was
        away since the last checkpoint is told."""
        send = await self.connect()
        await send(b"p1 ENABLE QRESYNC\r\n")
        opened = await send(b"p2 SELECT INBOX\r\n")
        fetched = await send(b"p3 UID FETCH 1:* (FLAGS MODSEQ)\r\n")
        there = merge(self.model, {}, fetched)
        truth = self.model.truth(there)
        assert there == truth, difference(truth, there)
        status = await send(b"p4 STATUS INBOX (MESSAGES UNSEEN DELETED UIDNEXT UIDVALIDITY HIGHESTMODSEQ)\r\n")
        items = {name: int(value) for name, value in re.findall(rb"([A-Z]+) (\d+)", status)}
        assert items[b"MESSAGES"] == len(truth) and b"* %d EXISTS" % len(truth) in opened
        assert items[b"UNSEEN"] == sum(b"\\Seen" not in flags for flags in truth.values())
        assert items[b"DELETED"] == sum(DELETED in flags for flags in truth.values())
        assert items[b"UIDNEXT"] > max(self.model.messages) and items[b"UIDVALIDITY"] == self.model.uidvalidity
        assert items[b"HIGHESTMODSEQ"] >= self.model.highest
        since = await send(b"p5 UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d VANISHED)\r\n" % self.modseq)
        changed = merge(self.model, self.before, since)
        assert changed == truth, "since the last checkpoint: " + difference(truth, changed)
        self.before, self.modseq = dict(truth), items[b"HIGHESTMODSEQ"]
        await send(b"p6 LOGOUT\r\n")
        for member in self.members:
            await member.checkpoint(truth)


def group(sends: list[Send], connect: Callable[[], Awaitable[Send]], seed: int, login: bytes, careful: bool) -> Group:
    """One member for each connection, of the kinds in turn."""
    model = Model()
    members = [
        Member(n, KINDS[n % len(KINDS)], send, model, random.Random(f"{seed} {n}"), careful, login)
        for n, send in enumerate(sends)
    ]
    return Group(members, model, connect)
