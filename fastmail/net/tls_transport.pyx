"""TLS (RFC 8446, RFC 5246, by OpenSSL) between a socket's transport and a protocol of this server: to the transport it
is a protocol, to the protocol it is a transport.

The layers of asyncio and uvloop keep a buffer for each connection and give OpenSSL all output at once. OpenSSL's memory
buffers never shrink, so a session that once fetched a message of 1 MB would use more than that while it idles. Here
octets go in and out in pieces of PIECE, input is decrypted straight into the protocol's own buffer, and ciphertext is
received into one buffer for all connections of a worker.

Promise: the protocol is not called before the handshake is done, except ``guard``: it is asked before anything is read,
and no handshake begins with a peer that it does not admit. After ``close`` everything written before is sent, then
close_notify; the socket is then half closed, input that still comes is dropped, and the connection ends with the
peer's end, ``abort``, or after ``patience``. A socket that ends without close_notify counts as ended properly, because
commands are complete in themselves. A handshake that fails or takes longer than ``patience`` ends the connection, and
``failed`` is called with the reason, unless the peer never sent anything: balancers that check whether the port is open
do that all day.
"""

import ssl
from asyncio import BufferedProtocol

cdef object WantRead = ssl.SSLWantReadError
cdef object Failures = (ssl.SSLError, ssl.CertificateError, OSError, ValueError)
cdef Py_ssize_t PIECE = 16384

cdef enum:
    HANDSHAKE
    OPEN
    CLOSING
    CLOSED


