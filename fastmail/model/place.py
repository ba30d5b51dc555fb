"""Host names, addresses and ports in a configuration: what is right, and in which form it is used from there on.

Each function returns the value in its one form, or raises ValueError with what is wrong, to be put behind the name of
the setting.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from fastmail.model.address import domain_name
from fastmail.model.domain import comparable
from fastmail.model.errors import BadAddress

_PATH = re.compile(r"[A-Za-z0-9/._~!$&'*+;=:@%-]*")  # nothing that ends a URL in a header field (RFC 2369 2)
LONGEST_URL = 200  # characters; a header field has to hold what stands behind it, too


def host_name(text: str) -> str:
    """A name of this server or of another host, with A-labels."""
    if not text:
        raise ValueError("must not be empty")
    if text != text.strip() or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} has a blank or a line break in it")
    try:
        return comparable(domain_name(text))
    except BadAddress:
        raise ValueError(f"{text!r} is not a host name") from None


def is_address(text: str) -> bool:
    """True for an IP address of either version."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def port_number(text: str) -> int:
    """1 to 65535, in decimal digits."""
    if text.isascii() and text.isdigit() and (len(text) > 5 or int(text) > 65535):
        raise ValueError(f"{text[:20]!r} is a port above 65535")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
        raise ValueError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def split_place(text: str, default: int = 0) -> tuple[str, int]:
    """(host, port) of "host:port", "[IPv6]:port", and where ``default`` is a port also of "host" and of an IPv6 address
    alone. Nothing is looked up; an empty host stays empty."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f'{text!r} is not "[address]:port"')
        port = rest[1:]
        ip_address(host, 6)
        if rest == ":":
            raise ValueError(f"{text!r} has no port")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise ValueError(f"{text!r} has no port")
    elif ":" in text:
        ip_address(text, 6)  # without brackets the last group would be taken for a port
    if not port and not default:
        raise ValueError(f"{text!r} has no port")
    return host, port_number(port) if port else default


def ip_address(text: str, version: int = 0) -> str:
    """An IP address in its usual form; ``version`` 4 or 6 where only that kind will do."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None
    if version and found.version != version:
        raise ValueError(f"{text!r} is not an IPv{version} address")
    return str(found)


def name_or_address(text: str) -> str:
    """A host by its name or its IP address, in one form."""
    try:
        return ip_address(text)
    except ValueError:
        pass
    if text.replace(".", "").isdigit():
        raise ValueError(f"{text!r} is neither a host name nor an IP address")
    return host_name(text)


def place(text: str, listening: bool = False) -> str:
    """A place, "host:port" or "unix:/path" in one form. ``listening``: the host may be empty, for every address."""
    if text.startswith("unix:"):
        if len(text) == 5 or "\0" in text or len(text.encode()) > 5 + 107:  # sun_path (unix(7))
            raise ValueError(f"{text!r} is not a path that a socket can have")
        return text
    host, port = split_place(text)
    if not host and not listening:
        raise ValueError(f"{text!r} has no host")
    host = name_or_address(host) if host and host != "*" else ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(text: str) -> bool:
    """Return True if only this machine reaches a place."""
    host = text.rpartition(":")[0].strip("[]")
    if text.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def https_url(text: str) -> str:
    """The https URL of a server, with a path perhaps and no slash at its end, in one form."""
    if not re.fullmatch(r"(?i)https://\S+", text) or not text.isprintable() or len(text) > LONGEST_URL:
        raise ValueError(f"must be an https:// URL of at most {LONGEST_URL} characters, without blanks")
    found = urlsplit(text)
    if found.query or found.fragment or found.username is not None or not _PATH.fullmatch(found.path):
        raise ValueError("must have a host and perhaps a path of ASCII characters, and nothing else")
    host, port = found.hostname or "", found.port  # ValueError for a port that is none
    host = name_or_address(host)
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}{f':{port}' if port is not None and port != 443 else ''}{found.path.rstrip('/')}"


def resolver(text: str) -> str:
    """A name server: an address, because there is nobody yet who could look up a name."""
    try:
        host, port = split_place(text, 53)
        host = ip_address(host)
    except ValueError as error:
        raise ValueError(f'must be "address" or "address:port" of name servers: {error}') from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
