"""Where the mailboxes of accounts are on the disk, and reading content from there without waiting."""

import os
from collections.abc import Callable

from fastmail.durable import files
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import Account
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import aside, folders
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import below


class AccountPaths:
    """One for each store. ``home``: returns where an account's Maildir is; NoSuchMailbox for an unknown account."""

    def __init__(self, home: Callable[[Account], Home]) -> None:
        self.home = home

    def folder(self, account: Account, name: str) -> str:
        """Return the directory of the mailbox of that name."""
        return folders.folder(self.home(account), name)

    def control(self, account: Account, name: str) -> str:
        """Return the directory of the mailbox's control files."""
        return folders.control_directory(self.home(account), name)

    def indexes(self, account: Account, name: str) -> str:
        """Return the directory of another server's index files for the mailbox."""
        return folders.index_directory(self.home(account), name)

    def opened(self, account: Account, name: str) -> "OpenFolder":
        """Return the mailbox's directory, for reading files of it now. Close it soon."""
        return OpenFolder(self.folder(account, name))


class OpenFolder:
    """The directory of a mailbox, from which several files are read one after the other."""

    __slots__ = ("_directory", "_files")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files = files.Directory(os.fsencode(directory))

    def read_now(self, marked: bytes, removed: bool) -> bytes | None:
        """Return the content of a file if that needs no waiting. ``removed``: its message was removed, so it may have
        been put aside."""
        try:
            return self._files.read_now(below(marked))
        except FileNotFoundError:
            return files.read_file(aside.aside_path(self._directory, marked), True) if removed else None

    def close(self) -> None:
        """Close it."""
        self._files.close()


class Paths:
    """Finds the directories of mailboxes by their keys.

    ``inboxes``: keys of the INBOXes of opened accounts. They are never removed or renamed, so no look at the index is
    needed for them."""

    def __init__(self, commits: Commits, account_paths: AccountPaths) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self.inboxes: dict[int, bytes] = {}

    def name(self, account: Account, key: bytes) -> str:
        """Return the mailbox's name. NoSuchMailbox if it does not exist."""
        if self.inboxes.get(account.id) == key:
            return INBOX
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        return box.name

    def directory(self, account: Account, key: bytes) -> str:
        """Return the mailbox's directory. NoSuchMailbox if it does not exist."""
        return self._account_paths.folder(account, self.name(account, key))

    def root(self, account: Account, key: bytes) -> bytes:
        """Return the mailbox's directory as octets."""
        if self.inboxes.get(account.id) == key:
            return self._account_paths.home(account).inbox
        return os.fsencode(self.directory(account, key))
