"""Reading the store in memory: a snapshot reads the live lists, as nothing else runs while a snapshot is open."""

from collections.abc import Iterator

from msgspec import structs

from fastmail._core import mime, pages, rows
from fastmail._core.uidset import UidSet
from fastmail.model.flags import DELETED, SEEN
from fastmail.model.keys import account_key, uid_key
from fastmail.store.interface import AccountChange, Holding, Kind, Mailbox, Octets, Unsure, counts
from fastmail.store.memory.state import Message, State

SPAN = 32  # UIDs of a page


class MemorySnapshot:
    """Reads the live lists: nothing else runs while a snapshot is open."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._recalled = UidSet()

    def modseq(self, key: bytes) -> int:
        box = self._state.boxes.get(key)
        return box.row.modseq if box is not None else 0

    def recall(self, key: bytes, uids: UidSet) -> None:
        self._recalled = uids

    def _messages(self, key: bytes) -> list[Message]:
        """The messages in UID order, including recalled ones."""
        box = self._state.boxes[key]
        again = (box.read(uid) for uid in self._recalled)
        return sorted({m.uid: m for m in [*box.messages, *filter(None, again)]}.values(), key=lambda m: m.uid)

    def mailbox(self, key: bytes) -> Mailbox | None:
        box = self._state.boxes.get(key)
        if box is None:
            return None
        return structs.replace(
            box.row,
            exists=len(box.messages),
            unseen=sum(1 for m in box.messages if not m.flags & SEEN),
            deleted=sum(1 for m in box.messages if m.flags & DELETED),
            octets=sum(m.size for m in box.messages),
        )

    def boxes(self, account: int) -> list[Mailbox]:
        prefix = account_key(account)
        found = [self.mailbox(key) for key in sorted(self._state.boxes) if key.startswith(prefix)]
        return [box for box in found if box is not None]

    def holding(self, account: int) -> Holding:
        prefix = account_key(account)
        boxes = [box for key, box in self._state.boxes.items() if key.startswith(prefix)]
        messages = [m for box in boxes for m in box.messages]
        notes = (one for key, found in self._state.notes.items() if key.startswith(prefix) for one in found.items())
        kept = sum(mime.counted(m.summary) for m in messages)
        kept += sum(len(name) + len(value) for name, value in notes if counts(name))
        modseq = self._state.log(account).modseq
        return Holding(modseq, sum(m.size for m in messages), len(messages), len(boxes), kept, 0)

    def changes(self, account: int, since: int) -> list[AccountChange] | None:
        found: list[AccountChange] = []
        told = set()
        for one in reversed([one for one in self._state.log(account).changes if one.modseq > since]):
            if one.kind is not Kind.CHANGED or (one.key, one.uid) not in told:
                found.append(one)
            if one.kind is Kind.CHANGED:
                told.add((one.key, one.uid))
        return found[::-1]

    def places(self, account: int, email: bytes) -> list[tuple[bytes, int]] | None:
        return [(key, m.uid) for key, m in self._state.messages(account) if m.ident.email == email]

    def members(self, account: int, thread: bytes) -> list[tuple[bytes, int]] | None:
        return [(key, m.uid) for key, m in self._state.messages(account) if m.ident.thread == thread]

    def notes(self, key: bytes) -> dict[bytes, bytes]:
        return dict(self._state.notes.get(key, {}))

    def note(self, key: bytes, name: bytes) -> bytes | None:
        return self._state.notes.get(key, {}).get(name)

    def _pages(self, messages: list[Message]) -> Iterator[tuple[int, bytes]]:
        made: dict[int, bytes | None] = {}
        for m in messages:
            base = m.uid - m.uid % SPAN
            made[base] = pages.extend(
                made.get(base), pages.pack(m.uid, m.flags, m.modseq, m.keywords, m.date, m.size, m.saved)
            )
        for base, page in made.items():
            assert page is not None
            yield base, page

    def pages(self, key: bytes, uids: UidSet | None = None) -> Iterator[Octets]:
        messages = self._messages(key)
        if uids is not None:
            bases = {m.uid - m.uid % SPAN for m in messages}
            wanted = {base for base in bases if uids.both(UidSet.of_ranges((base or 1, base + SPAN - 1)))}
            messages = [m for m in messages if m.uid - m.uid % SPAN in wanted]
        for _, page in self._pages(messages):
            yield page

    def presence(self, key: bytes, above: int = 0) -> Iterator[tuple[int, int]]:
        for base, page in self._pages(self._state.boxes[key].messages):
            if base + SPAN > above:
                yield base, pages.presence(page)

    def summaries(self, key: bytes, uids: UidSet) -> dict[int, Octets]:
        return {m.uid: m.summary for m in self._messages(key) if m.uid in uids}

    def search_field(self, key: bytes, uids: UidSet, name: bytes, needle: bytes) -> tuple[list[int], Unsure]:
        return rows.search_field(self._rows(key, uids), key, uids, name, needle)

    def search_addresses(self, key: bytes, uids: UidSet, which: int, needle: bytes) -> tuple[list[int], Unsure]:
        return rows.search_addresses(self._rows(key, uids), key, uids, which, needle)

    def fields(self, key: bytes, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
        return rows.values(self._rows(key, uids), key, uids, names)

    def _rows(self, key: bytes, uids: UidSet) -> list[tuple[bytes, bytes]]:
        found = self.summaries(key, uids)
        return [(uid_key(key, uid), b"\0\0" + bytes(one)) for uid, one in found.items()]

    def content(self, key: bytes, uid: int) -> Octets | None:
        return next((m.content for m in self._messages(key) if m.uid == uid), None)

    def expunged(self, key: bytes, since: int) -> UidSet:
        return UidSet.of(sorted(uid for modseq, uid in self._state.boxes[key].gone if modseq > since))

    def keywords(self, key: bytes) -> list[bytes]:
        return list(self._state.boxes[key].words)

    def pop3(self, key: bytes) -> dict[int, tuple[int, bytes]]:
        return {}
