class Out:
    """Growable octet buffer. ``size`` is the first capacity in octets."""

    def __init__(self, size: int = 512) -> None: ...
    def __len__(self) -> int: ...
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``."""
    def take(self) -> bytes:
        """All octets written so far; the buffer is empty afterwards."""
