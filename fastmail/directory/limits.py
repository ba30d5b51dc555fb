"""Limits that an account shares with its domain: the smaller one counts, and 0 is none."""

from fastmail.directory.records import Account, Domain
from fastmail.model.quota import NO_QUOTA, Quota


def smaller(one: int, other: int) -> int:
    """Return the smaller of those that are set; 0 if neither is."""
    return min(one, other) if one > 0 and other > 0 else max(one, other, 0)


def message_size(account: Account, domain: Domain | None) -> int:
    """Octets (with CRLF) that one message to or from the account may have; 0 for no limit of its own."""
    if not account.message_size and (domain is None or not domain.message_size):
        return 0  # nearly all, and this is asked for each recipient
    return smaller(account.message_size, domain.message_size if domain is not None else 0)


def quota(account: Account, domain: Domain | None) -> Quota:
    """What an account may hold: its own limits, its domain's where it has none, and never more than the domain lets an
    account have."""
    if domain is None or (domain.quota == NO_QUOTA and not domain.most_storage):
        return account.quota  # of nearly all, and asked for every delivery
    mine = Quota(*(own or default for own, default in zip(account.quota, domain.quota, strict=True)))
    most = domain.most_storage
    return mine._replace(octets=most) if most and (mine.octets <= 0 or mine.octets > most) else mine
