def able() -> bool:
    """True if this processor has the instructions."""

def suits(modulus: int, exponent: int) -> bool:
    """True if ``Public`` takes a key: the processor is able, the exponent is 65537, and the modulus is odd and has a
    multiple of 512 bits, from 1024 to 4096."""

class Public:
    """A public key. ValueError for one that does not suit."""

    def __init__(self, modulus: int, exponent: int) -> None: ...
    def verify(self, signature: bytes, signed: bytes) -> bool:
        """True if it is the signature of ``signed``: the digest, with what stands in front of it (RFC 8017 9.2)."""
    def held(self, signature: bytes) -> int | None:
        """What the signature holds, as a number (RFC 8017 5.2.2); None for one of another length than the modulus, or
        not below it. For tests: ``verify`` compares it."""
