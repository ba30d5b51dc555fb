"""Object identifiers (RFC 8474): EMAILID, which a message keeps in whichever mailbox it is, and THREADID of its
conversation.

A message gets a random EMAILID when it is first stored. It is kept after the message's summary, and COPY and MOVE take
it along. What else the store decided when it first stored the message follows (TRAIL). A message that an older version
stored has only its EMAILID there; one without any is identified by a digest of its summary.

A thread has the name of one of its messages. By itself, a message knows only the first message that its References lead
to. The store also knows the threads of the messages that it refers to (store/local/index/object_ids.py), and records
its decision: a THREADID never changes.
"""

import random
import struct
from hashlib import blake2b
from typing import NamedTuple

from fastmail._core import idents
from fastmail.message import summary
from fastmail.model.keys import account_of, mailbox_of

Octets = bytes | bytearray | memoryview
ID_OCTETS = 8  # octets of an EMAILID or THREADID, before they are written in hexadecimal
NOBODY = bytes(ID_OCTETS)  # instead of the hash of a Message-ID, where there is none
# See Ident; the compiled reader has its offsets from _core/summary.pxd. Readers of summaries look no further than their
# parts; a store of layout 3 or later understands both.
TRAIL = struct.Struct("<8sQ8s8s")


class Ident(NamedTuple):
    """The ids of a message."""

    email: bytes  # EMAILID
    created: int  # MODSEQ of the account when the message was created there; 0: before there was one
    thread: bytes
    own: bytes  # hash of its Message-ID


def named(identification: bytes) -> bytes:
    """Return the octets by which a Message-ID, given in its brackets, is known in THREADIDs and tables."""
    return blake2b(identification, digest_size=ID_OCTETS).digest()


def fresh() -> bytes:
    """Return the octets of a new EMAILID."""
    return random.getrandbits(64).to_bytes(ID_OCTETS, "little")


def email(stored: Octets) -> bytes:
    """Return the octets of a message's EMAILID, empty if it has none."""
    rest = summary.rest(stored)
    return rest[:ID_OCTETS] if len(rest) in (ID_OCTETS, TRAIL.size) else b""


def ident(stored: Octets) -> Ident:
    """Return the ids of the message with this summary."""
    rest = summary.rest(stored)
    if len(rest) == TRAIL.size:
        return Ident(*TRAIL.unpack(rest))
    name = rest if len(rest) == ID_OCTETS else blake2b(stored, digest_size=ID_OCTETS).digest()
    own, seed, _ = idents.named(stored)
    return Ident(name, 0, named(seed) if seed else name, named(own) if own else NOBODY)


def kept(made: Octets, stored: Octets) -> bytes:
    """Return a new summary of a message with the ids of its old one."""
    return bytes(made[: idents.rest_at(made)]) + TRAIL.pack(*ident(stored))


def email_id(stored: Octets) -> bytes:
    """Return the EMAILID of the message with this summary."""
    return b"M" + (email(stored) or blake2b(stored, digest_size=ID_OCTETS).digest()).hex().encode()


def thread_id(stored: Octets) -> bytes:
    """Return its THREADID. A message that nothing identifies is a thread of its own."""
    return b"T" + ident(stored).thread.hex().encode()


def octets_of(name: bytes, letter: bytes) -> bytes | None:
    """Return the octets in an EMAILID (``letter`` M) or a THREADID (T), None if it has another form."""
    if len(name) != 1 + 2 * ID_OCTETS or name[:1] != letter or name != name[:1] + name[1:].lower():
        return None
    try:
        return bytes.fromhex(name[1:].decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return None


def mailbox_id(key: bytes) -> bytes:
    """Return the MAILBOXID of the mailbox with this key; RENAME does not change it."""
    return b"F%x-%x" % (account_of(key), mailbox_of(key))