cdef class Tls:
    """The server's side of one connection.

    ``failed(transport, error)`` is called for a failed handshake. With ``waiter`` (STARTTLS) the protocol is connected
    already, and the waiter gets the result of the handshake; without it, the protocol's ``connection_made`` is called.
    ``guard.accepted(raw)`` returns a refusal for a peer that is not admitted; ``guard.dropped()`` is called when a
    connection ends before the protocol was connected."""

    cdef object loop, protocol, context, buffer, failed, waiter, guard
    cdef object raw, tls, incoming, outgoing, timer
    cdef double patience
    cdef int state
    cdef Py_ssize_t filled  # octets in the protocol's buffer that were not passed on yet
    cdef bint told, paused, awake, ended, heard

    def __init__(self, loop, protocol, context, buffer, double patience, failed, waiter=None, guard=None):
        self.loop = loop
        self.protocol = protocol
        self.context = context
        self.buffer = buffer
        self.patience = patience
        self.failed = failed
        self.waiter = waiter
        self.guard = guard
        self.told = waiter is not None
        self.state = HANDSHAKE

    # ---------------------------------------------------------------- the socket's calls

    def connection_made(self, raw):
        self.raw = raw
        if self.guard is not None and self.guard.accepted(raw):
            self.state = CLOSED
            raw.abort()
            return
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.timer = self.loop.call_later(self.patience, self._late)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, Py_ssize_t nbytes):
        cdef Py_ssize_t at = 0, end
        self.heard = True
        while at < nbytes and self.state < CLOSING:
            end = min(at + PIECE, nbytes)
            self.incoming.write(self.buffer[at:end])
            at = end
            if self.state == HANDSHAKE:
                self._shake()
            if self.state == OPEN:
                self._decrypt(at < nbytes)
        if self.state == OPEN:
            self._flush()

    def eof_received(self):
        if self.state == HANDSHAKE:
            self._broken(ConnectionResetError("the peer went away in its TLS handshake"))
        elif self.state == OPEN:
            self._ended()
            return self.state == OPEN
        return False

    def connection_lost(self, exc):
        if self.state == HANDSHAKE:
            self._broken(exc or ConnectionResetError("the peer went away in its TLS handshake"))
        self.state = CLOSED
        self._stop_timer()
        protocol, self.protocol = self.protocol, None
        self.raw = self.failed = self.tls = self.incoming = self.outgoing = None
        guard, self.guard = self.guard, None
        if self.told:
            protocol.connection_lost(exc)
        elif guard is not None:
            guard.dropped()

    def pause_writing(self):
        if self.told:
            self.protocol.pause_writing()

    def resume_writing(self):
        if self.told and self.protocol is not None:
            self.protocol.resume_writing()

    # ---------------------------------------------------------------- the protocol's calls

    def write(self, data):
        cdef Py_ssize_t at = 0, size = len(data)
        if self.state != OPEN or not size:
            return
        try:
            if size <= PIECE:
                at = self.tls.write(data)
            if at == size:
                self._flush()
                return
            # Each piece is written by itself: asyncio's writelines never calls pause_writing since Python 3.12, so a
            # client that does not read would go unnoticed. uvloop sends the pieces together anyway.
            view = memoryview(data)
            while at < size:
                at += self.tls.write(view[at : at + PIECE])
                self.raw.write(self.outgoing.read())
        except Failures as error:
            self._broken(error)

    def close(self):
        if self.state == HANDSHAKE:
            self.abort()
        elif self.state == OPEN:
            self.state = CLOSING
            try:
                self.tls.unwrap()
            except Failures:
                pass  # WantRead: our close_notify is written, the peer's has not arrived
            self._flush()
            if self.ended or self.raw.is_closing():
                self.raw.close()
            else:
                self.raw.write_eof()
                self.timer = self.loop.call_later(self.patience, self.abort)

    def abort(self):
        if self.raw is not None:
            self.raw.abort()

    def pause_reading(self):
        self.paused = True
        if self.raw is not None:
            self.raw.pause_reading()

    def resume_reading(self):
        self.paused = False
        if self.raw is None:
            return
        self.raw.resume_reading()
        if not self.awake and self.state == OPEN and (self.incoming.pending or self.tls.pending()):
            self.awake = True
            self.loop.call_soon(self._resumed)

    def get_write_buffer_size(self):
        return self.raw.get_write_buffer_size() if self.raw is not None else 0

    def get_extra_info(self, name, default=None):
        if name == "ssl_object":
            return self.tls
        if self.tls is None:
            return default
        if name == "cipher":
            return self.tls.cipher()
        if name == "peercert":
            return self.tls.getpeercert()
        return self.raw.get_extra_info(name, default) if self.raw is not None else default

    # ---------------------------------------------------------------- inside

    def _shake(self):
        """Continue the handshake."""
        try:
            self.tls.do_handshake()
        except WantRead:
            self._flush()
            return
        except Failures as error:
            self._flush()  # sends the alert that tells the peer why
            self._broken(error)
            return
        self._flush()
        self.state = OPEN
        self._stop_timer()
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            if not waiter.done():
                waiter.set_result(None)
        else:
            self.told = True
            self.protocol.connection_made(self)

    def _decrypt(self, bint more):
        """Pass decrypted input on; when ``more`` follows at once, only a full buffer."""
        cdef Py_ssize_t room, count
        while not self.paused and self.state == OPEN and (self.incoming.pending or self.tls.pending()):
            plain = self.protocol.get_buffer(-1)
            room = len(plain)
            try:
                count = self.tls.read(room - self.filled, plain[self.filled :] if self.filled else plain)
            except WantRead:
                break
            except Failures as error:
                self._hand_on()
                self._flush()
                self._broken(error)
                return
            if not count:
                self._hand_on()
                self._ended()
                return
            self.filled += count
            if self.filled == room:
                self._hand_on()
        if not more:
            self._hand_on()

    def _hand_on(self):
        cdef Py_ssize_t filled = self.filled
        self.filled = 0
        if filled and self.state == OPEN:
            self.protocol.buffer_updated(filled)

    def _resumed(self):
        self.awake = False
        if self.state == OPEN:
            self._decrypt(False)
            self._flush()

    def _flush(self):
        if self.raw is not None and self.outgoing.pending:
            self.raw.write(self.outgoing.read())

    def _ended(self):
        """The peer has closed its sending side."""
        if not self.ended:
            self.ended = True
            if not self.protocol.eof_received():
                self.close()

    def _stop_timer(self):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _late(self):
        self.timer = None
        if self.state == HANDSHAKE:
            self._broken(TimeoutError("the TLS handshake took too long"))

    def _broken(self, error):
        """The TLS connection has failed: nothing can be sent or received any more."""
        early, self.state = self.state == HANDSHAKE, CLOSING
        self._stop_timer()
        if self.raw is not None:
            self.raw.close()
        if not early:
            return
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            if not waiter.done():
                waiter.set_exception(error)
        elif self.failed is not None and self.heard:
            self.failed(self, error)


class TlsTransport(Tls, BufferedProtocol):
    """``Tls`` with the base class by which asyncio recognises a protocol."""

    __slots__ = ()
