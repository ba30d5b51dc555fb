"""Object identifiers (RFC 8474): what a message is, whichever mailbox holds it, and which conversation it belongs to.

A message gets a random mark when it is first stored, kept behind its summary; COPY and MOVE take it along. One
without a mark (stored by an older version) is named by a digest of its summary. A thread is named by the first
message that its References lead to, so that every reply of one conversation has the same name, now and later.
"""

import random
import re
from hashlib import blake2b

from fastmail._core import fetch
from fastmail.message import summary

Octets = bytes | bytearray | memoryview
MARK = 8
_ID = re.compile(rb"<[^<>\s]+>")


def marked(made: Octets) -> bytes:
    """A summary with a mark behind it; one that has a mark keeps it."""
    if len(summary.rest(made)) == MARK:
        return bytes(made)
    return bytes(made) + random.getrandbits(64).to_bytes(MARK, "little")


def email_id(stored: Octets) -> bytes:
    """EMAILID of the message whose summary this is."""
    mark = summary.rest(stored)
    if len(mark) != MARK:
        mark = blake2b(stored, digest_size=MARK).digest()
    return b"M" + mark.hex().encode()


def thread_id(stored: Octets, parsed: summary.Summary) -> bytes:
    """THREADID of the same; a message without any identification is a thread of its own."""
    for name in (b"references", b"in-reply-to", b"message-id"):
        found = _ID.search(fetch.header_fields(parsed.header, (name,), False))
        if found is not None:
            return b"T" + blake2b(found.group(0), digest_size=MARK).hexdigest().encode()
    return b"T" + email_id(stored)[1:]


def mailbox_id(key: bytes) -> bytes:
    """MAILBOXID of the mailbox with this key; it stays over RENAME."""
    return b"F%x-%x" % (int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big"))
