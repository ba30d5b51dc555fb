"""What a followed source says of an account beside its password, its quota and conditions on logins: its name, forward,
state and whatever else ``fastmail account set`` changes, under the same names.

Promise: what a source does not say, or says in a form that cannot be read, stays as it is kept here. The log names the
account and the field, and never the value. What it says reaches no further than its own domains (``within``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastmail.directory import fields
from fastmail.directory.records import Account
from fastmail.model.errors import ClientError
from fastmail.telemetry import log

# Whether an account is there, its quota and its networks are said in ways of their own; that this server stopped its
# mail is not for a source to say.
OTHERWISE = frozenset(("enabled", "stopped", "nets", *fields.QUOTA_FIELDS))
FIELDS = frozenset(fields.ACCOUNT) - OTHERWISE
RIGHTS = frozenset(("role", "administers"))  # they reach beyond the domains of a source that has a name
Told = tuple[tuple[str, Any], ...]  # (field, its value as fields.read gives it), by name


def told(address: str, given: Mapping[str, Any]) -> Told:
    """Return what a row, line or entry says of an account. ``given``: by field; other names do not count, and None is
    nothing said."""
    out: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name not in FIELDS:
            continue
        try:
            out |= fields.read("account", {name: _plain(value)})
        except ClientError:
            log.event("directory.field", "warning", address=address, field=name, why="it cannot be read: kept as it is")
    return tuple(sorted(out.items()))


def counting(given: Told, account: Account | None) -> Told:
    """Return the fields that count for an account as it is kept here. Where this server stopped its mail, only an
    administrator lets it send again."""
    if account is None or not account.stopped:
        return given
    return tuple(one for one in given if one[0] != "sends")


def within(given: Told, is_own: Callable[[str], bool]) -> Told:
    """Return the fields that a source of some domains may say (directory.origins): no rights to administer, and to send
    in the name of its own domains only. ``is_own``: True if an address, or ``@domain``, is of these."""
    out = []
    for name, value in given:
        if name == "senders":
            value = tuple(filter(is_own, value))
        if name not in RIGHTS:
            out.append((name, value))
    return tuple(out)


def _plain(value: Any) -> Any:
    """What databases have for a flag is a number in some, and octets in others."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("utf-8", "replace")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
