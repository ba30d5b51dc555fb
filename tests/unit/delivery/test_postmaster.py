"""Mail for the postmaster always has somebody who gets it (RFC 5321 4.5.1)."""

import pytest
from msgspec.structs import replace

from fastmail.delivery.deliver import Deliverer
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import USER, FakeDirectory

OTHER = "other@example.test"


def whom(directory: FakeDirectory, address: str, *postmasters: str) -> list[str]:
    deliverer = Deliverer(directory, MemoryStore(), "mx.example.test", postmasters=postmasters)
    return [record.address for record in deliverer.resolve(address)]


@pytest.mark.parametrize(
    "address", ["postmaster@example.test", "PostMaster@example.test", "postmaster@mx.example.test"]
)
def test_who_gets_it(address: str) -> None:
    directory = FakeDirectory()
    assert whom(directory, address) == [USER]  # the first account
    assert whom(directory, address, OTHER) == [OTHER]
    assert whom(directory, address, "gone@example.test", "team@example.test") == [USER, OTHER]
    directory.aliases[address.lower()] = [OTHER]
    assert whom(directory, address, USER) == [OTHER]
    directory.accounts[OTHER] = replace(directory.accounts[OTHER], enabled=False)
    assert whom(directory, address, OTHER) == [USER]


def test_nobody_else_is_the_postmaster() -> None:
    for address in ("postmasters@example.test", "postmaster+x@example.test", "nobody@example.test"):
        assert whom(FakeDirectory(), address) == []


def test_the_first_account_may_be_gone() -> None:
    directory = FakeDirectory()
    del directory.accounts[USER]
    assert whom(directory, "postmaster@example.test") == [OTHER]
    directory.accounts.clear()
    assert whom(directory, "postmaster@example.test") == []
