"""The result of an operation that sessions must hear of: what it returns, and which mailboxes it changed."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Changed(Struct, Generic[T]):
    """``keys``: mailboxes whose watchers are told once the change is durable; empty if none is affected."""

    result: T
    keys: Sequence[bytes] = ()
