"""Ends sessions whose login does not count any more: a new password, an account that was switched off or removed, or
that may not log in any more (directory.standing); and those that look at a mailbox of an account that is gone.

Whoever changes an account (a command, a worker that follows another directory, a login that looks an account up) writes
it into the directory, which every worker has open. So each worker looks at one number there, four times a second, and
only when that has grown at its sessions: nothing that has to be delivered can be lost on the way. Logins that end by
themselves, with an app password that expires, the worker's own verifier knows.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from fastmail.net.listener import Registry
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

EVERY = 0.25  # s; with net.connection.PATIENCE well below the second that is promised
AT_ONCE = 200  # sessions that are looked at before others have their turn


class Revisions(Protocol):
    """The part of the directory that tells which logins were revoked."""

    @property
    def revision(self) -> int: ...


async def watch(directory: Revisions, registry: Registry, has_expired: Callable[[], bool] = lambda: False) -> None:
    """End sessions whose logins were revoked, as long as the worker runs. Changes before the first look concern no
    session. ``has_expired``: returns True if a login has expired by itself since the last call."""
    seen, failing = -1, False
    while True:
        try:
            now = directory.revision
            if has_expired():
                seen = -1
            if now != seen and await end_those_over(registry):
                seen = now
            failing = False
        except Exception as error:  # whatever it is, the next look may see more
            if not failing:
                log.event("revoke.failed", "error", error=repr(error))
            failing = True
        await asyncio.sleep(EVERY)


async def end_those_over(registry: Registry) -> bool:
    """Look at every session of this worker once; False when one could not be judged, and has to be asked again."""
    complete = True
    for position, connection in enumerate(list(registry.connections), 1):
        if position % AT_ONCE == 0:
            await asyncio.sleep(0)
        session = connection.session
        if session is None or connection.closing:
            continue
        try:
            why = session.ended()
        except Exception as error:
            log.event("revoke.session", "error", peer=connection.host, error=repr(error))
            complete = False
            continue
        if why:
            count("sessions.ended")
            log.event("session.ended", peer=connection.host, why=why)
            connection.dismiss(why)
    return complete
