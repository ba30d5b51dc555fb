"""What commands hear of a change that cannot be made (model.errors has the tree)."""

from fastmail.model.errors import ClientError


class DirectoryError(ClientError):
    """What a command asked for cannot be done; the text says why."""


class NoSuchUser(DirectoryError):
    """There is no such account, or no alias of that name."""
