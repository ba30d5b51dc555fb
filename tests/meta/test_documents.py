"""The documents for people: each is in the index, links lead somewhere, and the commands and events that the guide for
operators names exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fastmail.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = (DOCS / "README.md").read_text()
OPERATING = (DOCS / "operating.md").read_text()
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
EVENT = re.compile(r"(?m)^\| (`[a-z.]+`(?:, `[a-z.]+`)*)(?: \(error\))? \|")
WIDTH = 132  # characters of a line; rows of tables and long addresses cannot be broken
NAMED = re.compile(r"(?:^    |`|; )fastmail ([a-z-]+)((?: [^`\n#;]*)?)", re.MULTILINE)


@pytest.mark.parametrize("path", sorted(one.name for one in DOCS.iterdir() if one.name != "README.md"))
def test_every_document_is_in_the_index(path: str) -> None:
    assert f"]({path})" in INDEX


def test_readme_leads_to_the_index() -> None:
    assert "docs/README.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", ["README.md", "operating.md"])
def test_links_lead_somewhere(document: str) -> None:
    text = (DOCS / document).read_text()
    for target in LINK.findall(text):
        assert (DOCS / target).exists(), target
    for target in re.findall(r"\bdocs/[\w.]+\w", text):
        assert (ROOT / target).exists(), target
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def words() -> list[tuple[str, str, list[str]]]:
    """(command, subcommand or empty, options) of each command line in the guide."""
    out = []
    for name, rest in NAMED.findall(OPERATING):
        found = rest.split()
        sub = found[0] if found and re.fullmatch(r"[a-z-]+", found[0]) else ""
        out.append((name, sub, re.findall(r"--[a-z-]+", rest)))
    return out


def test_commands_of_the_guide_exist() -> None:
    group: Any = typer.main.get_command(app)
    lines = words()
    assert len(lines) > 25
    for name, sub, options in lines:
        assert name in COMMANDS, name
        command = group.get_command(None, name)
        if sub and hasattr(command, "commands"):
            assert sub in command.commands, f"{name} {sub}"
            command = command.commands[sub]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(options) <= known, f"{name} {sub}: {options}"


def test_events_of_the_guide_are_logged() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "fastmail").rglob("*.py"))
    events = [event for row in EVENT.findall(OPERATING) for event in re.findall(r"[a-z.]+", row) if "." in event]
    assert len(events) > 15
    assert [event for event in events if f'"{event}"' not in source] == []


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")]), ids=lambda path: path.name)
def test_lines_fit(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [line for line in lines if len(line) > WIDTH and line[:1] != "|" and not re.search(r"\S{80}", line)] == []
