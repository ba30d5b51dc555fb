"""A setting as a field of a section: its default, its kind, and its help."""

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, kind: str = "") -> Any:
    """The field. ``kind``: size, time, places and others that config.load reads; empty for the default's own type."""
    kind = kind or {bool: "bool", int: "int", float: "float", str: "str", list: "list"}[type(default)]
    meta = {"help": help, "kind": kind, "default": default}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)
