"""What commands hear of a change that cannot be made (model.errors has the tree)."""

from fastmail.model.errors import ClientError


class DirectoryError(ClientError):
    """What a command asked for cannot be done; the text says why."""


class WrongUsage(DirectoryError):
    """What was asked for makes no sense on any server: a field that nothing has, a value that is none."""


class NoSuchUser(DirectoryError):
    """There is no such account, or no alias of that name."""
