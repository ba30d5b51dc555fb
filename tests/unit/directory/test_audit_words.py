"""What the audit log says of fields that are kept together: the names that `set` has for them."""

from msgspec.structs import replace

from fastmail.directory.audit import difference
from fastmail.directory.fields import KINDS
from fastmail.directory.records import Account, Answer, Domain
from fastmail.model.quota import Quota


def test_of_a_quota() -> None:
    old = Domain("d.test", quota=Quota(5, 0, 7))
    assert (
        difference(old, replace(old, quota=Quota(6, -1, 7))) == "quota_storage: 5 -> 6; quota_messages: default -> none"
    )
    assert (
        difference(None, Domain("d.test", quota=Quota(0, 0, 9)))
        == "name: none -> d.test; quota_mailboxes: default -> 9"
    )


def test_of_an_answer() -> None:
    old = Account(1, "me@d.test", "{PLAIN}x")
    said = difference(old, replace(old, answer=Answer(subject="Away", enabled=True)))
    assert said == "answer_subject: none -> Away; answer_enabled: no -> yes"


def test_the_names_are_those_of_fields() -> None:
    old = Account(1, "me@d.test", "{PLAIN}x")
    new = replace(old, answer=Answer("s", "t", 1, 2, "h", True, 3, ("a@d.test",)), quota=Quota(1, 2, 3))
    names = [one.partition(":")[0] for one in difference(old, new).split("; ")]
    assert len(names) == 11 and set(names) <= set(KINDS["account"])
