"""What a plan for moving from another server is made of: a configuration as sections, and findings."""

from collections.abc import Iterator
from dataclasses import dataclass, field

SAME, NOTICED, MISSING, BLOCKS = "same", "clients notice", "not here", "in the way"


@dataclass(slots=True)
class Block:
    """A section: its kind and name, settings, and sections in it."""

    kind: str = ""
    name: str = ""
    values: dict[str, str] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)

    def get(self, *names: str) -> str:
        """The first of these settings that is there."""
        return next((self.values[name] for name in names if self.values.get(name)), "")

    def all(self, kind: str) -> Iterator["Block"]:
        return (block for block in self.blocks if block.kind == kind)


@dataclass(slots=True)
class Finding:
    """One part of the configuration."""

    what: str
    theirs: str
    ours: str
    state: str


@dataclass(slots=True)
class Plan:
    """``accounts``: lines for ``fastmail account import``; ``domains`` that they need."""

    config: str = ""
    accounts: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def quoted(text: str) -> str:
    """A value of the proposed configuration (TOML)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
