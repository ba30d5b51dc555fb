"""Maildir file names (shared with Dovecot, Courier, qmail, mutt).

``<sec>.M<usec>P<pid>I<instance>Q<n>[C].<host>,S=<octets on disk>,W=<octets as served>[:2,<flags>]``. The instance is 8
hex digits, chosen at each start of the server. A file with the running server's instance and no index record is a
delivery under way; any other file without a record is another program's mail and is added. ``C`` is in the names of
links that COPY or MOVE made: one without a record that was made just before a crash, and whose source message still
exists, is left of an interrupted copy. ``C<account>``, in hex: MOVE brought the message from that account.

``<sec>.M<usec>N<number>.<host>...`` is a delivery of a message from the queue, by whatever instance: it has the same
name when it is repeated. A second copy for the same account has ``R<copy>`` after the number.
"""

import itertools
import os
import re
import socket
import time
from dataclasses import dataclass
from functools import lru_cache

from fastmail.model.flags import from_info, to_info
from fastmail.store.local.index.layout import NEW

NO_INSTANCE = "00000000"  # instance of commands while no server runs
_SIZE = re.compile(r",S=(\d+)(?=[:,]|$)")
_SERVED = re.compile(r",W=(\d+)(?=[:,]|$)")
_OWN = re.compile(rb"\d+\.M\d+P\d+I([0-9a-f]{8})Q\d+(C[0-9a-f]{0,16}|)\.")
_NUMBERED = re.compile(rb"\d+\.M\d+N([0-9a-f]{1,16})(?:R\d+)?\.")
# A name with both sizes as this server writes them, and with letters only in its info part: sizes, info part
_PLAIN = re.compile(rb"[^:,]*,S=(0|[1-9][0-9]*),W=(0|[1-9][0-9]*)(:2,[A-Za-z]*|)")
KEPT = 512  # info parts whose flags are kept
_ORDER = re.compile(r"(\d+)(?:\.M(\d+))?")


class NameMaker:
    """Makes unique base names for one process."""

    def __init__(self, instance: str) -> None:
        self.instance = instance.encode()
        host = socket.gethostname().replace("/", "_").replace(":", "_").replace(",", "_") or "localhost"
        self._tail = f".{host[:64]}"
        self._count = itertools.count(1)
        self._middle = f"P{os.getpid()}I{instance}Q"
        self._tail_octets, self._middle_octets = self._tail.encode(), self._middle.encode()

    def make(self, octets: int, served: int, copy: bool = False, source: int = 0) -> bytes:
        """Return a base name that no file has had. ``copy``: COPY or MOVE makes it; ``source``: number of the account
        that the message comes from, if that is another one."""
        now = time.time_ns()
        mark = f"C{source:x}" if source else "C" if copy else ""
        micro = f"{1_000_000 + now // 1000 % 1_000_000}"[1:]  # six digits; a format with a width takes longer
        return (
            f"{now // 1_000_000_000}.M{micro}{self._middle}{next(self._count)}{mark}{self._tail},S={octets},W={served}"
        ).encode()

    def linked(self, old: bytes) -> tuple[bytes, int]:
        """Return a new name for a copy of a file, and the flags that it has. Sizes and flags are those of the old name;
        letters of keywords are not taken along."""
        plain = _PLAIN.fullmatch(old)
        if plain is not None:  # nearly always; the rest of this function does the same for every name
            size, served, info = plain.groups()
            flags, new_info = _unlettered(info)
            now = time.time_ns()
            middle = b"%d.M%06d%b%dC%b" % (
                now // 1_000_000_000, now // 1000 % 1_000_000, self._middle_octets, next(self._count), self._tail_octets
            )  # fmt: skip
            return b"%b,S=%b,W=%b%b" % (middle, size, served, new_info), flags
        parsed = FileName.parse(old)
        octets, as_served = given_sizes(parsed.base)
        base = self.make(max(octets, 0), max(as_served, 0), True)
        parsed.base = os.fsdecode(base if octets >= 0 else base.partition(b",")[0])
        return parsed.with_flags(parsed.flags, 0), parsed.flags

    def numbered(self, number: int, octets: int, served: int, copy: int = 0) -> bytes:
        """Return the name of a delivery from the queue. ``number``: microseconds since 1970 times 4096, plus a
        counter."""
        seconds, rest = divmod(number >> 12, 1_000_000)
        which = f"R{copy}" if copy else ""
        return f"{seconds}.M{rest:06d}N{number:x}{which}{self._tail},S={octets},W={served}".encode()

    @staticmethod
    def number_in(name: bytes) -> int:
        """Return the queue number in such a name, 0 for any other."""
        match = _NUMBERED.match(name)
        return int(match.group(1), 16) if match is not None else 0

    @staticmethod
    def octets_in(name: bytes) -> int:
        """Return the octets that such a name states, whichever instance made it; 0 for any other name."""
        if _OWN.match(name) is None and _NUMBERED.match(name) is None:
            return 0
        match = _SIZE.search(os.fsdecode(name))
        return int(match.group(1)) if match is not None else 0

    @staticmethod
    def is_ours(name: bytes) -> bool:
        """True if this server software made the name; then the journal has the file's content while it is new."""
        return _OWN.match(name) is not None or _NUMBERED.match(name) is not None

    @staticmethod
    def is_copy(name: bytes) -> bool:
        """True if COPY or MOVE made this file."""
        match = _OWN.match(name)
        return match is not None and bool(match.group(2))

    @staticmethod
    def source_in(name: bytes) -> int:
        """Return the number of the other account that MOVE brought the message from, 0 if there is none."""
        match = _OWN.match(name)
        return int(match.group(2)[1:] or b"0", 16) if match is not None else 0

    def under_way(self, name: bytes) -> bool:
        """True if the running server made this name, or if it belongs to a delivery that may be repeated."""
        match = _OWN.match(name)
        return match.group(1) == self.instance if match is not None else _NUMBERED.match(name) is not None


