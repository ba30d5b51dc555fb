"""Keys of accounts and mailboxes: their parts, and their order."""

import pytest

from fastmail.model import keys


@pytest.mark.parametrize(
    ("account", "mailbox", "uid"), [(1, 0, 1), (1 << 40, 7, 0xFFFFFFFE), ((1 << 64) - 1, 1 << 31, 9)]
)
def test_the_parts_of_a_key_are_found_again(account: int, mailbox: int, uid: int) -> None:
    key = keys.mailbox_key(account, mailbox)
    at = keys.uid_key(key, uid)
    assert (len(keys.account_key(account)), len(key), len(at)) == (keys.ACCOUNT, keys.MAILBOX, keys.MESSAGE)
    assert key.startswith(keys.account_key(account)) and at.startswith(key)
    for value in (at, memoryview(at)):
        assert (keys.account_of(value), keys.mailbox_of(value), keys.uid_of(value)) == (account, mailbox, uid)


def test_keys_sort_as_their_numbers() -> None:
    numbers = [(1, 0, 1), (1, 0, 256), (1, 1, 2), (1, 256, 1), (2, 0, 1), (256, 0, 1)]
    assert sorted(numbers) == numbers
    made = [keys.uid_key(keys.mailbox_key(account, mailbox), uid) for account, mailbox, uid in numbers]
    assert sorted(made) == made
