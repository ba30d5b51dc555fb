"""Lists of UIDs that another server reads and writes, too: what is asked of them (dovecot.shared_mode has them).

Every UID of such a mailbox is given while its list is locked, and gets its line before anything is answered.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.index.layout import MailboxRow
from fastmail.store.local.maildir.control import Control

Line = tuple[bytes, int, bytes]  # mailbox, UID, file name


class Lists(Protocol):
    """For whoever gives UIDs."""

    def giving(
        self, boxes: Iterable[tuple[Account, bytes]], words: Sequence[bytes]
    ) -> AbstractAsyncContextManager[list[Line]]:
        """Hold the lists of mailboxes while they get messages with these keywords, whose lines the caller adds."""
        ...

    async def keywords(self, account: Account, key: bytes, words: Sequence[bytes]) -> None:
        """See to it that keywords have letters, before a message gets them."""
        ...


class Shared(Protocol):
    """For whoever takes in what other programs did: all but the first four is called while the list is locked."""

    def box(self, account: Account, key: bytes) -> MailboxRow: ...
    def same(self, account: Account, box: Mailbox) -> bool:
        """Are the files as they were when all of them was taken in?"""
        ...

    def lock(self, account: Account, box: Mailbox) -> AbstractAsyncContextManager[None]: ...
    def forget(self, key: bytes) -> None:
        """All of the list is to be read the next time."""
        ...

    async def read(self, account: Account, key: bytes) -> tuple[Control, bool]:
        """What the list names that was not taken in yet, and whether that is the whole list."""
        ...

    async def write(self, account: Account, box: Mailbox, lines: Sequence[tuple[int, bytes]]) -> None:
        """Add (UID, base name) to the list."""
        ...

    async def take_overflow(self, account: Account, box: Mailbox, listed: Control) -> None:
        """Learn the keywords that have no letters."""
        ...

    def taken_in(self, account: Account, box: Mailbox) -> None:
        """Everything that the list names is in the index."""
        ...
