Octets = bytes | bytearray | memoryview

def hosts(data: Octets, most: int) -> tuple[list[bytes], list[bytes], bool]:
    """Hosts that a text in UTF-8 names: (of URLs, of mail addresses, whether more than ``most`` of a kind were named).
    Each once, in the order of the text, at most 255 octets, in lower case as far as it is ASCII; one of a URL may be an
    IPv6 address in brackets, or a number. None has been checked to be a domain name."""

def unreferenced(data: Octets) -> bytes:
    """HTML in UTF-8 with its numeric character references as characters, and those named ones that matter in URLs."""
