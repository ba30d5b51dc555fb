"""Limits of the queue: messages in all, recipients an hour for a login and for its domain, recipients and messages an
hour for a network that sends without a login. 0 means no limit."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastmail.net.networks import Network
from fastmail.queue.rates import MESSAGES, RECIPIENTS, Charge, network_key, sent
from fastmail.queue.spool import Spool
from fastmail.telemetry.counters import count


@dataclass(slots=True)
class Bounds:
    """``messages``: in the queue at once; ``login``, ``domain``: recipients an hour for one login, and for all logins
    of a domain (Spool.enqueue); ``network_recipients``, ``network_messages``: an hour for one network."""

    messages: int = 0
    login: int = 0
    domain: int = 0
    network_recipients: int = 0
    network_messages: int = 0

    @property
    def hourly(self) -> tuple[int, int]:
        """The hourly limits, in the order of Spool.enqueue's arguments."""
        return self.login, self.domain

    def of_network(self, network: Network, recipients: int) -> Sequence[Charge]:
        """What one message to so many counts in the limits of a network."""
        name, who = str(network), f"the network {network}"
        return [
            Charge(network_key(name, what), amount, most, what, who)
            for what, amount, most in (
                (RECIPIENTS, recipients, self.network_recipients),
                (MESSAGES, 1, self.network_messages),
            )
            if most
        ]

    def allow_one_more(self, spool: Spool) -> bool:
        """Return True if the queue may take one more message."""
        if self.messages and spool.depth()[0] >= self.messages:
            count("queue.full")
            return False
        return True


def sent_by(spool: Spool, network: Network, what: str) -> int:
    """Return how much a network sent in this hour; 0 where that has no limit, because only then it is counted."""
    with spool.env.read() as txn:
        found = txn.get(network_key(str(network), what), db=spool.env.db["rate"])
        return sent(bytes(found) if found is not None else None, time.time())
