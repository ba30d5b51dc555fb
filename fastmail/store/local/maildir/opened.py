"""What tools that work on whole accounts (conversion, repair, return to another server) need of an open local store."""

from typing import Protocol

from fastmail.store.interface import Account, Store
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.names import NameMaker


class OpenedStore(Store, Protocol):
    """A store with what these tools need besides the interface: the index, where files are, and names for new ones."""

    commits: Commits
    account_paths: AccountPaths
    paths: Paths
    maker: NameMaker

    def touch(self, account: Account, key: bytes) -> None:
        """Note that file names or files of this mailbox have to be brought in line with the index soon."""
        ...

    def address(self, number: int) -> str:
        """Return an account's address, for messages to people."""
        ...
