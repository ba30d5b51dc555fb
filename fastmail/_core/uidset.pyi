from collections.abc import Iterable, Iterator

class UidSet:
    """Immutable sorted set of numbers 1..4294967295, kept as runs."""

    total: int
    @staticmethod
    def of(uids: Iterable[int]) -> UidSet:
        """From ascending, distinct numbers; ValueError otherwise."""
    @staticmethod
    def of_ranges(ranges: list[int] | tuple[int, ...], star: int = 0) -> UidSet:
        """From flat (lo, hi, ...) in any order; 0 stands for ``*``, replaced by ``star``."""
    def plus_pages(self, pages: Iterable[tuple[int, int]], above: int) -> UidSet:
        """Self and the UIDs above ``above`` in (first uid, presence bitmap) pairs, which ascend."""
    def minus(self, other: UidSet) -> UidSet: ...
    def both(self, other: UidSet) -> UidSet: ...
    def plus(self, other: UidSet) -> UidSet: ...
    def at(self, seqs: UidSet) -> UidSet:
        """UIDs at these 1-based sequence numbers; numbers past the end are left out."""
    def seqs(self, uids: UidSet) -> UidSet:
        """Sequence numbers, in self, of those of ``uids`` that self holds."""
    def seq(self, uid: int) -> int:
        """1-based position of ``uid``, 0 when absent."""
    def uid(self, seq: int) -> int:
        """UID at 1-based ``seq``, 0 when out of range."""
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __contains__(self, uid: int) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def ranges(self) -> list[tuple[int, int]]: ...
    def size_in_memory(self) -> int: ...
    def octets(self) -> bytes:
        """IMAP sequence-set, ``1:3,5``."""
    def numbers(self) -> bytes:
        """`` 1 2 3 5``: each number led by a space."""

def in_order(numbers: Iterable[int]) -> bytes:
    """A sequence-set that keeps the order of ``numbers``, with ranges where they ascend one by one: ``5,1:3``."""
