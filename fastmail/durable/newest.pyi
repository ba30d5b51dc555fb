class MetaPages:
    """The meta pages of an open LMDB file, mapped for as long as this object lives. ``page``: octets of a page.

    The kernel shows what was written to the file in the map at once, also what another process wrote."""

    def __init__(self, path: str, page: int) -> None: ...
    def newest(self) -> int:
        """Return the highest number of a commit in the file."""
