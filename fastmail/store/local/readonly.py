"""A store that shows Maildirs and changes nothing in them (``[store] read_only``), for use beside another server.

Promise: no file or directory of an account is created, renamed, written or removed; only the index, which belongs to
this server, follows them. An operation that would change mail is refused with NoPermission. A delivery is refused with
TemporaryError, so that the sender keeps the message.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

from fastmail.model.errors import NoPermission, TemporaryError
from fastmail.store.interface import Account, Appended, Delivery, NewMessage, Notes
from fastmail.store.local.holds import Holds
from fastmail.store.local.store import LocalStore


def _refused(*_: Any, **__: Any) -> NoReturn:
    raise NoPermission("this server is read-only: [store] read_only")


class ReadOnlyHolds(Holds):
    """Refuses to hold anything."""

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        raise TemporaryError("this server accepts no mail: [store] read_only")


class ReadOnlyStore(LocalStore):
    """See the module."""

    read_only = True
    holds_class = ReadOnlyHolds

    async def create(self, account: Account, name: str, special: int = 0) -> None:
        _refused()

    async def delete(self, account: Account, name: str) -> None:
        _refused()

    async def rename(self, account: Account, old: str, new: str) -> None:
        _refused()

    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        _refused()

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        _refused()

    async def append(self, *args: Any, **more: Any) -> NoReturn:
        _refused()

    async def store(self, *args: Any, **more: Any) -> NoReturn:
        _refused()

    async def copy(self, *args: Any, **more: Any) -> NoReturn:
        _refused()

    async def expunge(self, *args: Any, **more: Any) -> NoReturn:
        _refused()

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        raise TemporaryError("this server accepts no mail: [store] read_only")

    async def take_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        return 0, 0

    def touch(self, account: Account, key: bytes) -> None:
        """Do nothing: file names stay as they are."""
