"""Small rows beside the jobs, in the environment of the queue: what must be known again after a start.

    tls     day NUL domain NUL ...   counts of sessions (relay.tlsreport)
    policy  domain                   what a domain asks of those who send to it (relay.sts)
            NUL state NUL name       what somebody stored under a name: the runner, reports of TLS, queue.stopped

Promise: what is written is durable when the call returns. Reads see the last commit.
"""

import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from fastmail.durable.env import Environment
from fastmail.durable.transaction import Txn
from fastmail.queue.model import LONGEST_NAME

STATE = b"\0state\0"  # no domain begins so; see spool.WANTED for the other rows that are none
LONGEST_COUNT = 500  # octets of a key of tls; LMDB allows 511
U64 = struct.Struct(">Q")


class Queue(Protocol):
    """What is needed of the queue: its environment, and a commit."""

    @property
    def env(self) -> Environment: ...
    def submit(self, apply: Callable[[Txn], Any]) -> Awaitable[Any]: ...


class Facts:
    """One for each queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @property
    def _env(self) -> Environment:
        return self._queue.env

    def counts(self) -> dict[str, int]:
        """Return everything in the table ``tls``."""
        with self._env.read() as txn:
            rows = txn.cursor(db=self._env.db["tls"]).iternext()
            return {str(key, "utf-8"): U64.unpack(value)[0] for key, value in rows}

    async def add_counts(self, rows: Mapping[str, int]) -> None:
        """Add to these counts."""

        def apply(txn: Txn) -> None:
            for text, count in rows.items():
                key = text.encode()[:LONGEST_COUNT]
                found = txn.get(key, db=self._env.db["tls"])
                txn.put(key, U64.pack(count + (U64.unpack(found)[0] if found else 0)), db=self._env.db["tls"])

        await self._queue.submit(apply)

    async def drop_counts(self, keys: Sequence[str]) -> None:
        """Delete these counts."""

        def apply(txn: Txn) -> None:
            for key in keys:
                txn.delete(key.encode()[:LONGEST_COUNT], db=self._env.db["tls"])

        await self._queue.submit(apply)

    def policy(self, domain: str) -> bytes | None:
        """Return the stored policy of a domain."""
        with self._env.read() as txn:
            found = txn.get(domain.encode()[:LONGEST_NAME], db=self._env.db["policy"])
            return bytes(found) if found is not None else None

    def policies(self) -> list[tuple[str, bytes]]:
        """Return all stored policies, by domain."""
        with self._env.read() as txn:
            rows = txn.cursor(db=self._env.db["policy"]).iternext()
            return [(str(key, "utf-8", "replace"), bytes(value)) for key, value in rows if key[:1] != b"\0"]

    async def set_policy(self, domain: str, value: bytes) -> None:
        await self._queue.submit(lambda txn: txn.put(domain.encode()[:LONGEST_NAME], value, db=self._env.db["policy"]))

    async def drop_policy(self, domain: str, value: bytes) -> None:
        """Delete a policy, unless it was replaced meanwhile."""
        table = self._env.db["policy"]

        def apply(txn: Txn) -> None:
            key = domain.encode()[:LONGEST_NAME]
            if txn.get(key, db=table) == value:
                txn.delete(key, db=table)

        await self._queue.submit(apply)

    def state(self, name: bytes) -> bytes | None:
        """Return what was stored under this name."""
        with self._env.read() as txn:
            found = txn.get(STATE + name, db=self._env.db["policy"])
            return bytes(found) if found is not None else None

    async def set_state(self, name: bytes, value: bytes) -> None:
        await self._queue.submit(lambda txn: txn.put(STATE + name, value, db=self._env.db["policy"]))

    async def drop_state(self, name: bytes) -> None:
        await self._queue.submit(lambda txn: txn.delete(STATE + name, db=self._env.db["policy"]))
