"""Object identifiers (RFC 8474): what a message is, whichever mailbox holds it, and which conversation it belongs to.

A message gets a random mark when it is first stored, kept behind its summary; COPY and MOVE take it along. Behind the
mark lies what else the store decided when it first kept the message (TRAIL). One that an older version stored has its
mark alone; one without a mark is named by a digest of its summary.

A thread is named by a message of it. Alone, a message knows the first one that its References lead to; a store knows
also which thread the messages have that it names (store/local/index/object_ids.py), and writes down what it decided: a
THREADID never changes.
"""

import random
import struct
from hashlib import blake2b
from typing import NamedTuple

from fastmail._core import idents
from fastmail.message import summary

Octets = bytes | bytearray | memoryview
MARK = 8
NOBODY = bytes(MARK)  # instead of the hash of a Message-ID, where there is none
# mark, MODSEQ of the account when the message was created there (0: before there was one), its thread, hash of its
# Message-ID. Readers of summaries look no further than their parts; a store of layout 3 or later understands both.
TRAIL = struct.Struct("<8sQ8s8s")


class Ident(NamedTuple):
    """What names a message: see TRAIL."""

    mark: bytes
    created: int
    thread: bytes
    own: bytes


def named(identification: bytes) -> bytes:
    """What a Message-ID, in its brackets, is called in THREADIDs and tables."""
    return blake2b(identification, digest_size=MARK).digest()


def fresh() -> bytes:
    """A new mark."""
    return random.getrandbits(64).to_bytes(MARK, "little")


def mark(stored: Octets) -> bytes:
    """The mark of a message, empty where it has none."""
    rest = summary.rest(stored)
    return rest[:MARK] if len(rest) in (MARK, TRAIL.size) else b""


def ident(stored: Octets) -> Ident:
    """What names the message whose summary this is."""
    rest = summary.rest(stored)
    if len(rest) == TRAIL.size:
        return Ident(*TRAIL.unpack(rest))
    name = rest if len(rest) == MARK else blake2b(stored, digest_size=MARK).digest()
    own, seed, _ = idents.named(stored)
    return Ident(name, 0, named(seed) if seed else name, named(own) if own else NOBODY)


def kept(made: Octets, stored: Octets) -> bytes:
    """A summary that was made anew of the message whose old one this is: with the same names."""
    return bytes(made[: idents.rest_at(made)]) + TRAIL.pack(*ident(stored))


def email_id(stored: Octets) -> bytes:
    """EMAILID of the message whose summary this is."""
    return b"M" + (mark(stored) or blake2b(stored, digest_size=MARK).digest()).hex().encode()


def thread_id(stored: Octets) -> bytes:
    """THREADID of the same; a message without any identification is a thread of its own."""
    return b"T" + ident(stored).thread.hex().encode()


def mark_of(name: bytes, letter: bytes) -> bytes | None:
    """The mark that an EMAILID (``letter`` M) or a THREADID (T) has in it; None for what cannot be one."""
    if len(name) != 1 + 2 * MARK or name[:1] != letter or name != name[:1] + name[1:].lower():
        return None
    try:
        return bytes.fromhex(name[1:].decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return None


def mailbox_id(key: bytes) -> bytes:
    """MAILBOXID of the mailbox with this key; it stays over RENAME."""
    return b"F%x-%x" % (int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big"))
