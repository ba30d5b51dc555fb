"""Every LMDB environment that the code opens is in the table of them (app.environments), and so in a backup, or out of it
for a reason."""

import ast

from fastmail.app import environments
from fastmail.config.settings import Config
from tests.support.sources import PACKAGE, parsed, text

# Where environments are opened, and what these are called in the table.
OPENED = {
    "delivery/history.py": {"trace"},
    "directory/tables.py": {"directory"},
    "feedback/days.py": {"feedback"},
    "net/bans.py": {"bans"},
    "policy/learning/counts.py": {"learned"},
    "queue/spool.py": {"queue/index"},
    "store/local/index/shard.py": {"index-"},
}
AGAIN = {
    "app/heal.py",  # a place of the table, while it is mended
    "maildir.py",  # of other programs, beside their Maildirs: no data directory of a server
    "store/local/recovery/after_salvage.py",  # an index, after salvage
}


def opens() -> set[str]:
    """Modules above durable that make an Environment."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if "Environment" not in text(path):
            continue
        for node in ast.walk(parsed(text(path))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if called == "Environment" and not name.startswith("durable/"):
                    found.add(name)
    return found


def test_no_environment_is_forgotten() -> None:
    assert opens() == OPENED.keys() | AGAIN
    named = {"index-" if kind.is_index else kind.name for kind in environments.kinds(Config())}
    assert named == set().union(*OPENED.values())


def test_each_is_in_a_backup_or_left_out_on_purpose() -> None:
    kinds = environments.kinds(Config())
    assert {kind.backup for kind in kinds} == {environments.ROWS, environments.ITEMS, environments.APART}
    assert [kind.name for kind in kinds if kind.backup == environments.APART] == ["queue/index"]
