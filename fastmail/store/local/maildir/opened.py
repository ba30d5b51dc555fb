"""An open store of this backend, for tools that work on whole accounts: conversion, repair, the way back."""

from typing import Protocol

from fastmail.store.interface import Account, Store
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.maildir.places import Paths, Places


class OpenedStore(Store, Protocol):
    """What these tools need beside the interface: the index, where files are, and names for new ones."""

    commits: Commits
    places: Places
    paths: Paths
    maker: NameMaker

    def touch(self, account: Account, key: bytes) -> None:
        """File names or files of this mailbox have to follow the index soon."""
        ...

    def address(self, number: int) -> str:
        """An account's address, for people."""
        ...
