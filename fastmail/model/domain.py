"""Domain names: one form in which the whole tree compares them (IDNA 2008: RFC 5890, 5891, 5892, 5893).

A name has two spellings: with A-labels (``xn--fa-hia.example``, what the DNS, certificates and the queue use) and with
U-labels (``faß.example``, what people read). Both are the same domain. What people type is mapped first as UTS 46 says,
without its transitional part: capitals, full-width letters and other full stops are accepted, while sharp s, final
sigma and the joiners keep the domains that are theirs.

Promises: the cost is bounded, because length is checked before anything else looks at the text; a name that IDNA does
not allow is BadAddress. Labels of ASCII that are no A-labels (``ab--c``, ``_dmarc``) are taken as the DNS takes them.
"""

import re
from functools import lru_cache

import idna

from fastmail.model.errors import BadAddress

LONGEST = 255  # characters of a name (RFC 5321 4.5.3.1.2); before and after the mapping
REMEMBERED = 4096  # names; each is at most LONGEST characters
PREFIX = "xn--"
# labels have at most 63 octets (RFC 1035 2.3.4)
_ASCII = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def ascii_name(text: str) -> str:
    """The name with A-labels, in lower case, without a final dot: equal for all spellings of a domain. BadAddress for
    what is no name. An address literal is no name either."""
    if len(text) > LONGEST + 1:
        raise BadAddress(f"a domain name has {LONGEST} characters at most")
    return _plain(text) or _forms(text)[0]


def unicode_name(text: str) -> str:
    """The name with U-labels, for people. An A-label that IDNA 2008 would not make stays as it is. BadAddress."""
    if len(text) > LONGEST + 1:
        raise BadAddress(f"a domain name has {LONGEST} characters at most")
    return _plain(text) or _forms(text)[1]


def mapped_name(text: str) -> str:
    """The name in the spelling in which it was written, A-labels or U-labels, in its one form. BadAddress."""
    return ascii_name(text) if text.isascii() else unicode_name(text)


def comparable(text: str) -> str:
    """``ascii_name``, or the text in lower case where it is no name: for comparing what somebody else wrote."""
    return _comparable(text) if len(text) <= LONGEST + 1 else text.lower().rstrip(".")


@lru_cache(REMEMBERED)  # a look-up in the directory compares the same domain several times
def _comparable(text: str) -> str:
    try:
        return ascii_name(text)
    except BadAddress:
        return text.lower().rstrip(".")


def spellings(text: str) -> tuple[str, ...]:
    """All that a row for this domain may be called: as it was written, with A-labels, with U-labels."""
    lower = text.lower().removesuffix(".")
    if lower.isascii() and PREFIX not in lower:
        return (lower,)
    try:
        return tuple(dict.fromkeys((lower, ascii_name(text), unicode_name(text))))
    except BadAddress:
        return (lower,)


@lru_cache(REMEMBERED)  # asked for the same names again and again: sender, recipient, host
def _plain(text: str) -> str:
    """The form of a name without A-labels and U-labels, which is nearly every name; empty for others."""
    if not text.isascii():
        return ""
    name = text.lower().removesuffix(".")
    return name if PREFIX not in name and len(name) <= LONGEST and _ASCII.fullmatch(name) else ""


@lru_cache(REMEMBERED)
def _forms(text: str) -> tuple[str, str]:
    """(with A-labels, with U-labels)."""
    try:
        # STD 3 is checked label by label below, because the DNS has names with underscores
        name = idna.uts46_remap(text, std3_rules=False).removesuffix(".")
        pairs = [_label(label) for label in name.split(".")]
    except (idna.IDNAError, UnicodeError):
        raise BadAddress(f"{text!r} is not a domain name") from None
    ascii_form, unicode_form = (".".join(labels) for labels in zip(*pairs, strict=True))
    if len(ascii_form) > LONGEST:
        raise BadAddress(f"{text!r} is not a domain name: it is longer than {LONGEST} octets")
    return ascii_form, unicode_form


def _label(label: str) -> tuple[str, str]:
    """(A-label, U-label); both the same for a label of ASCII. IDNAError, UnicodeError."""
    if not label.isascii():
        return idna.alabel(label).decode("ascii"), label
    if not _ASCII.fullmatch(label) or "." in label:
        raise UnicodeError("empty, too long, or with a character that host names do not have")
    if not label.startswith(PREFIX):
        return label, label
    wrapped = label[len(PREFIX) :]
    inner = wrapped.encode("ascii").decode("punycode")
    # What is not the one Punycode form of something that needs it is nobody's name (RFC 5890 2.3.2.1).
    if inner.isascii() or inner.encode("punycode").decode("ascii") != wrapped:
        raise UnicodeError("not an A-label")
    try:
        return label, idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        # Older rules made names that hosts still have, such as those of emoji: who looks a name up may take an A-label
        # as it stands (RFC 5891 5.3), where UTS 46 knows its characters. It is never shown as anything else.
        if idna.uts46_remap(inner, std3_rules=True) != inner:
            raise
        return label, label
