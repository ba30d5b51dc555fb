"""CAPABILITY, NOOP, LOGOUT (RFC 3501 6.1.1 to 6.1.3) and STARTTLS (6.2.1)."""

from fastmail.imap.capabilities import capabilities
from fastmail.imap.command import Command, Work


def capability(command: Command) -> Work:
    """RFC 3501 6.1.1."""
    session = command.session
    command.reader.end()
    session.conn.write(b"* CAPABILITY " + capabilities(session) + b"\r\n")
    return command.finish(b"OK CAPABILITY completed")


def noop(command: Command) -> Work:
    """RFC 3501 6.1.2."""
    command.reader.end()
    return command.finish(b"OK NOOP completed")


def logout(command: Command) -> Work:
    """RFC 3501 6.1.3."""
    session = command.session
    command.reader.end()
    session.conn.write(b"* BYE logging out\r\n" + command.tag + b" OK LOGOUT completed\r\n")
    session.deselect()
    session.conn.close()
    return None


def starttls(command: Command) -> Work:
    """RFC 3501 6.2.1."""
    session = command.session
    command.reader.end()
    if session.conn.tls:
        command.bad("TLS is on already")
    elif not session.conn.tls_available:
        command.bad("TLS is not available")
    else:
        command.answer(b"OK begin TLS now")
        session.conn.start_tls()
    return None
