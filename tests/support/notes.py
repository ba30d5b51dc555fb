"""What stands in for delivery.history.History in tests: it hears of everything by ``note``."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any


class Noting(ABC):
    """``add`` is ``note`` with the fields in a dict."""

    @abstractmethod
    def note(self, *args: Any, **fields: Any) -> None:
        """Something happened to a message."""

    def add(self, ident: str, what: str, words: Iterable[str], fields: dict[str, Any]) -> None:
        self.note(ident, what, words, **fields)
