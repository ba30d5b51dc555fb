Octets = bytes | bytearray | memoryview

class Sum:
    """SHA-256 of octets as they come. For one thread at a time."""

    def __init__(self) -> None: ...
    def update(self, data: Octets) -> None:
        """More of them."""
    def digest(self) -> bytes:
        """The digest of all that came; more may come."""

def digest(data: bytes) -> bytes:
    """The digest of these octets. Other threads wait meanwhile, so it is for short data."""

def able() -> bool:
    """True if instructions of the processor are in use; otherwise hashlib computes it."""

def use(instructions: bool) -> None:
    """Compute by these, or by hashlib, what begins from now on: for tests. ValueError where there are none."""
