"""Control files that Dovecot and Courier leave in a Maildir. UIDs, keywords, POP3 UIDLs and order, subscriptions,
access control lists and quotas are read from them, and written for Dovecot when an account returns to it.

All access goes through durable.beneath: a link or another file that is not regular counts as missing.

Reading: of a damaged file, what is credible is used (new UIDs are better than wrong ones; see damaged_uidlists); it is
never repaired. Writing: each file appears completely or not at all, synced, and belongs to the Maildir's owner.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastmail.durable import beneath
from fastmail.durable.replace import make_directories, replace_file
from fastmail.model import rights
from fastmail.model.errors import CannotDo
from fastmail.model.flags import LETTERED_KEYWORDS, MAX_KEYWORDS
from fastmail.model.mailbox_name import INBOX, canonical
from fastmail.store.local.dovecot import damaged_uidlists, index_files
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.folders import control_directory, control_root, decoded, encoded
from fastmail.store.local.maildir.home import Home
from fastmail.telemetry import log

LARGEST = 256 << 20  # octets read of a control file at most
LAST_PLACE = 0xFFFFFFFF  # in the order of POP3: the index keeps four octets
_UIDL = re.compile(rb"[\x21-\x7e]{0,1000}")  # RFC 1939 7 has at most 70, base names are longer
_GIVEN = re.compile(rb"[0-9a-f]{8}")
UIDVALIDITY = "dovecot-uidvalidity"
TEN_YEARS = 315_000_000
_WORD = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ESCAPES = {b"\x010": b"\0", b"\x011": b"\x01", b"\x01t": b"\t", b"\x01r": b"\r", b"\x01n": b"\n"}


def _read(directory: str, name: str, most: int = LARGEST) -> bytes | None:
    try:
        return beneath.read(os.path.join(directory, name), most)
    except OSError:
        return None


def read_control(directory: str, indexes: str) -> Control:
    """Return everything that is known of a mailbox; empty if there is nothing, or nothing sound. ``indexes``: directory
    of Dovecot's index files."""
    found = Control()
    for name in ("dovecot-uidlist", "courierimapuiddb"):
        data = _read(directory, name)
        if data is None:
            continue
        parsed = parse_uidlist(data) if data.endswith(b"\n") else None
        if parsed is None:
            parsed = _damaged_uidlist(data)
            kept = len(parsed.uids) if parsed is not None else 0
            log.event("store.uidlist", "warning", mailbox=directory, file=name, why="damaged", kept=kept)
        if parsed is not None:
            found = parsed
            break
    _ask_index(found, indexes)
    found.words = read_keywords(directory)
    if not found.words:
        _courier_keywords(directory, found)
    elif found.uids:
        take_overflow(found, indexes)
    if not found.pop3:
        data = _read(directory, "courierpop3dsizelist")
        found.pop3 = parse_sizelist(data) if data is not None else {}
    return found


def _is_word(word: bytes) -> bool:
    """True if it can be a keyword here."""
    return len(word) <= index_files.MAX_WORD and _WORD.fullmatch(word) is not None


def take_overflow(found: Control, indexes: str) -> None:
    """Add keywords that have no letter in file names, as far as there is room for them."""
    bases = {uid: base for base, uid in found.uids.items()}
    having = index_files.read(indexes, found.uidvalidity, sorted(bases), found.words)
    for word, uids in sorted(having.items()):
        if not _is_word(word):
            continue
        found.words += [b"unknown-%d" % n for n in range(len(found.words), LETTERED_KEYWORDS)]
        if len(found.words) == MAX_KEYWORDS:
            break
        bit = 1 << len(found.words)
        found.words.append(word)
        for uid in uids:
            found.keywords[bases[uid]] = found.keywords.get(bases[uid], 0) | bit


def parse_uidlist(data: bytes) -> Control | None:
    """Parse ``dovecot-uidlist`` version 3 or 1, or ``courierimapuiddb`` (which has the form of version 1). None if it
    is damaged or of an undocumented version."""
    lines = data.replace(b"\r", b"").split(b"\n")
    header = lines[0].split(b" ")
    out = Control()
    try:
        if header[0] == b"3":
            fields = {token[:1]: token[1:] for token in header[1:] if token}
            out.uidvalidity, out.uidnext = _int(fields[b"V"]), _int(fields[b"N"])
        elif header[0] == b"1":
            out.uidvalidity, out.uidnext = _int(header[1]), _int(header[2])
        else:
            return None
        last = 0
        for line in lines[1:]:
            if not line:
                continue
            number, _, rest = line.partition(b" ")
            uid = _int(number)
            more = b""
            if header[0] == b"3":
                at = 0 if rest.startswith(b":") else rest.find(b" :") + 1
                more, name = rest[:at], rest[at + 1 :] if rest[at : at + 1] == b":" else b""
            else:
                name = rest
            if uid <= last or not name:
                return None
            last = uid
            base = name.partition(b":")[0]
            out.uids[base] = uid
            if more:
                _pop3_fields(out, base, more)
    except (ValueError, IndexError, KeyError):
        return None
    if not 0 < out.uidvalidity <= 0xFFFFFFFF or not 0 < out.uidnext <= 0xFFFFFFFF or last >= 0xFFFFFFFF:
        return None
    out.uidnext = max(out.uidnext, last + 1)
    return out


