"""COMPRESS (RFC 4978): DEFLATE in both directions. What one read may expand to is bounded by the connection."""

from typing import TYPE_CHECKING

from fastmail._core.imap import Reader
from fastmail.imap.authenticate import Work

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession


def compress(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4978 3: the answer is the last thing that is not compressed."""
    reader.sp()
    name = reader.atom().upper()
    reader.end()
    if session.conn.deflated:
        session.conn.write(tag + b" NO [COMPRESSIONACTIVE] DEFLATE is active already\r\n")
    elif name != b"DEFLATE":
        session.bad(tag, "DEFLATE expected")
    else:
        session.conn.write(tag + b" OK DEFLATE active\r\n")
        session.conn.start_deflate()
    return None
