"""Runs a connection's commands, one at a time: those that have to wait go on when what they wait for is done.

Promise: while a command runs, ``busy`` is True and input waits; a command that fails closes the connection or is a bug,
which is logged, and either way the next input is taken.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any

from fastmail.net.sending import Sending, Worker
from fastmail.net.started import rest_of

_ENDED = object()  # in place of what a command waits for


class Running(Sending):
    """See the module. ``busy``: a command runs, or its reply is held back."""

    __slots__ = ("_brief", "_reading", "_task", "busy")

    def __init__(self, listener: Worker) -> None:
        super().__init__(listener)
        self._reading = True  # False: the socket is not read
        self._task: asyncio.Task[None] | None = None
        self._brief: Coroutine[Any, Any, None] | None = None  # a command of run_brief that waits without a task
        self.busy = False

    @abstractmethod
    def _go_on(self) -> None:
        """Nothing runs any more: take the input that waited."""

    @abstractmethod
    def _bug(self, error: Exception) -> None:
        """Handle an exception that no handler expected."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a command that has to wait for something; input waits until it is done."""
        self.busy = True
        self._task = self._listener.loop.create_task(self._run(work))

    def run_aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the same for a step of a long upload. Nothing is read meanwhile, so many uploads at once cost little
        memory."""
        if self._reading and self.transport is not None:
            self._reading = False
            self.transport.pause_reading()
        self.run(work)

    def run_now(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the same for a command that often does not have to wait: it starts at once, and becomes a task only if it
        waits. ``work`` must not ask which task it runs in."""
        waits_for = self._first_step(work)
        if waits_for is not _ENDED:
            self._go_on_in_task(work, waits_for)

    def run_brief(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the same for a command that usually waits once, for a commit, and then ends: it becomes a task only if it
        waits again. Until then ``work`` must not ask which task it runs in, so it cannot use ``asyncio.timeout``."""
        waits_for = self._first_step(work)
        if waits_for is _ENDED:
            return
        if waits_for is None:  # it lets others run; nobody says when that is over
            self._go_on_in_task(work, None)
            return
        self._brief = work
        waits_for._asyncio_future_blocking = False  # a task says so too when it waits for a future
        waits_for.add_done_callback(self._second_step)

    def _first_step(self, work: Coroutine[Any, Any, None]) -> Any:
        """Begin a command. Returns what it waits for, _ENDED if it has ended."""
        self.busy = True
        try:
            return work.send(None)
        except StopIteration:
            self.busy = self._held is not None
        except ConnectionError:
            self.busy = False
            self.abort()
        except Exception as error:
            self.busy = False
            self._bug(error)
        return _ENDED

    def _second_step(self, done: "asyncio.Future[Any]") -> None:
        """What the command of ``run_brief`` waited for is done."""
        work, self._brief = self._brief, None
        assert work is not None
        try:
            try:
                result = done.result()
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(result)
        except StopIteration:
            if not self.closing and self.transport is not None:
                self.flush()
                if self._unpaused is not None:
                    self.run(self.drain())  # no further command until the peer has read
                    return
        except (ConnectionError, asyncio.CancelledError):
            self.abort()
        except Exception as error:
            self._bug(error)
        else:
            self._go_on_in_task(work, waits_for)
            return
        if self._held is None:
            self._go_on()

    def _go_on_in_task(self, work: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._task = self._listener.loop.create_task(self._run(rest_of(work, waits_for)))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            if not self.closing and self.transport is not None:
                self.flush()
                if self._unpaused is not None:
                    await self.drain()  # no further command until the peer has read
        except ConnectionError:
            self.abort()  # the peer is gone, or asked in TLS for a protocol that is not spoken here
        except asyncio.CancelledError:
            # nobody will answer any more: close, so that the peer notices and the session releases what it has
            self.abort()
        except Exception as error:
            self._bug(error)
        self._task = None
        if self._held is None:
            self._go_on()
