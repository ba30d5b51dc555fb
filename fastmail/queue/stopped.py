"""Networks that may send without a login, and were stopped because what they sent looks like spam (relay.suspicion).

Which networks these are is a state of the queue, one for each network, so all processes see it at once and a restart
changes nothing. Only an administrator ends it (``fastmail queue networks``). An older server takes no notice of it.
"""

from dataclasses import dataclass

import msgspec

from fastmail.net.networks import Network
from fastmail.queue.spool import Spool

_STATE = b"stopped "


class _Row(msgspec.Struct, array_like=True):
    """New fields are added at the end."""

    version: int
    since: int
    why: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """``since``: s since 1970; ``why``: for people."""

    since: int
    why: str


def _name(network: Network) -> bytes:
    return _STATE + str(network).encode("ascii")


def find(spool: Spool, network: Network) -> Stopped | None:
    """Return why a network may send nothing; None where it may, and where the row cannot be read."""
    found = spool.facts.state(_name(network))
    if found is None:
        return None
    try:
        row = msgspec.msgpack.decode(found, type=_Row)
    except msgspec.MsgspecError:
        return None
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
