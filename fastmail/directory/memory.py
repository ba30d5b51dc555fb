"""The directory in memory: the same rules over tables that one process has and nobody keeps. For tests of what asks a
directory, and as the plainest implementation under the contract suite."""

import os

from fastmail.directory.followed_lists import FollowedLists
from fastmail.directory.sealing import KEY
from fastmail.directory.tables import MemoryTables


class MemoryDirectory(FollowedLists):
    """See interface.Directory and interface.Administration."""

    def __init__(self) -> None:
        super().__init__(MemoryTables())
        key = os.urandom(KEY)
        self._seal_keys = lambda make: key
