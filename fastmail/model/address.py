"""E-mail addresses as this server keys them: ``local@domain`` in lower case, quoting already shortest.

Local-parts are compared without case, as every hoster does; the case a sender used is kept where it is shown.
"""

import re
from dataclasses import dataclass

from fastmail._core import smtp as grammar
from fastmail.model.errors import BadAddress

_SAFE = re.compile(r"[\w.+\-=&'!#$^`{}|~]+", re.UNICODE)
_DOMAIN = re.compile(r"(?=.{1,253}$)[\w](?:[\w-]{0,61}[\w])?(?:\.[\w](?:[\w-]{0,61}[\w])?)*")


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox address; ``local`` as it was written, ``domain`` in lower case."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """What the directory looks up."""
        return f"{self.local}@{self.domain}".lower()

    @staticmethod
    def parse(text: str) -> "Address":
        """``local@domain`` and nothing else; BadAddress otherwise."""
        data = text.encode("utf-8", "surrogateescape")
        try:
            local, domain, end = grammar.parse_mailbox(data, 0, True)
        except ValueError as error:
            raise BadAddress(f"{text!r} is not an address: {error}") from None
        if end != len(data):
            raise BadAddress(f"{text!r} is not an address: something follows the domain")
        return Address(local.decode("utf-8", "replace"), domain.decode("utf-8", "replace"))


def account_address(text: str) -> Address:
    """An address that may be an account: its parts also serve as directory names. BadAddress otherwise."""
    address = Address.parse(text.strip())
    if not _SAFE.fullmatch(address.local) or address.local in (".", "..") or address.local.startswith("."):
        raise BadAddress(f"{text!r} can not be an account: use letters, digits, and . _ + - = in front of the @")
    domain_name(address.domain)
    return Address(address.local.lower(), address.domain)


def domain_name(text: str) -> str:
    """A domain in lower case; BadAddress when it is not one."""
    name = text.strip().rstrip(".").lower()
    if not _DOMAIN.fullmatch(name):
        raise BadAddress(f"{text!r} is not a domain name")
    return name


def without_detail(local: str) -> str:
    """The local-part in front of the first ``+``, in its shortest quoting: ``me`` of ``me+x`` and of ``"me+x y"`` (RFC
    5321 4.1.2: quoting is no part of the name). The same local-part where that would be nothing."""
    if not local.startswith('"'):
        return local.partition("+")[0] or local
    base = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL).partition("+")[0]
    if not base or "+" not in local:
        return local
    quoted = re.sub(r'(["\\])', r"\\\1", base)
    return grammar.parse_mailbox(f'"{quoted}"@x'.encode(), 0, True)[0].decode()
