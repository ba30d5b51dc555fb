"""Settings as TOML: a whole configuration, and the commented reference of all settings."""

from dataclasses import fields
from typing import Any

from fastmail.config.settings import SECTIONS, TABLES, Config


def in_order(section: Any) -> list[Any]:
    """The settings of a section, its name first."""
    return sorted(fields(section), key=lambda item: item.name != "name")


def shown(value: Any, kind: str) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(shown(item, "str") for item in value) + "]"
    if kind == "size" and value % (1 << 20) == 0:
        gib = value % (1 << 30) == 0
        return f'"{value >> 30} GiB"' if gib else f'"{value >> 20} MiB"'
    if kind == "time" and value % 60 == 0 and value:
        return f'"{int(value // 60)}m"'
    return str(value)


def dump(config: Config) -> str:
    """A configuration as a TOML file."""
    out = []
    for name, section in SECTIONS.items():
        out.append(f"[{name}]")
        values = getattr(config, name)
        out += [f"{item.name} = {shown(getattr(values, item.name), item.metadata['kind'])}" for item in fields(section)]
    for name, section in TABLES.items():
        for values in getattr(config, name):
            out.append(f"[[{name}]]")
            out += [
                f"{item.name} = {shown(getattr(values, item.name), item.metadata['kind'])}"
                for item in in_order(section)
            ]
    return "\n".join(out) + "\n"


def reference() -> str:
    """All settings with defaults and help, as a TOML file that changes nothing."""
    out = ["# Every setting of fastmail, with its default.", ""]
    for name, section in SECTIONS.items():
        out.append(f"[{name}]")
        out += [f"# {line}" for line in (section.__doc__ or "").strip().splitlines()]
        for item in fields(section):
            out.append(f"# {item.metadata['help']}")
            out.append(f"{item.name} = {shown(item.metadata['default'], item.metadata['kind'])}")
        out.append("")
    for name, section in TABLES.items():  # none is there at first, so all of it is a comment
        out.append(f"# [[{name}]]")
        out += [f"# {line}" for line in (section.__doc__ or "").strip().splitlines()]
        for item in in_order(section):
            out.append(f"# {item.metadata['help']}")
            out.append(f"# {item.name} = {shown(item.metadata['default'], item.metadata['kind'])}")
        out.append("")
    return "\n".join(out)
