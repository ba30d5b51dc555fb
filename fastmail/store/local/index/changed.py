"""The result of an operation that sessions must hear of: what it returns, and which mailboxes it changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Changed(Generic[T]):
    """``keys``: mailboxes whose watchers are told once the change is durable; empty if none is affected."""

    result: T
    keys: Sequence[bytes] = ()
