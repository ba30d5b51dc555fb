"""What a protocol implements to be served on a connection (net.connection)."""

from typing import Protocol


class Session(Protocol):
    """What a protocol implements. All methods run on the event loop, and none may block."""

    def connected(self) -> None:
        """Send the greeting."""
        ...

    def feed(self, data: memoryview) -> int:
        """Use what is complete in ``data`` and return how many octets were used.

        Return early once the connection is ``busy``, ``closing`` or ``full``. ``data`` is valid only until feed
        returns."""
        ...

    def tls_started(self) -> None: ...
    def timed_out(self) -> None:
        """The deadline has passed: tell the peer and close."""
        ...

    def ended(self) -> str:
        """Return why its login is no longer valid, in words for the user; empty while it is valid, and before a
        login."""
        ...

    def dismiss(self, why: str) -> None:
        """The login has ended: tell the peer why, and close."""
        ...

    def failed(self) -> None:
        """A command ended with a bug: tell the peer so without any detail, and go on or close."""
        ...

    def lost(self) -> None:
        """The connection is gone: release everything that the session has."""
        ...
