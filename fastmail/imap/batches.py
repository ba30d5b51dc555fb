"""UIDBATCHES (RFC 10022): ranges of UIDs with a given number of messages each, so that a client can ask for a mailbox
in pieces without learning all of its UIDs first. The newest batch comes first.
"""

from fastmail._core.imap import ParseError
from fastmail.imap.command import Command, Work

MOST = 100_000  # batches in one answer


def batches(command: Command) -> Work:
    """``UIDBATCHES size [first:last]``: the batches themselves are counted from 1, from the highest UIDs down."""
    session, reader = command.session, command.reader
    selected = session.selected
    assert selected is not None
    reader.sp()
    size = reader.number(True)
    first, last = 1, MOST
    if reader.more():
        at = reader.pos
        first = reader.number(True)
        if not reader.skip(b":"):
            raise ParseError("a range of batches such as 1:10", at)
        last = reader.number(True)
        first, last = min(first, last), max(first, last)
    reader.end()
    uids = selected.uids
    total = -(-len(uids) // size)
    found = []
    for number in range(first, min(last, total) + 1):
        high = len(uids) - (number - 1) * size
        low = max(1, high - size + 1)
        top = uids.uid(high)
        bottom = uids.uid(low - 1) + 1 if low > 1 else 1
        found.append(b"%d:%d" % (top, bottom))
    answer = b" " + b",".join(found) if found else b""
    session.conn.write(b'* UIDBATCHES (TAG "' + command.tag + b'")' + answer + b"\r\n")
    return command.finish(b"OK UIDBATCHES completed")
