"""Content that is held for queued messages, in memory."""

from collections.abc import Sequence

from fastmail.model.errors import CorruptData
from fastmail.store.interface import Account, NewMessage


class MemoryHolds:
    """See interface.Holds. Released content leaves an empty entry, so that names stay unique."""

    def __init__(self) -> None:
        self._holds: dict[bytes, tuple[bytes, int]] = {}  # content and holder, by name

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        name = b"%d" % len(self._holds)
        self._holds[name] = b"".join(message.content), holder
        return name

    async def read(self, hold: bytes) -> bytes:
        if not self._holds[hold][1]:
            raise CorruptData("the held content is missing")
        return self._holds[hold][0]

    async def let_go(self, holders: Sequence[int]) -> None:
        self._holds = {name: (b"", 0) if who in holders else (text, who) for name, (text, who) in self._holds.items()}

    def holders(self) -> set[int]:
        return {holder for _, holder in self._holds.values() if holder}