def _int(text: bytes) -> int:
    """Return a decimal number as these files have them. ValueError for other forms that int() accepts."""
    if not text.isdigit() or len(text) > 10:
        raise ValueError("not a number")
    return int(text)


def _damaged_uidlist(data: bytes) -> Control | None:
    """Return what is credible in a damaged list."""
    found = damaged_uidlists.salvage(data)
    if found is None:
        return None
    out = Control(found.uidvalidity, found.uidnext, torn=found.torn)
    for line in found.lines:
        out.uids[line.base] = line.uid
        with contextlib.suppress(ValueError):
            _pop3_fields(out, line.base, line.more)
    return out


def _ask_index(found: Control, indexes: str) -> None:
    """Raise UIDNEXT above the UIDs in Dovecot's index, and take UIDVALIDITY from it if the list has none."""
    validity, following = index_files.numbers(indexes) if found.uids or found.uidvalidity else (0, 0)
    found.uidvalidity = found.uidvalidity or validity
    if following and validity == found.uidvalidity:
        found.uidnext, found.torn = max(found.uidnext, min(following, damaged_uidlists.MOST)), False


def uidnext_of_damaged(directory: str, uidvalidity: int) -> int:
    """Return a number above every UID that a damaged ``dovecot-uidlist`` seems to have; 1 if it has none or another
    UIDVALIDITY. A UID must not be used twice."""
    found = damaged_uidlists.salvage(_read(directory, "dovecot-uidlist") or b"")
    return found.uidnext if found is not None and found.uidvalidity in (0, uidvalidity) else 1


def _pop3_fields(out: Control, base: bytes, more: bytes) -> None:
    """Take ``P`` (UIDL; empty for the base name) and ``O`` (order) of a record."""
    fields = {token[:1]: token[1:] for token in more.split(b" ") if token}
    uidl = fields.get(b"P")
    order = min(_int(fields.get(b"O", b"0")), LAST_PLACE)
    if uidl is not None and not _UIDL.fullmatch(uidl):
        uidl = None
    if uidl is not None or order:
        out.pop3[base] = order, base if uidl == b"" else uidl or b""


def read_keywords(directory: str) -> list[bytes]:
    """Return the names of the letters a, b, ... from ``dovecot-keywords``; gaps become ``unknown-<n>``."""
    names: dict[int, bytes] = {}
    known: set[bytes] = set()
    for line in (_read(directory, "dovecot-keywords", 65536) or b"").replace(b"\r", b"").split(b"\n"):
        number, space, word = line.partition(b" ")
        if not space or not number.isdigit() or len(number) > 2 or int(number) >= LETTERED_KEYWORDS:
            continue
        if _is_word(word) and int(number) not in names and word.lower() not in known:
            names[int(number)] = word
            known.add(word.lower())
    return [names.get(i, b"unknown-%d" % i) for i in range(max(names, default=-1) + 1)]


def _courier_keywords(directory: str, out: Control) -> None:
    """Read ``courierimapkeywords``: names and the keywords of each base name; then later changes, one file each."""
    place = os.path.join(directory, "courierimapkeywords")
    head, _, rest = (_read(place, ":list") or b"").partition(b"\n\n")
    known = {word: bit for bit, word in enumerate(head.split(b"\n")[:MAX_KEYWORDS]) if _is_word(word)}
    for line in rest.split(b"\n"):
        base, colon, numbers = line.rpartition(b":")
        if colon:
            bits = [int(number) for number in numbers.split() if number.isdigit() and len(number) < 3]
            out.keywords[base] = sum(1 << bit for bit in set(bits) if bit in known.values())
    try:
        there = [os.fsencode(name) for name in beneath.names(place)]
        names = sorted(there, key=lambda name: (not name.startswith(b"."), name))
    except OSError:
        names = []
    for name in names:
        if name.startswith(b":"):
            continue
        base = re.sub(rb"^\.\d+\.", b"", name)
        words = (_read(place, os.fsdecode(name), 65536) or b"").split(b"\n")
        good = [word for word in words if _is_word(word)]
        for word in good:
            if word not in known and max(known.values(), default=-1) < MAX_KEYWORDS - 1:
                known[word] = max(known.values(), default=-1) + 1
        out.keywords[base] = sum(1 << known[word] for word in set(good) if word in known)
    named = {bit: word for word, bit in known.items()}
    out.words = [named.get(bit, b"unknown-%d" % bit) for bit in range(max(named, default=-1) + 1)]


