"""Accounts that say themselves where their Maildir is, and stores that ask them: for tests without a directory."""

from dataclasses import dataclass
from typing import Any

from fastmail.store.interface import Account
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.store import LocalStore


@dataclass(frozen=True, slots=True)
class Housed(Account):
    """An account with its home."""

    home: Home = Home("")


def housed(number: int, address: str, root: str = "", **layout: Any) -> Housed:
    """``layout``: the other fields of Home."""
    return Housed(number, address, home=Home(root, **layout))


def home_of(account: Account) -> Home:
    assert isinstance(account, Housed), account
    return account.home


def local_store(directory: str, *args: Any, **more: Any) -> LocalStore:
    """A LocalStore for such accounts."""
    return LocalStore(directory, home_of, *args, **more)