@dataclass(slots=True)
class FileName:
    """A parsed file name. ``base`` identifies the message; ``foreign``: what other tools put into the info part."""

    base: str
    flags: int
    keywords: int
    foreign: str
    has_info: bool

    @staticmethod
    def parse(name: bytes) -> "FileName":
        text = os.fsdecode(name)
        _, colon, info = text.rpartition(":")
        if not colon:
            return FileName(text, 0, 0, "", False)
        first = text.partition(":")[0]
        if not info.startswith("2,"):
            return FileName(first, 0, 0, "", False)
        flags, keywords, foreign = from_info(info[2:])
        return FileName(first, flags, keywords, foreign, True)

    def with_flags(self, flags: int, keywords: int) -> bytes:
        """Return the name for cur/ with these flags."""
        return os.fsencode(f"{self.base}:2,{to_info(flags, keywords, self.foreign)}")


@lru_cache(KEPT)
def _unlettered(info: bytes) -> tuple[int, bytes]:
    """Return the flags of an info part with its colon, which may be empty, and the part without letters of keywords."""
    parsed = FileName.parse(b"base" + info)
    return parsed.flags, parsed.with_flags(parsed.flags, 0)[len("base") :]


def sizes_in(name: bytes) -> tuple[int, int]:
    """Return (S=, W=) of a name, -1 for a missing one."""
    text = os.fsdecode(name)
    on_disk = _SIZE.search(text)
    served = _SERVED.search(text)
    return int(on_disk.group(1)) if on_disk else -1, int(served.group(1)) if served else -1


def arrival_order(name: bytes) -> tuple[int, int, bytes]:
    """Return the sort key for new files: seconds, microseconds, then the name."""
    match = _ORDER.match(os.fsdecode(name))
    if match is None:
        return 1 << 62, 0, name
    return int(match.group(1)), int(match.group(2) or 0), name


def path_of(directory: str, marked: bytes) -> bytes:
    """Return the path of a file from its mark and name."""
    return os.fsencode(directory) + b"/" + below(marked)


def below(marked: bytes) -> bytes:
    """Return the same path from the mailbox's directory on."""
    return (b"new/" if marked[:1] == NEW else b"cur/") + marked[1:]


def given_sizes(base: str) -> tuple[int, int]:
    """Return (octets, octets as served) as a name states them; (-1, -1) unless it states both."""
    size, served = sizes_in(os.fsencode(base))
    return (size, served) if size >= 0 and served >= 0 else (-1, -1)
