"""``fastmail trace``: the life of a message, in words."""

from fastmail.cli import trace
from tests.unit.cli.place import Place


def test_nothing_is_known_of_what_never_came(place: Place) -> None:
    assert "nothing is known of <x@y>" in place.run("trace", "<x@y>", code=1)
    assert place.rows("trace", "x@y") == []


def test_fields_are_said_in_words_without_what_is_empty() -> None:
    fields = {"from": "a@b.test", "message_id": "", "recipients": ["c@d.test", "e@f.test"], "code": 0, "why": None}
    assert trace._fields(fields) == "from a@b.test; recipients c@d.test, e@f.test; code 0"
