"""App passwords: how they are made, read and limited."""

import pytest

from fastmail.directory import apps
from fastmail.directory.records import AppPassword


def test_made_and_typed() -> None:
    made = {apps.make() for _ in range(500)}
    assert len(made) == 500
    for text in made:
        assert [len(part) for part in text.split("-")] == [5, 5, 5, 5]
        digest = apps.digest(text.encode())
        assert len(digest) == 32
        for typed in (text.upper(), text.replace("-", ""), text.replace("-", " ")):
            assert apps.digest(typed.encode()) == digest
    letters = "".join(made).replace("-", "")
    assert set(letters) == set("abcdefghijklmnopqrstuvwxyz234567"), "all of the alphabet is used"


@pytest.mark.parametrize(
    "text", [b"", b"secret", b"a" * 19, b"a" * 21, b"abcde-fghij-klmno-pqrs1", b"a" * 5000, b"\xff" * 20]
)
def test_what_is_none(text: bytes) -> None:
    assert apps.digest(text) == b""


def test_where_and_until_when_it_counts() -> None:
    one = AppPassword(b"x" * 32, "n", protocols=("imap", "smtp"), nets="10.0.0.0/8", expires=100)
    assert apps.counts(one, "imap", "10.1.1.1", 99) and apps.counts(one, "", "10.1.1.1", 99)
    assert not apps.counts(one, "pop3", "10.1.1.1", 99)
    assert not apps.counts(one, "imap", "192.0.2.1", 99)
    assert not apps.counts(one, "imap", "10.1.1.1", 100)
    assert apps.counts(AppPassword(b"x" * 32, "n"), "pop3", "anywhere")
    assert not apps.counts(AppPassword(b"x" * 32, "n", enabled=False), "pop3", "anywhere")


def test_networks() -> None:
    assert apps.networks(["10.1.2.3/8", "::1", "local"]) == "10.0.0.0/8,::1/128,local"
    with pytest.raises(ValueError, match="is no network such as"):
        apps.networks(["10.0.0.300"])
