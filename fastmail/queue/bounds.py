"""How much the queue takes: messages in all, and recipients an hour of a login and of its domain. 0 stands for any
number."""

from dataclasses import dataclass

from fastmail.queue.spool import Spool
from fastmail.telemetry.counters import count


@dataclass(slots=True)
class Bounds:
    """``messages``: that the queue holds at once; ``login``, ``domain``: recipients in an hour of a login, and of all
    logins of a domain (Spool.enqueue)."""

    messages: int = 0
    login: int = 0
    domain: int = 0

    @property
    def hourly(self) -> tuple[int, int]:
        """The arguments of Spool.enqueue."""
        return self.login, self.domain

    def allow_one_more(self, spool: Spool) -> bool:
        """True if the queue may hold one message more."""
        if self.messages and spool.depth()[0] >= self.messages:
            count("queue.full")
            return False
        return True
