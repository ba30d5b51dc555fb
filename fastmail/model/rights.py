"""Rights on mailboxes (RFC 4314 2): who may do what, as letters, and the list of a mailbox as it is stored.

A list maps identifiers to rights. An identifier is an address, ``$`` and the name of a group (``$team@example.org``),
or ``anyone``; with ``-`` in front its rights are taken away. The owner has all rights where the list does not name it,
and always those to see the mailbox and to set rights.
"""

from collections.abc import Iterable
from functools import lru_cache

from fastmail.model import domain as names
from fastmail.model.address import spellings
from fastmail.model.errors import BadAddress, CannotDo
from fastmail.model.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

ALL = "lrswipkxtea"
OWNERS = "la"  # what cannot be taken from the owner
ANYONE = "anyone"
GROUP = "$"  # what the name of a group has in front; so nobody is named by an address that begins with it
LONGEST = 320  # characters of an identifier: the longest address (RFC 5321 4.5.3.1)
OBSOLETE = {"c": "kx", "d": "te"}  # RFC 4314 2.1.1
CHANGES = "swipkxtea"  # all but to see and to read
WRITES = "swite"  # with one of them a mailbox is not READ-ONLY (RFC 4314 5.2)
FLAGS = {"s": SEEN, "t": DELETED, "w": ANSWERED | FLAGGED | DRAFT}
Acl = dict[str, str]


class BadRights(CannotDo):
    """Letters that name no right."""


def parse(letters: str) -> str:
    """Letters from a client, in the usual order; BadRights for unknown ones."""
    for old, new in OBSOLETE.items():
        letters = letters.replace(old, new)
    unknown = set(letters) - set(ALL)
    if unknown:
        raise BadRights("unknown right: " + "".join(sorted(unknown)))
    return union(letters)


def union(*letters: str) -> str:
    """All of them, in the usual order."""
    held = set("".join(letters))
    return "".join(letter for letter in ALL if letter in held)


def minus(letters: str, less: str) -> str:
    return "".join(letter for letter in letters if letter not in less)


def shown(letters: str) -> str:
    """As a client is told, with the letters that older clients look for."""
    return letters + "".join(old for old, new in OBSOLETE.items() if set(new) & set(letters))


def identifier(text: str, domain: str) -> str:
    """A client's identifier in its one form: lower case, with a domain; CannotDo where there can be none such."""
    sign = "-" if text.startswith("-") else ""
    name = text[len(sign) :].lower()
    if name == ANYONE:
        return sign + name
    bad = not name.isprintable() or "\ufffd" in name or any(c in name for c in ' \t*%\\"(){}')
    if not name or len(name) > LONGEST or bad:
        raise CannotDo("this identifier cannot be: an address or anyone")
    local, at, named = name.rpartition("@")
    if not at:
        return f"{sign}{name}@{domain}"
    try:
        return f"{sign}{local}@{names.mapped_name(named)}"
    except BadAddress:
        raise CannotDo("this identifier cannot be: its domain is none") from None


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def evaluate(acl: Acl, owner: str, who: str, anyone: bool = True, groups: Iterable[str] = ()) -> str:
    """The rights of ``who`` on a mailbox of ``owner`` (addresses). ``anyone`` is everybody in the owner's domain; where
    it does not count, it gives no rights, and still takes some away. ``groups``: the names of those that ``who`` is
    in."""
    known = names.comparable(domain_of(owner)) == names.comparable(domain_of(who))
    mine = [] if who.startswith(GROUP) else list(spellings(who))
    teams = [GROUP + one for group in groups for one in spellings(group)]
    own = [acl[one] for one in mine if one in acl] or [ALL if who == owner else ""]
    shared = [acl[one] for one in teams if one in acl]
    granted = union(*own, *shared, acl.get(ANYONE, "") if known and anyone else "")
    denied = "".join(acl.get("-" + one, "") for one in (*mine, *teams)) + (acl.get("-" + ANYONE, "") if known else "")
    return union(minus(granted, denied), OWNERS if who == owner else "")


@lru_cache(256)
def flags(held: str) -> int:
    """The flags that these rights may change (RFC 4314 4); keywords go with ``w``."""
    return sum(bits for right, bits in FLAGS.items() if right in held)


def load(stored: bytes | None) -> Acl:
    """A list as ``dump`` made it."""
    lines = stored.decode().split("\n") if stored else []  # names may have what else ends lines
    return {name: letters for name, _, letters in (line.rpartition(" ") for line in lines)}


def dump(acl: Acl) -> bytes | None:
    """As it is stored; None for an empty one."""
    return "\n".join(f"{name} {letters}" for name, letters in sorted(acl.items())).encode() or None
