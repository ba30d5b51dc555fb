"""Records when accounts and app passwords were last used, by protocol and to the hour, for people to see.

A login is noted in memory; new notes are written a little later, in one transaction, off the event loop. So a login
costs one look into a dictionary. Notes that were not written yet are lost if the process is killed, and notes that
cannot be written are dropped: nothing depends on them.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Protocol

from fastmail.model.errors import MailError
from fastmail.telemetry import log

HOUR = 3600
REMEMBERED = 100_000
WRITTEN_AFTER = 10.0  # s in which logins are gathered
Login = tuple[int, bytes, str]  # account, digest of an app password or nothing, protocol


class Writer(Protocol):
    """Writes the times of logins; the directory does."""

    def note_used(self, logins: Iterable[tuple[int, bytes, str, int]]) -> None: ...


class LastLogins:
    """One in each worker. ``executor``: the threads that may wait for the disk."""

    def __init__(self, writer: Writer, executor: Executor) -> None:
        self._writer, self._executor = writer, executor
        self._known: OrderedDict[Login, int] = OrderedDict()  # the hour that was last noted
        self._new: dict[Login, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, number: int, app: bytes, protocol: str) -> None:
        """Note a login."""
        if not protocol:
            return
        now = int(time.time())
        for one in {(number, b"", protocol), (number, app, protocol)}:
            if self._known.get(one) == now // HOUR:
                continue
            self._known[one] = now // HOUR
            self._new[one] = now
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if self._new and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITTEN_AFTER, self._write_later)

    def _write_later(self) -> None:
        self._timer = None
        new, self._new = self._new, {}
        asyncio.get_running_loop().run_in_executor(self._executor, self._write, new)

    def _write(self, new: dict[Login, int]) -> None:
        try:
            self._writer.note_used([(*login, at) for login, at in new.items()])
        except (MailError, OSError) as error:
            log.event("login.noted", "warning", error=repr(error), logins=len(new))

    def close(self) -> None:
        """Write what is left. It may wait for the disk."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._new:
            self._write(self._new)
            self._new = {}
