"""E-mail addresses as this server keys them: ``local@domain`` in lower case, quoting already shortest.

Local-parts are compared without case, by Unicode case folding, as every hoster does; the case a sender used is kept
where it is shown. Domains are compared as model.domain says: with A-labels or with U-labels, a domain is the same. A
domain has 255 octets at most, the local-part of an address here 64 (RFC 5321 4.5.3.1), of an address elsewhere as many
as a path has room for. What may be an account is narrower, because it names directories: no slash, no NUL, no dot in
front, nothing that is quoted.
"""

import re
import unicodedata
from dataclasses import dataclass

from fastmail._core import smtp as grammar
from fastmail.model import domain as names
from fastmail.model.errors import BadAddress

_SAFE = re.compile(r"[\w.+\-=&'!#$^`{}|~]+", re.UNICODE)
MARKS = ("Mn", "Mc")  # accents and vowel signs, which are parts of words in many scripts (Unicode 4.5)
LONGEST_LOCAL = 64  # octets of an address here: what every host has to take (RFC 5321 4.5.3.1.1)
LONGEST_NAME = 255  # octets of a file's name
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox address; ``local`` as it was written, ``domain`` in its one form: with A-labels where it was parsed."""

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
        """``local@domain`` and nothing else, as envelopes have it: with A-labels. BadAddress otherwise."""
        try:
            data = text.encode("utf-8", "surrogateescape")
            local, domain, end = grammar.parse_mailbox(data, 0, True)
        except ValueError as error:
            raise BadAddress(f"{text!r} is not an address: {error}") from None
        if end != len(data):
            raise BadAddress(f"{text!r} is not an address: something follows the domain")
        name = domain.decode("utf-8", "replace")
        if not name.startswith("["):  # an address literal
            name = names.ascii_name(name)
        return Address(local.decode("utf-8", "replace"), name)


def account_address(text: str) -> Address:
    """An address that may be an account: its parts also serve as directory names, so its domain keeps the labels
    (A-labels or U-labels) that it was written with. BadAddress otherwise."""
    address = Address.parse(text.strip())
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", address.local).lower())
    if not _is_safe(local) or len(local.encode()) > LONGEST_LOCAL:  # capitals may be shorter
        raise BadAddress(f"{text!r} can not be an account: use letters, digits, and . _ + - = in front of the @")
    return Address(local, domain_name(text.rpartition("@")[2]))


def _is_safe(local: str) -> bool:
    """May it name a directory? Marks are not first: there they would stand on what is in front of the name."""
    if local.startswith(".") or unicodedata.category(local[:1] or ".") in MARKS:
        return False
    plain = local if local.isascii() else "".join(c for c in local if unicodedata.category(c) not in MARKS)
    return _SAFE.fullmatch(plain) is not None


def refuse_unseen(address: str) -> None:
    """Refuse an address that is to be kept here if people could not read it back and type it: with characters that are
    not seen (controls, marks of direction, joiners, blanks that are no ASCII space), or with a local-part that is too
    long in lower case. Addresses of other hosts may be such. BadAddress."""
    local = address.rpartition("@")[0]
    if not local.isprintable():
        raise BadAddress(f"{address!r} has characters that cannot be seen: write it without them")
    if len(local.encode()) > LONGEST_LOCAL:  # capitals may be shorter
        raise BadAddress(f"{address!r} has more than {LONGEST_LOCAL} octets in front of the @")


def domain_name(text: str) -> str:
    """A domain that may be this server's, in its one form, with the labels it was written with. BadAddress."""
    name = names.mapped_name(text.strip())
    if not _DOMAIN.fullmatch(names.ascii_name(name)):
        raise BadAddress(f"{text!r} is not a domain name")
    if len(name.encode()) > LONGEST_NAME:  # it names a directory
        raise BadAddress(f"{text!r} has more than {LONGEST_NAME} octets: write it with A-labels (xn--)")
    return name


def comparable(address: str) -> str:
    """The one form of an address for comparing: without case, the domain with A-labels."""
    local, at, domain = address.rpartition("@")
    return folded(local) + at + names.comparable(domain)


def folded(local: str) -> str:
    """A local-part for comparing: case-folded, and composed (NFC), because programs send accents in either form."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())


def spellings(address: str) -> tuple[str, ...]:
    """All that a row for this address may be called, as it was written first; in lower case."""
    local, at, domain = address.lower().rpartition("@")
    return tuple(local + at + one for one in names.spellings(domain))


def without_detail(local: str, separators: str = "+") -> str:
    """The local-part in front of the first of the separators, in its shortest quoting: ``me`` of ``me+x`` and of
    ``"me+x y"`` (RFC 5321 4.1.2: quoting is no part of the name). The same local-part where that would be nothing."""
    if not local.startswith('"'):
        return _in_front(local, separators) or local
    whole = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    base = _in_front(whole, separators)
    if not base or base == whole:
        return local
    quoted = re.sub(r'(["\\])', r"\\\1", base)
    return grammar.parse_mailbox(f'"{quoted}"@x'.encode(), 0, True)[0].decode()


def _in_front(text: str, separators: str) -> str:
    found = [at for one in separators if (at := text.find(one)) >= 0]
    return text[: min(found)] if found else text
