Octets = bytes | bytearray | memoryview

class Arrivals:
    """Messages that come into one mailbox in one commit. ``uid``: that of the next one; ``modseq``: that of all."""

    uid: int
    modseq: int
    @property
    def uidvalidity(self) -> int: ...
    def page_key(self) -> bytes:
        """The key of the page that the next message belongs to."""

    def add(
        self,
        page: Octets | None,
        name: bytes,
        summary: Octets,
        email: bytes,
        thread: bytes,
        own: bytes,
        flags: int,
        keywords: int,
        date: int,
        size: int,
        saved: int,
    ) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """Add a message. ``page``: the one that ``page_key`` names, if there is one; ``name``: mark and name of the
        content; ``own``: the hash of its Message-ID. An earlier trail of the summary is left out.

        Returns (the page with the message, its key in ``msg``, its row there, its keys in ``place`` and ``member``).
        ValueError for a page that is damaged or cannot take the message; nothing is added then."""

    def log(self, now: int) -> list[tuple[bytes, bytes]]:
        """The rows of the account log for what was added, each of them once. ``now``: s since 1970."""

    def rows(self) -> tuple[bytes, bytes]:
        """(The mailbox's row, the account's row), which counts the log's octets after ``log``."""

def begin(key: bytes, row: bytes, totals: bytes | None, recovered: int) -> Arrivals | None:
    """Begin with the rows of the mailbox and of its account.

    None if one of them is missing, damaged, not in the form in which it is written today, or not from after the latest
    recovery (``recovered``, see Tables)."""
