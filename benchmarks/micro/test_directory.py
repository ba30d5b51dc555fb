"""What delivery and logins ask of the directory: a look-up each, with 20,000 accounts in 500 domains.

``cold``: an address that was not asked for since the last change; ``known``: one that was.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from fastmail.directory.local import LocalDirectory

ACCOUNTS, DOMAINS = 20_000, 500


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDirectory]:
    made = LocalDirectory(str(tmp_path_factory.mktemp("directory")))
    with made.batch():
        for number in range(DOMAINS):
            made.add_domain(f"d{number}.test")
    made.add_accounts([(address(number), "{PLAIN}x") for number in range(ACCOUNTS)])
    made.add_alias("team@d1.test", [address(1), address(2)])
    yield made
    made.close()


def address(number: int) -> str:
    return f"user{number}@d{number % DOMAINS}.test"


@pytest.fixture(scope="module")
def addresses() -> Iterator[str]:
    return itertools.cycle([address(number * 7919 % ACCOUNTS) for number in range(ACCOUNTS)])


def test_account(benchmark: Any, place: LocalDirectory, addresses: Iterator[str]) -> None:
    assert benchmark(lambda: place.account(next(addresses))) is not None


def test_destinations_cold(benchmark: Any, place: LocalDirectory, addresses: Iterator[str]) -> None:
    def ask() -> Any:
        place._memory.found.clear()
        return place.destinations(next(addresses))

    assert benchmark(ask)


def test_destinations_known(benchmark: Any, place: LocalDirectory) -> None:
    assert benchmark(place.destinations, address(5))


def test_a_sender_of_ones_own(benchmark: Any, place: LocalDirectory) -> None:
    account = place.account(address(1))
    assert account is not None and benchmark(place.may_send_as, account, address(1))


def test_a_sender_by_an_alias(benchmark: Any, place: LocalDirectory) -> None:
    account = place.account(address(1))
    assert account is not None and benchmark(place.may_send_as, account, "team@d1.test")
