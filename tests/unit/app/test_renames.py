"""app.renames: what becomes of identifiers and subscriptions when somebody has another name. The journey of hosting has
it all together."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastmail.app import renames
from fastmail.directory.records import Renamed
from fastmail.directory.renaming import moved_by

ACCOUNT = Renamed("old@d.test", "new@e.test")
DOMAIN = Renamed("@d.test", "@n.test")


@pytest.mark.parametrize(
    ("change", "name", "wanted"),
    [
        (ACCOUNT, "old@d.test", "new@e.test"),
        (ACCOUNT, "-OLD@D.test", "-new@e.test"),
        (ACCOUNT, "older@d.test", "older@d.test"),
        (ACCOUNT, "old+x@d.test", "old+x@d.test"),
        (ACCOUNT, "$old@d.test", "$old@d.test"),
        (ACCOUNT, "anyone", "anyone"),
        (DOMAIN, "old@d.test", "old@n.test"),
        (DOMAIN, "-old@D.TEST", "-old@n.test"),
        (DOMAIN, "$team@d.test", "$team@n.test"),
        (DOMAIN, "-$team@d.test", "-$team@n.test"),
        (DOMAIN, "old@sub.d.test", "old@sub.d.test"),
        (DOMAIN, "-anyone", "-anyone"),
    ],
)
def test_identifiers(change: Renamed, name: str, wanted: str) -> None:
    assert renames._identifier(name, moved_by(change)) == wanted


@pytest.mark.parametrize(
    ("separator", "name", "wanted"),
    [
        ("/", "Other Users/old@d.test/Work/x", "Other Users/new@e.test/Work/x"),
        ("/", "Other Users/old@d.test/old@d.test", "Other Users/new@e.test/old@d.test"),
        ("/", "Other Users/older@d.test/INBOX", "Other Users/older@d.test/INBOX"),
        (".", "Other Users/old@d^test/Work", "Other Users/new@e^test/Work"),
    ],
)
def test_subscriptions(separator: str, name: str, wanted: str) -> None:
    assembly: Any = SimpleNamespace(config=SimpleNamespace(store=SimpleNamespace(separator=separator)))
    assert renames._subscription(assembly, name, moved_by(ACCOUNT)) == wanted


def test_who_was_called_otherwise() -> None:
    assert renames._former("new@e.test", ACCOUNT) == "old@d.test" and renames._former("x@e.test", ACCOUNT) == ""
    assert renames._former("a@n.test", DOMAIN) == "a@d.test" and renames._former("a@d.test", DOMAIN) == ""
