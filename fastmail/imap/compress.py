"""COMPRESS (RFC 4978): DEFLATE in both directions. What one read may expand to is bounded by the connection."""

from fastmail.imap.command import Command, Work


def compress(command: Command) -> Work:
    """RFC 4978 3: the answer is the last thing that is not compressed."""
    session, reader = command.session, command.reader
    reader.sp()
    name = reader.atom().upper()
    reader.end()
    if session.conn.deflated:
        command.answer(b"NO [COMPRESSIONACTIVE] DEFLATE is active already")
    elif name != b"DEFLATE":
        command.bad("DEFLATE expected")
    else:
        command.answer(b"OK DEFLATE active")
        session.conn.start_deflate()
    return None