def parse_sizelist(data: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Parse ``courierpop3dsizelist`` version 0 to 3: order and UIDL of each base name."""
    lines = data.split(b"\n")
    version = int(lines[0][1:2]) if lines[0][:1] == b"/" and lines[0][1:2].isdigit() else 0
    out: dict[bytes, tuple[int, bytes]] = {}
    for order, line in enumerate(lines[1 if version else 0 :], 1):
        words = line.split(b" ")
        if len(words) < 2:
            continue
        base = words[0].rpartition(b"/")[2].partition(b":")[0]
        number, validity = 0, b"0"
        if version and len(words) > 2:
            parts = words[2].split(b":")
            number = int(parts[0]) if parts[0].isdigit() and len(parts[0]) <= 10 else 0
            validity = parts[1] if version > 1 and len(parts) > 1 else b"0"
        if number:
            uidl = b"UID%d" % number + (b"-" + validity if validity not in (b"0", b"") else b"")
        else:
            uidl = courier_uidl(base)
        if _UIDL.fullmatch(uidl):
            out[base] = order, uidl
    return out


def courier_uidl(base: bytes) -> bytes:
    """Return a base name as Courier's POP3 server shows it for a UIDL."""
    return b"".join(b"+%02X" % c if c < 0x21 or c > 0x7E or c in b"'\"+" else bytes([c]) for c in base)


def read_subscriptions(home: Home) -> list[str] | None:
    """Return the subscribed names with "/" between levels, from Dovecot's ``subscriptions`` or Courier's
    ``courierimapsubscribed``.

    None if neither exists, nor any other file of theirs: an account without subscriptions has no such file."""
    directory = control_root(home)
    data = _read(directory, "subscriptions", 16 << 20)
    if data is not None:
        return parse_subscriptions(home, data)
    data = _read(directory, "courierimapsubscribed", 16 << 20)
    if data is None:
        place = control_directory(home, INBOX)
        theirs = any(beneath.exists(os.path.join(place, name)) for name in ("dovecot-uidlist", "courierimapuiddb"))
        return [] if theirs else None
    names = [line if line == b"INBOX" else line.removeprefix(b"INBOX.") for line in data.split(b"\n")]
    return _usable(home, (name.replace(b".", b"/") for name in names))


def parse_subscriptions(home: Home, data: bytes) -> list[str]:
    """Parse version 2 (with a header, tabs between levels) or 1 (the layout's separator between levels)."""
    if not data.startswith(b"V\t2\n"):
        between = b"/" if home.layout == "fs" else b"."
        return _usable(home, (line.replace(between, b"/") for line in data.split(b"\n")))
    lines = data.split(b"\n")[1:]
    parts = [[_ESCAPE.sub(lambda m: _ESCAPES[m.group(0)], part) for part in line.split(b"\t")] for line in lines]
    return _usable(home, (b"/".join(levels) for levels in parts))


_ESCAPE = re.compile(rb"\x01[01trn]")


def _usable(home: Home, names: Iterable[bytes]) -> list[str]:
    out = []
    for name in names:
        if not name:
            continue
        try:
            out.append(canonical(decoded(home, name), "/", home.layout == "fs"))
        except CannotDo:
            continue
    return out


# ---------------------------------------------------------------- for an account that goes back


@dataclass(slots=True)
class Kept:
    """One message as a uidlist has it."""

    uid: int
    base: bytes
    order: int = 0
    uidl: bytes = b""


def uidlist(uidvalidity: int, uidnext: int, guid: bytes, messages: Sequence[Kept]) -> bytes:
    """Return ``dovecot-uidlist`` version 3. ``guid``: 32 hex digits, empty to let Dovecot make one."""
    out = [b"3 V%d N%d" % (uidvalidity, uidnext) + (b" G" + guid if guid else b"") + b"\n"]
    for one in messages:
        fields = b" O%d" % one.order if one.order else b""
        if one.uidl:
            fields += b" P" + (b"" if one.uidl == one.base else one.uidl)
        out.append(b"%d%b :%b\n" % (one.uid, fields, one.base))
    return b"".join(out)


def guid_of(directory: str) -> bytes:
    """Return the mailbox's GUID in the present uidlist."""
    head = (_read(directory, "dovecot-uidlist", 4096) or b"").partition(b"\n")[0]
    found = re.search(rb" G([0-9a-f]{32})(?: |$)", head)
    return found.group(1) if found else b""


def keyword_file(words: Sequence[bytes]) -> bytes:
    """Return ``dovecot-keywords`` with the names that have a letter."""
    return b"".join(b"%d %b\n" % (i, word) for i, word in enumerate(words[:26]))


def subscription_file(home: Home, names: Iterable[str]) -> bytes:
    """Return ``subscriptions`` version 2."""
    coded = (os.fsencode(encoded(home, name)) for name in sorted(names))
    lines = [b"\t".join(_escape(part) for part in name.split(b"/")) for name in coded]
    return b"V\t2\n\n" + b"".join(line + b"\n" for line in lines)


def _escape(part: bytes) -> bytes:
    return re.sub(rb"[\x00\x01\t\r\n]", lambda m: {v: k for k, v in _ESCAPES.items()}[m.group(0)], part)


def write(directory: str, name: str, data: bytes) -> None:
    """Write a control file, which gets the directory's owner."""
    replace_file(os.path.join(directory, name), data, like=directory)


def last_uidvalidity(home: Home) -> int:
    """Return the highest UIDVALIDITY that Dovecot has used in an account.

    It is eight hexadecimal digits in ``dovecot-uidvalidity`` and in the name of an empty file beside it. 0 if there is
    none, or if no clock explains it."""
    place = control_root(home)
    said = [_read(place, UIDVALIDITY, 9) or b""]
    with contextlib.suppress(OSError):
        said += [os.fsencode(name[len(UIDVALIDITY) + 1 :]) for name in _markers(place)]
    given = max((int(text, 16) for text in said if _GIVEN.fullmatch(text)), default=0)
    return given if given < time.time() + TEN_YEARS else 0


def write_last_uidvalidity(home: Home, last: int) -> None:
    """Raise that number, so that Dovecot continues above it."""
    place = control_root(home)
    if last <= last_uidvalidity(home):
        return
    make_directories(place)
    before = _markers(place)
    write(place, f"{UIDVALIDITY}.{last:08x}", b"")
    write(place, UIDVALIDITY, b"%08x" % last)
    for name in before:
        with contextlib.suppress(FileNotFoundError):
            beneath.unlink(os.path.join(place, name))


def _markers(place: str) -> list[str]:
    form = re.compile(re.escape(UIDVALIDITY) + r"\.[0-9a-f]{8}")
    return [name for name in beneath.names(place) if form.fullmatch(name)]


# -------------------------------------------------------------------- access control lists and quotas


def read_acl(directory: str, owner: str) -> tuple[rights.Acl, list[str]]:
    """Return (list in ``dovecot-acl`` or ``courierimapacl``; entries that are not supported, such as groups)."""
    acl: rights.Acl = {}
    left: list[str] = []
    data = _read(directory, "dovecot-acl", 1 << 20) or _read(directory, "courierimapacl", 1 << 20) or b""
    for line in data.decode("utf-8", "replace").split("\n"):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        who, _, letters = text.partition(" ")
        sign = "-" if who.startswith("-") else ""
        name = who.removeprefix("-").strip('"')
        if name == "owner":
            name = owner
        elif name in ("anyone", "authenticated"):
            name = rights.ANYONE
        elif name.startswith("user="):
            name = name[5:].strip('"')
        else:
            left.append(text)
            continue
        try:
            key = rights.identifier(sign + name, rights.domain_of(owner))
            held = rights.parse(letters.partition(":")[0].strip())
        except CannotDo:
            left.append(text)
            continue
        acl[key] = rights.union(acl.get(key, ""), held)
    return acl, left


def acl_file(acl: rights.Acl, owner: str) -> bytes:
    """Return ``dovecot-acl``, or Courier's ``courierimapacl``, which has the same form: identifier, space, letters."""
    lines = []
    for key, letters in sorted(acl.items()):
        sign, name = ("-", key[1:]) if key.startswith("-") else ("", key)
        kind = "group" if name.startswith(rights.GROUP) else "user"
        named = f"{kind}={name.removeprefix(rights.GROUP)}"
        who = "anyone" if name == rights.ANYONE else "owner" if name == owner else named
        lines.append(f"{sign}{who} {letters}\n")
    return "".join(lines).encode()


def read_limits(directory: str) -> tuple[int, int]:
    """Return (octets, messages) that the first line of ``maildirsize`` allows; 0 for no limit or no file."""
    data = _read(directory, "maildirsize", 65536)
    octets = messages = 0
    for word in (data or b"").split(b"\n")[0].split(b","):
        number, kind = word[:-1], word[-1:]
        if number.isdigit() and len(number) < 19:
            octets = int(number) if kind == b"S" else octets
            messages = int(number) if kind == b"C" else messages
    return octets, messages
