from collections.abc import Callable
from typing import Literal, overload

Octets = bytes | bytearray | memoryview
Rows = list[tuple[bytes, bytes]]
Slow = Callable[[bytes], tuple[bytes, int, bytes, bytes]]
Others = list[tuple[int, bytes, bytes]]
# What the account log, and the tables of store/local/index/object_ids.py, get for messages that came into a mailbox:
# (items of the log; rows of ``place``; rows of ``member``; of each message that names itself otherwise than its thread
# is called, its number, the key in ``thread`` and the thread). For messages that were removed, keys instead of rows.
Created = tuple[bytes, Rows, Rows, Others]
Removed = tuple[bytes, list[bytes], list[bytes], Others]

def message_id(summary: bytes) -> bytes | None:
    """The Message-ID in its brackets, as it stands at the end of the ENVELOPE; empty where there is none. None where it
    is written in a way that this quick look cannot read, or is left out."""

def named(summary: Octets) -> tuple[bytes, bytes, list[bytes]]:
    """(the message's own identification, the one that names its thread by itself, those that it names: the nearest
    first). Empty where there is none."""

def rest_at(summary: Octets) -> int:
    """Where the trail begins, which the store keeps after a summary: its length where there is none."""

def preview(summary: Octets) -> bytes | None:
    """The message's first words, in UTF-8; None where they were not looked for."""

def with_preview(summary: Octets, words: bytes) -> bytes:
    """The same summary with these first words, at most 1024 octets. ValueError for one that cannot have any: it is
    damaged, or ``mime.lost``."""

@overload
def entered(key: bytes, items: list[tuple[int, Octets, int]], created: Literal[True], slow: Slow) -> Created:
    """What is entered for messages of the mailbox with this ``key``: (UID, summary as stored, MODSEQ), which ``others``
    have by their place in the list. ``slow`` is asked for the names of a message that an earlier version stored."""

@overload
def entered(key: bytes, items: list[tuple[int, Octets, int]], created: Literal[False], slow: Slow) -> Removed: ...
