"""How much is sent: messages and recipients in an hour, of an account, of all accounts of a domain, and of a network
that sends without a login.

The counts are rows of the queue's table ``rate``: a login has one row for each limit, so memory and disk are bounded by
the accounts, domains and networks that have one. A count is of a clock hour (UTC) and starts again with the next, so
whoever is over it can be told when that ends. It is changed in the same commit that queues a message, or in one of its
own before mail for mailboxes here only: so it is the same in all processes, and a restart or a crash changes nothing.

A message that is refused costs nothing. Fails with TooMuch, whose text is for the client.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fastmail.durable.transaction import Txn
from fastmail.model import keys
from fastmail.model.errors import TooMuch
from fastmail.model.units import HOUR, hour_ends

RATE = struct.Struct(">II")  # hour since 1970, how much in it
LONGEST_KEY = 400  # octets; LMDB allows 511, and a name is as good when it is cut here
RECIPIENTS, MESSAGES = "recipients", "messages"


@dataclass(frozen=True, slots=True)
class Charge:
    """``amount`` more of ``what`` is sent, of which there may be ``most`` in an hour. ``key``: of the row; ``who``:
    whose limit that is, in words for the client; empty for the login's own."""

    key: bytes
    amount: int
    most: int
    what: str = RECIPIENTS
    who: str = ""


def account_key(number: int, what: str) -> bytes:
    """The row of an account. It begins with NUL, as no login and no ``@domain`` does."""
    return b"\0account\0" + what.encode() + b"\0" + keys.account_key(number)


def domain_key(name: str, what: str) -> bytes:
    """The row of all accounts of a domain, whose name is in the form for comparing."""
    return (b"\0domain\0" + what.encode() + b"\0" + name.encode("utf-8", "surrogatepass"))[:LONGEST_KEY]


def network_key(name: str, what: str) -> bytes:
    """The row of a network, as the configuration has it."""
    return (b"\0network\0" + what.encode() + b"\0" + name.encode("ascii"))[:LONGEST_KEY]


def sent(row: bytes | None, now: float) -> int:
    """Return what a row counts for the hour that ``now`` (s since 1970) is in."""
    if row is None or len(row) != RATE.size:
        return 0
    hour, amount = RATE.unpack(row)
    return int(amount) if hour == int(now) // HOUR else 0


def check(row: bytes | None, charge: Charge, now: float) -> int:
    """Return what the hour will have counted after this. TooMuch if that is above the limit."""
    amount = sent(row, now) + charge.amount
    if charge.most and amount > charge.most:
        of = f" for {charge.who}" if charge.who else ""
        what = charge.what if charge.most > 1 else charge.what.removesuffix("s")
        raise TooMuch(f"at most {charge.most} {what} an hour are allowed{of}, try again after {hour_ends(now)}")
    return min(amount, 0xFFFFFFFF)


def take(txn: Txn, table: object, charges: Sequence[Charge], now: float) -> None:
    """Count all of them, or none: TooMuch is raised before anything is written."""
    rows = [(one.key, check(txn.get(one.key, db=table), one, now)) for one in charges]
    for key, amount in rows:
        txn.put(key, RATE.pack(int(now) // HOUR, amount), db=table)
