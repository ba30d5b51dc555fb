"""The PROXY protocol (versions 1 and 2, as HAProxy specifies it): a load balancer tells who the client is.

Exactly the octets of the header are read, so that what follows (perhaps a TLS handshake) is still unread. Everything
that is not a header is an error: a trusted balancer always sends one, and a connection without it would pass as the
balancer itself.
"""

import ipaddress
import re

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1_MOST = 107  # octets of the longest header of version 1, with its line end
V2_MOST = 16 + 4096
VERSIONS = {"TCP4": 4, "TCP6": 6}  # of IP, by the word of version 1
MAX_PORT = 65535
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


class ProxyError(ValueError):
    """The octets are not a PROXY header."""


class ProxyHeader:
    """Reads one header. Feed ``wanted()`` octets at a time until ``done``; then ``host`` is the client, empty for the
    balancer itself."""

    __slots__ = ("_data", "done", "host")

    def __init__(self) -> None:
        self._data = bytearray()
        self.done = False
        self.host = ""

    def wanted(self) -> int:
        """Return how many octets may be read now."""
        have = len(self._data)
        if have < 12:
            return 12 - have
        # Version 1 is a line of unknown length, so it is read octet by octet.
        if self._data[:12] != SIGNATURE:
            return 1
        if have < 16:
            return 16 - have
        return 16 + int.from_bytes(self._data[14:16], "big") - have

    def feed(self, data: bytes) -> None:
        """Take octets; ProxyError when they are not a header."""
        self._data += data
        have = len(self._data)
        if not (SIGNATURE.startswith(self._data[:12]) or b"PROXY ".startswith(self._data[:6])):
            raise ProxyError("no PROXY header")
        if have < 12:
            return
        if self._data[:12] == SIGNATURE:
            if have >= 16:
                length = int.from_bytes(self._data[14:16], "big")
                if 16 + length > V2_MOST:
                    raise ProxyError("PROXY header is too long")
                if have == 16 + length:
                    self._version2(bytes(self._data))
        elif self._data.endswith(b"\r\n"):
            self._version1(bytes(self._data[:-2]))
        elif have >= V1_MOST:
            raise ProxyError("PROXY header is too long")

    def _version1(self, line: bytes) -> None:
        words = line.decode("ascii", "replace").split(" ")
        self.done = True
        if words[1:2] == ["UNKNOWN"]:
            return
        if len(words) != 6 or words[1] not in VERSIONS:
            raise ProxyError("bad PROXY header")
        client, _ = (_address(word, VERSIONS[words[1]]) for word in words[2:4])
        if not all(_PORT.fullmatch(word) and int(word) <= MAX_PORT for word in words[4:]):
            raise ProxyError("bad port in PROXY header")
        self.host = client

    def _version2(self, data: bytes) -> None:
        command, family = data[12], data[13]
        if command >> 4 != 2 or command & 15 > 1:
            raise ProxyError("unknown version of PROXY header")
        self.done = True
        if command & 15 == 0:
            return  # LOCAL: the balancer checks that the server is alive
        if family == 0x11 and len(data) >= 28:
            self.host = str(ipaddress.IPv4Address(data[16:20]))
        elif family == 0x21 and len(data) >= 52:
            self.host = str(ipaddress.IPv6Address(data[16:32]))
        elif family >> 4 in (1, 2):
            raise ProxyError("PROXY header is too short")


def _address(text: str, version: int) -> str:
    """Return an IP address of that version, in its usual form."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ProxyError("bad address in PROXY header") from None
    if found.version != version or "%" in text:
        raise ProxyError("bad address in PROXY header")
    return str(found)
