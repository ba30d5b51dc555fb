"""Limits that an account shares with its domain: the smaller one counts, and 0 is none."""

from fastmail.directory.records import Account, Domain


def smaller(*limits: int) -> int:
    """The smallest of those that are set; 0 where none is."""
    return min((one for one in limits if one > 0), default=0)


def message_size(account: Account, domain: Domain | None) -> int:
    """Octets (with CRLF) that one message to or from the account may have; 0 for no limit of its own."""
    return smaller(account.message_size, domain.message_size if domain is not None else 0)
