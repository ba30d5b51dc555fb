"""Answers connections while no worker can serve them: "not now" in the protocol's words, then closes them.

Without it the kernel would accept connections that nobody answers, and every client would wait until its own time
limit.
"""

import contextlib
import socket

MOST = 256  # connections of one socket at a time; the next ones a moment later
TLS = ("submissions", "imaps", "pop3s")  # nothing can be said there before a handshake


def words(protocol: str, hostname: str) -> bytes:
    """RFC 5321 3.8 and 4.2.3, RFC 9051 7.1.5, RFC 3206 4."""
    if protocol in TLS:
        return b""
    if protocol == "imap":
        return b"* BYE [UNAVAILABLE] not possible now, try again later\r\n"
    if protocol == "pop3":
        return b"-ERR [SYS/TEMP] not possible now, try again later\r\n"
    return f"421 4.3.2 {hostname} not possible now, try again later\r\n".encode()


def waiting(protocol: str, listening: socket.socket, hostname: str) -> int:
    """Answer the connections that wait at a socket that nobody else accepts from now; how many there were."""
    for done in range(MOST):
        try:
            connection, _ = listening.accept()
        except OSError:
            return done
        with connection, contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(words(protocol, hostname))
            connection.shutdown(socket.SHUT_WR)
    return MOST
