"""Greylisting (RFC 6647): a message that nothing speaks for and something speaks against is put off at first. Who
comes back with it is a mail server, and is free for a long time; most senders of spam do not come back.

Only messages with a score of the operator's choice get here, at the end of their data, so that lists, SPF and DKIM
have been heard. What is remembered is who sends: the domain that SPF vouches for, whose hosts may take turns, else
the client's network (an IPv4 /24, an IPv6 /64), with the sender's address; of one that has proved itself, without it.
Who sends a message that nothing speaks against has proved itself, too, and waits for nothing later.

Two files that all workers share (net.scores) hold keyed hashes and times: constant memory and time, and the entry
that was not used longest gives way. Where they cannot be opened nobody is put off.
"""

import ipaddress
import math
import os
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastmail.net import networks
from fastmail.net.scores import Scores
from fastmail.policy.spf import Checked
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

DELAY = 300.0  # s until the message is taken (RFC 6647 5: at least a minute)
WINDOW = 2 * 86400.0  # s in which it has to come back
KEEP = 35 * 86400.0  # s for which who came back is free
RENEW = 0.9  # of what is left of that, below which a message writes it again
NOTED = 10_000  # senders of good mail that a worker has written lately
NOTED_FOR = 3600.0  # s in which none of them is written again
BITS = {4: 24, 6: 64}  # of an address that make a network


def place(ip: str, sender: Checked | None) -> str:
    """Who sends: a domain, or a network; empty for what is neither. A domain for which anybody may send names nobody:
    all who forge it would be free once one of them was."""
    if sender is not None and sender.vouches:
        return sender.domain
    try:
        address = networks.address(ip)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((address, BITS[address.version]), strict=False))


@dataclass(slots=True)
class _Tables:
    """``waiting``: what was put off; ``proved``: who came back. Each has one point that fades away in time, so it says
    how old it is."""

    waiting: Scores
    proved: Scores


class Greylist:
    """One in each worker. ``looks``: it says what would happen, and remembers nothing; for commands."""

    def __init__(self, data_dir: str, delay: float = DELAY, looks: bool = False) -> None:
        self._directory = os.path.join(data_dir, "greylist")
        self._delay = delay
        self._looks = looks
        self._tables: _Tables | None = None
        self._lately: OrderedDict[str, float] = OrderedDict()
        self._broken = False

    def close(self) -> None:
        if self._tables is not None:
            self._tables.waiting.close()
            self._tables.proved.close()
            self._tables = None

    def _opened(self) -> _Tables | None:
        if self._tables is None and not self._broken:
            try:
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                paths = [os.path.join(self._directory, name) for name in ("waiting", "proved")]
                self._tables = _Tables(Scores(paths[0]), Scores(paths[1]))
            except OSError as error:
                log.event("policy.greylist", "error", path=self._directory, error=error, then="nobody is put off")
                self._broken = True
        return self._tables

    def wait(self, who: str, sender: str) -> int:
        """Seconds until a message is taken; 0 for now."""
        return self._seen(who, sender) if self._looks else self._noted(who, sender)

    def _seen(self, who: str, sender: str) -> int:
        """The same, from the tables as they are; where there are none, nobody is known yet."""
        if not who:
            return 0
        now, delay = time.time(), math.ceil(self._delay)
        try:
            proved, waiting = (
                Scores(os.path.join(self._directory, name), looks=True) for name in ("proved", "waiting")
            )
        except FileNotFoundError:
            return delay
        except OSError:  # as where a worker cannot open them
            return 0
        try:
            if proved.get(who, 1 / KEEP, now) > 0:
                return 0
            left = waiting.get(f"{who} {sender.lower()}", 1 / WINDOW, now)
        finally:
            proved.close()
            waiting.close()
        return max(0, math.ceil(self._delay - (1.0 - left) * WINDOW)) if left > 0 else delay

    def _noted(self, who: str, sender: str) -> int:
        tables, now = self._opened(), time.time()
        if tables is None or not who:
            return 0
        if _renewed(tables, who, now):
            return 0
        key = f"{who} {sender.lower()}"
        left = tables.waiting.get(key, 1 / WINDOW, now)
        age = (1.0 - left) * WINDOW
        if left <= 0:
            tables.waiting.add(key, 1.0, 1 / WINDOW, math.inf, now)
            age = 0.0
        if age < self._delay:
            count("policy.put_off")
            return math.ceil(self._delay - age)
        tables.proved.add(who, 1.0, 1 / KEEP, math.inf, now)
        return 0

    def good(self, who: str) -> None:
        """A message came from there that nothing speaks against."""
        now = time.time()
        if self._looks or not who or 0 <= now - self._lately.get(who, -NOTED_FOR) < NOTED_FOR:
            return
        tables = self._opened()
        if tables is None:
            return
        self._lately[who] = now
        self._lately.move_to_end(who)
        if len(self._lately) > NOTED:
            self._lately.popitem(last=False)
        if not _renewed(tables, who, now):
            tables.proved.add(who, 1.0, 1 / KEEP, math.inf, now)


def _renewed(tables: _Tables, who: str, now: float) -> bool:
    """Has a sender proved itself? Then its time begins anew."""
    left = tables.proved.get(who, 1 / KEEP, now)
    if 0 < left < RENEW:
        tables.proved.add(who, 1.0 - left, 1 / KEEP, math.inf, now)
    return left > 0
