"""The limits of an account; 0 is none."""

from typing import NamedTuple


class Quota(NamedTuple):
    """Octets of all messages as served, messages, mailboxes."""

    octets: int = 0
    messages: int = 0
    mailboxes: int = 0

    def __bool__(self) -> bool:
        return any(self)

    def over(self, default: "Quota") -> "Quota":
        """These limits where they are set (a negative one means: none), the defaults elsewhere."""
        return Quota(*(max(0, mine or theirs) for mine, theirs in zip(self, default, strict=True)))


NO_QUOTA = Quota()
