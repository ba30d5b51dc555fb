"""Limits of the queue: messages in all, and recipients an hour for a login and for its domain. 0 means no limit."""

from dataclasses import dataclass

from fastmail.queue.spool import Spool
from fastmail.telemetry.counters import count


@dataclass(slots=True)
class Bounds:
    """``messages``: in the queue at once; ``login``, ``domain``: recipients an hour for one login, and for all logins
    of a domain (Spool.enqueue)."""

    messages: int = 0
    login: int = 0
    domain: int = 0

    @property
    def hourly(self) -> tuple[int, int]:
        """The hourly limits, in the order of Spool.enqueue's arguments."""
        return self.login, self.domain

    def allow_one_more(self, spool: Spool) -> bool:
        """Return True if the queue may take one more message."""
        if self.messages and spool.depth()[0] >= self.messages:
            count("queue.full")
            return False
        return True
