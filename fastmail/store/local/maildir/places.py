"""Where the mailboxes of accounts are on the disk, and content there that can be had at once."""

import os
from collections.abc import Callable

from fastmail.durable import files
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import Account
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import aside, folders
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import path_of


class Places:
    """One for each store. ``home``: where an account's Maildir is; NoSuchMailbox where nobody knows the account any
    more."""

    def __init__(self, home: Callable[[Account], Home]) -> None:
        self.home = home

    def folder(self, account: Account, name: str) -> str:
        """The directory of the mailbox of that name."""
        return folders.folder(self.home(account), name)

    def control(self, account: Account, name: str) -> str:
        """Where its control files are."""
        return folders.control_directory(self.home(account), name)

    def indexes(self, account: Account, name: str) -> str:
        """Where another server's index files of it are."""
        return folders.index_directory(self.home(account), name)

    def read_now(self, directory: str, marked: bytes, removed: bool) -> bytes | None:
        """The content of a file when it can be had without waiting. ``removed``: its message was, so it may be put
        aside."""
        try:
            return files.read_file(path_of(directory, marked), True)
        except FileNotFoundError:
            return files.read_file(aside.aside_path(directory, marked), True) if removed else None


class Paths:
    """Where mailboxes are, by their keys. ``inboxes``: keys of the INBOXes of accounts that were opened, which are
    never removed or renamed: no look at the index is needed for them."""

    def __init__(self, commits: Commits, places: Places) -> None:
        self._commits = commits
        self._places = places
        self.inboxes: dict[int, bytes] = {}

    def name(self, account: Account, key: bytes) -> str:
        """The mailbox's name; NoSuchMailbox when it is gone."""
        if self.inboxes.get(account.id) == key:
            return INBOX
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        return box.name

    def directory(self, account: Account, key: bytes) -> str:
        """Its directory; NoSuchMailbox when it is gone."""
        return self._places.folder(account, self.name(account, key))

    def root(self, account: Account, key: bytes) -> bytes:
        """The same as octets."""
        return os.fsencode(self.directory(account, key))
