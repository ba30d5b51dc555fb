"""COMPRESS (RFC 4978): DEFLATE in both directions. The connection bounds what one read may expand to."""

from fastmail.imap.command import Command, Work


def compress(command: Command) -> Work:
    """RFC 4978 3: the answer is the last data that is not compressed."""
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
