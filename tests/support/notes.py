"""What stands in for delivery.history.History in tests: it hears of everything by ``note``."""

from collections.abc import Iterable
from typing import Any


class Noting:
    """``add`` is ``note`` with the fields in a dict."""

    def note(self, *args: Any, **fields: Any) -> None:
        raise NotImplementedError

    def add(self, ident: str, what: str, words: Iterable[str], fields: dict[str, Any]) -> None:
        self.note(ident, what, words, **fields)
