from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview

class Threads:
    """What THREAD compares of one mailbox's messages, in UID order. ``key``: 16 octets that no stranger knows."""

    def __init__(self, key: bytes) -> None: ...
    def __len__(self) -> int: ...
    @property
    def last(self) -> int:
        """The highest UID that is here; 0 when there is none."""
    @property
    def octets(self) -> int:
        """Memory that is taken."""
    def add(
        self, uids: list[int], dates: list[int], items: list[tuple[int, Octets]]
    ) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Take in messages above ``last``: UIDs, their internal dates, and (UID, summary) pairs in UID order.

        Returns (UIDs with subjects that are to be decoded and given to ``subject``; UIDs that are to be read and given
        to ``complete``, because they have no summary or one that need not have their References). ValueError for UIDs
        that do not ascend."""
    def complete(self, uid: int, summary: bytes, references: bytes) -> bytes | None:
        """What a fresh summary and the References field (empty: none) say of a message; its subject if that is to be
        decoded."""
    def subject(self, uid: int, key: bytes, reply: bool) -> None:
        """Set the key of a message's base subject, and whether it is a reply or forward."""
    def keep(self, uids: UidSet) -> None:
        """Drop all other messages."""
    def answer(self, algorithm: int, found: UidSet, numbers: UidSet | None) -> bytes:
        """The threads of those of ``found`` that are here, as THREAD tells them: with sequence numbers in ``numbers``,
        or UIDs. ``algorithm``: 0 ORDEREDSUBJECT, 1 REFERENCES, 2 REFS (without step 5, by the latest message). The GIL
        is free meanwhile; nobody may change the table."""
