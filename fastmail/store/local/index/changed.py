"""What an operation returns that others must hear of: its result, and which mailboxes it changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Changed(Generic[T]):
    """``keys``: of the mailboxes whose watchers are told once it is durable; none where nothing changed for them."""

    result: T
    keys: Sequence[bytes] = ()
