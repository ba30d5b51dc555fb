"""The sending side of a connection: replies are queued and leave in one write, and the peer has to read them at a pace.
Replies are compressed after ``start_deflate`` of net.connection (RFC 4978).

Promise: a peer that does not read its replies holds up its own session, at ``drain``; what waits for it in memory never
exceeds the transport's high-water mark, QUEUED and one block. When it reads less than SLOWEST for as long as a command
may take, ``is_reading`` is False and the listener cuts it off.
"""

import asyncio
import contextlib
import fcntl
import termios
import time
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from fastmail.model.limits import Limits
from fastmail.net.unread import Unread

QUEUED = 1 << 17  # octets of replies after which no further command is started before they are sent
LINGER = 30.0  # s that a peer has to read its last replies before it is cut off
SLOWEST = 128  # octets a second at which a message must arrive, and replies must be read, on average
WINDOW = 12  # bits of the compressor's window: it takes 32 KB of memory for a connection that is not idle


class Worker(Protocol):
    """What the sending side needs of the worker: its event loop, its limits, and the account of unread output."""

    unread: Unread
    limits: Limits
    loop: asyncio.AbstractEventLoop


class Sending(asyncio.BufferedProtocol):
    """See the module. ``closing``: no further command is taken; ``deadline``: on the monotonic clock, 0 for none.
    ``full``: so many replies are queued that they must be sent before the next command. Otherwise a client that sends
    thousands of short commands at once could have gigabytes of answers in memory."""

    __slots__ = (
        "__weakref__",
        "_deflate",
        "_fixed",
        "_held",
        "_left",
        "_listener",
        "_out",
        "_queued",
        "_unpaused",
        "closing",
        "counted",
        "deadline",
        "deflated",
        "full",
        "host",
        "transport",
    )

    _listener: Worker

    def __init__(self, listener: Worker) -> None:
        self._listener = listener
        self._out: list[bytes] = []
        self._queued = 0  # octets in _out
        self.full = False  # more than QUEUED; asked before each command
        self._unpaused: asyncio.Future[None] | None = None  # set while output waits for the peer to read
        self._fixed = False  # True: only the session moves the deadline
        self._left = 0  # octets that the peer had not read at the last check
        self._held: tuple[asyncio.TimerHandle, Callable[[], None]] | None = None  # see Connection.hold
        self._deflate: Any = None
        self.deflated = False
        self.closing = False
        self.counted = ""  # the network under which it is counted, see Listener.admit
        self.deadline = 0.0
        self.host = ""
        self.transport: Any = None

    def pause_writing(self) -> None:
        if self._unpaused is None:
            self._unpaused = self._listener.loop.create_future()
            self._listener.unread.add(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._unpaused is not None:
            self._listener.unread.drop(self)
            waiter, self._unpaused = self._unpaused, None
            if not waiter.done():
                waiter.set_result(None)

    def write(self, data: bytes) -> None:
        """Queue a reply; it is sent with the rest of this batch."""
        self._out.append(data)
        self._queued += len(data)
        if self._queued > QUEUED:
            self.full = True

    def charge(self, share: float) -> None:
        """Note that a command which was answered at once used this share of the work that one session may do before
        others have a turn. After the whole share the connection is ``full``, however short the replies were."""
        self._queued += int(share * QUEUED)
        self.full = self._queued > QUEUED

    def flush(self) -> None:
        """Send what is queued, unless it is held back."""
        if self._held is not None:
            return
        self._queued, self.full, out = 0, False, self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self.transport is None:
            return
        if self.deflated:
            if self._deflate is None:
                self._deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW, 5)
            data = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self.transport.write(data)

    def rest(self) -> None:
        """Release what an idle connection does not need: the next reply gets a new compressor."""
        self._deflate = None

    async def drain(self) -> None:
        """Send what is queued, and wait while the peer does not read. ConnectionError when the peer is gone."""
        self.flush()
        if self._unpaused is not None:
            before, patience = self.deadline, self._listener.limits.command_timeout
            if not self._fixed:
                self.touch(patience)
            self._left = self._untaken()
            await asyncio.shield(self._unpaused)
            if not self._fixed and not self.closing:
                self.deadline = max(before, time.monotonic() + patience)
        else:
            await asyncio.sleep(0)  # let other sessions run between two blocks
        if self.transport is None:
            raise ConnectionResetError("peer is gone")

    def touch(self, seconds: float, fixed: bool = False) -> None:
        """Set the deadline: the session's ``timed_out`` is called after so many seconds without another ``touch``.

        ``fixed``: the deadline also holds for a peer that is busy reading replies."""
        self.deadline = time.monotonic() + seconds
        self._fixed = fixed

    @property
    def stalled(self) -> bool:
        """True while output waits for the peer to read."""
        return self._unpaused is not None

    def is_reading(self) -> bool:
        """Called at the deadline: return True if output waits and the peer has read enough of it since the last call.
        Then the deadline is moved by the same time again.

        Octets in the system's send buffer count as not read."""
        if self._fixed or self.transport is None or not (self._unpaused is not None or self.closing):
            return False
        patience = self._listener.limits.command_timeout if not self.closing else LINGER
        before, self._left = self._left, self._untaken()
        if not before or before - self._left < min(before, SLOWEST * patience):
            return False
        self.touch(patience)
        return True

    def _untaken(self) -> int:
        """Octets that were written and that the peer has not acknowledged."""
        waiting: int = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            waiting += int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
        return waiting

    def progress(self, begun: float, octets: int, seconds: float) -> None:
        """Move the deadline for an upload: ``octets`` of a message have come since ``begun``. A client that sends very
        slowly gets only the time that its octets are worth at SLOWEST."""
        self.deadline = min(time.monotonic(), begun + octets / SLOWEST) + seconds

    def abort(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.abort()
