"""Networks that may send without a login, and were stopped because what they sent looks like spam (relay.suspicion).

Which networks these are is a state of the queue, one for each network, so all processes see it at once and a restart
changes nothing. Only an administrator ends it (``fastmail queue networks``). An older server takes no notice of it.

Promise: who was stopped stays so. A row that cannot be read, because it is damaged or of a later version, stops its
network all the same: mail that waits for an administrator can still be sent, and spam that was sent cannot be taken
back.
"""

from dataclasses import dataclass

import msgspec

from fastmail.net.networks import Network
from fastmail.queue.spool import Spool

_STATE = b"stopped "
UNREADABLE = "the row that says why it was stopped cannot be read"


class _Row(msgspec.Struct, array_like=True):
    """New fields are added at the end."""

    version: int
    since: int
    why: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """``since``: s since 1970, 0 where that cannot be read; ``why``: for people."""

    since: int
    why: str


def _name(network: Network) -> bytes:
    return _STATE + str(network).encode("ascii")


def find(spool: Spool, network: Network) -> Stopped | None:
    """Return why a network may send nothing; None where it may."""
    found = spool.facts.state(_name(network))
    if found is None:
        return None
    try:
        row = msgspec.msgpack.decode(found, type=_Row)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Stopped(0, UNREADABLE)
    return Stopped(row.since, row.why)


async def stop(spool: Spool, network: Network, why: str, now: float) -> bool:
    """Stop a network; durable when it returns. Returns False where it was stopped already."""
    if find(spool, network) is not None:
        return False
    await spool.facts.set_state(_name(network), msgspec.msgpack.encode(_Row(1, int(now), why)))
    return True


async def resume(spool: Spool, network: Network) -> bool:
    """Let a network send again. Returns False where it was not stopped."""
    if spool.facts.state(_name(network)) is None:
        return False
    await spool.facts.drop_state(_name(network))
    return True
