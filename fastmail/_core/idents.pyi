from collections.abc import Callable

Octets = bytes | bytearray | memoryview
Rows = list[tuple[bytes, bytes]]

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

def entered(
    key: bytes,
    items: list[tuple[int, Octets, int]],
    created: bool,
    slow: Callable[[bytes], tuple[bytes, int, bytes, bytes]],
) -> tuple[bytes, Rows, Rows, list[tuple[int, bytes, bytes]]]:
    """What the account log, and the tables of store/local/index/object_ids.py, get for messages of the mailbox with
    this ``key``: (UID, summary as stored, MODSEQ). Answers: entries of the log, for messages that were ``created`` or
    removed; rows of ``place``; rows of ``member``; of each message that names itself otherwise than its thread is
    called, (its number in ``items``, key in ``thread``, thread). ``slow`` is asked for the names of one that an earlier
    version stored."""
