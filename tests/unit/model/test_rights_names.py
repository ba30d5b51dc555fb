"""Identifiers of access lists name the same person with A-labels and with U-labels."""

import pytest

from fastmail.model import rights
from fastmail.model.errors import CannotDo


def test_both_spellings() -> None:
    other, typed = "anna@fa\u00df.test", "Anna@XN--FA-HIA.test"
    acl = {rights.identifier(typed, "x.test"): "lr", "-" + other: "r", rights.ANYONE: "s"}
    assert rights.evaluate(acl, "me@xn--fa-hia.test", other) == "ls"
    assert rights.evaluate({other: "lr"}, "me@x.test", "anna@xn--fa-hia.test") == "lr"
    assert rights.identifier("anna", "fa\u00df.test") == other
    with pytest.raises(CannotDo):
        rights.identifier("a@\U0001f4a9.test", "x.test")
