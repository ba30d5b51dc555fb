"""What a followed source says of a domain, an account or a mailing list beside who is there: a name, a limit, a state
and whatever else ``fastmail domain|account|list set`` changes, under the same names.

Promise: what a source does not say, or says in a form that cannot be read, stays as it is kept here. The log names the
row and the field, and never the value. What it says reaches no further than its own domains (``within``).
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from fastmail.directory import fields, once
from fastmail.directory.records import Account, Domain, List
from fastmail.model.errors import ClientError

# Whether an account is there, its quota and its networks are said in ways of their own; that this server stopped its
# mail is not for a source to say.
OTHERWISE = frozenset(("enabled", "stopped", "nets", *fields.QUOTA_FIELDS))
FIELDS = frozenset(fields.ACCOUNT) - OTHERWISE
RIGHTS = frozenset(("role", "administers"))  # they reach beyond the domains of a source that has a name
CATCH_ALL = "catch_all"  # of a domain: an alias, which is a row of its own
# where a domain has its accounts from is for this server to say
OF_DOMAIN = frozenset(fields.DOMAIN) - {"source"}
OF_LIST = frozenset(fields.MAILING_LIST)
ALLOWED = {"account": FIELDS, "domain": OF_DOMAIN, "list": OF_LIST}
Told = tuple[tuple[str, Any], ...]  # (field, its value as fields.read gives it), by name


def told(name: str, given: Mapping[str, Any], kind: str = "account") -> Told:
    """Return what a row, line or entry says of the account, domain or list of this name. ``given``: by field; other
    names do not count, and None is nothing said."""
    out: dict[str, Any] = {}
    for field, value in given.items():
        if value is None or field not in ALLOWED[kind]:
            continue
        try:
            out |= fields.read(kind, {field: _plain(value)})
        except ClientError:
            once.event("directory.field", name=name, field=field, why="it cannot be read: kept as it is")
    return tuple(sorted(out.items(), key=lambda one: one[0]))


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


def said_anew(old: Domain | Account | List, new: Domain | Account | List) -> str:
    """Return the first field that is another one in ``new`` although the source of ``old`` says it; empty for none."""
    if not old.said:
        return ""
    before, after = fields.shown(old), fields.shown(new)
    return next((name for name in old.said if before.get(name) != after.get(name)), "")


def _plain(value: Any) -> Any:
    """Return what databases have for numbers, and for flags, in a form in which people would type it."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
