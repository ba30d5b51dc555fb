from fastmail._core.idents import Created, Removed, Rows, Slow

def keys(key: bytes, uids: list[int]) -> list[bytes]:
    """The keys in ``msg`` of messages of the mailbox with this ``key``."""

def copied(
    rows: Rows, become: dict[int, tuple[int, bytes]], target: bytes, modseq: int, slow: Slow
) -> tuple[Rows, Created, int] | None:
    """What the rows of messages become in the mailbox with the key ``target``: (its rows of ``msg``, what is entered
    for them, octets of them that quotas count).

    ``become``: new UID, and mark and name of the content, by UID; what was copied is taken out. None if the content of
    one is to be in a segment, but its row says otherwise. ``slow``: see ``idents.entered``."""

def removed(rows: Rows, key: bytes, slow: Slow) -> tuple[Removed, int, list[bytes], list[tuple[bytes, bytes]]]:
    """What goes with the rows of messages that are removed: (what was entered for them, octets of them that quotas
    counted, marks and names of those in segments, (key, mark and name) of the others)."""

def idents(marks: list[bytes]) -> list[bytes]:
    """The ids of the records that marks and names refer to, as keys of the tables about references."""

def spans(marks: list[bytes], aligned: int) -> list[bytes]:
    """How many octets these records take in segments, as rows of ``dead``. ``aligned``: where records begin."""

def shared(idents: list[bytes], found: dict[bytes, bytes]) -> Rows:
    """The rows of ``ref``, sorted, when each of these records gets another reference. ``found``: its rows now."""

def released(
    idents: list[bytes], marks: list[bytes], found: dict[bytes, bytes]
) -> tuple[Rows, list[bytes], dict[bytes, bytes]]:
    """What the loss of a reference each does to these records: (rows of ``ref`` that change, sorted; keys of its rows
    that go; marks and names of the records that are dead, by id). ``found``: the rows of ``ref`` now."""
