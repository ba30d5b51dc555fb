"""UID lists that another server also reads and writes: the operations that other modules need (dovecot.shared_mode
has the implementation).

Every UID of such a mailbox is assigned while its list is locked, and its line is written before anything is
answered.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.index.layout import MailboxRow
from fastmail.store.local.maildir.control import Control

Line = tuple[bytes, int, bytes]  # mailbox, UID, file name


class Lists(Protocol):
    """For operations that assign UIDs."""

    def giving(
        self, boxes: Iterable[tuple[Account, bytes]], words: Sequence[bytes]
    ) -> AbstractAsyncContextManager[list[Line]]:
        """Lock the lists of mailboxes while they get messages with these keywords. The caller adds the lines to the
        value."""
        ...

    async def keywords(self, account: Account, key: bytes, words: Sequence[bytes]) -> None:
        """Make sure that keywords have letters, before a message gets them."""
        ...


class Shared(Protocol):
    """For the code that applies other programs' changes. All methods after ``lock`` are called while the list is
    locked."""

    def box(self, account: Account, key: bytes) -> MailboxRow: ...
    def same(self, account: Account, box: Mailbox) -> bool:
        """True if the list files are as they were when all of them was applied."""
        ...

    def lock(self, account: Account, box: Mailbox) -> AbstractAsyncContextManager[None]: ...
    def forget(self, key: bytes) -> None:
        """Read the whole list the next time."""
        ...

    async def read(self, account: Account, key: bytes) -> tuple[Control, bool]:
        """Return what the list has that was not applied yet, and True if that is the whole list."""
        ...

    async def write(self, account: Account, box: Mailbox, lines: Sequence[tuple[int, bytes]]) -> None:
        """Add (UID, base name) to the list."""
        ...

    async def take_overflow(self, account: Account, box: Mailbox, listed: Control) -> None:
        """Learn the keywords that have no letters."""
        ...

    def taken_in(self, account: Account, box: Mailbox) -> None:
        """Record that everything in the list is in the index."""
        ...
