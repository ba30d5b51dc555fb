"""Ends sessions whose login does not count any more: a new password, an account that was switched off or removed, or
that may not log in any more (directory.standing); and those that look at a mailbox of an account that is gone.

Whoever changes an account (a command, a worker that follows another directory, a login that looks an account up) writes
it into the directory, which every worker has open. So each worker looks at one number there, four times a second, and
only when that has grown at its sessions: nothing that has to be delivered can be lost on the way.
"""

import asyncio
from typing import Protocol

from fastmail.model.errors import MailError
from fastmail.net.listener import Registry
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

EVERY = 0.25  # s; with net.connection.PATIENCE well below the second that is promised
AT_ONCE = 200  # sessions that are looked at before others have their turn


class Revisions(Protocol):
    """What is asked of the directory."""

    @property
    def revision(self) -> int: ...


async def watch(directory: Revisions, registry: Registry) -> None:
    """Run as long as the worker. What was revoked before the first look concerns no session yet."""
    seen = -1
    while True:
        try:
            now = directory.revision
            if now != seen:
                await end_those_over(registry)
                seen = now
        except (MailError, OSError) as error:  # the next look says it
            log.event("revoke.failed", "error", error=repr(error))
        await asyncio.sleep(EVERY)


async def end_those_over(registry: Registry) -> None:
    """Look at every session of this worker once."""
    for position, connection in enumerate(list(registry.connections), 1):
        if position % AT_ONCE == 0:
            await asyncio.sleep(0)
        session = connection.session
        if session is None or connection.closing:
            continue
        why = session.ended()
        if why:
            count("sessions.ended")
            log.event("session.ended", peer=connection.host, why=why)
            connection.dismiss(why)
