"""The fields of domains, accounts, aliases and mailing lists as people and programs set and see them: one table for the
command line, for batches and for files of a wanted state.

A value may be text, as it is typed, or JSON. What ``shown`` gives is what ``changed`` takes, so a state that was read
can be written back. Promise: a value that is not what its field needs is DirectoryError, or BadAddress, with the
field's name, and nothing has been changed.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from fastmail.directory import apps, named
from fastmail.directory.errors import WrongUsage
from fastmail.directory.records import (
    ACTIVE,
    ALWAYS,
    ANNOUNCERS,
    AUTHOR,
    CLOSED,
    DEMANDED,
    HELPDESK,
    INSIDE,
    LATER,
    LIST,
    MEMBERS,
    MODERATED,
    NEVER,
    NO_MAIL,
    OF_DOMAINS,
    OPEN,
    PUBLIC,
    REFUSE,
    REFUSED,
    SERVER,
    SUSPENDED,
    TAG,
    TO_JUNK,
    UNCONFIRMED,
    Account,
    Alias,
    Answer,
    AppPassword,
    Domain,
    List,
)
from fastmail.model.address import Address, domain_name
from fastmail.model.errors import BadAddress
from fastmail.model.meant import meant
from fastmail.model.quota import Quota
from fastmail.model.units import parse_size

Reader = Callable[[Any], Any]
Record = TypeVar("Record", bound=Domain | Account | Alias | List | AppPassword)
MOST_TEXT = 10_000  # characters
LINE = 500
MOST_DAYS = 365
MOST_DIGITS = 20
SEPARATORS = "+-_.=#~!"  # that may begin a detail
YES, NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
QUOTA_FIELDS = ("quota_storage", "quota_messages", "quota_mailboxes")
HIGHEST = 1000.0  # score, and below zero as much
ABOVE = ("blocked", "junk_score", "refuse_score", "greylist", "enforce")  # default for what is above


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in YES + NO:
        raise ValueError("yes or no is expected")
    return word in YES


def line(value: Any) -> str:
    """One line of text."""
    if not isinstance(value, str) or len(value) > LINE or not value.isprintable():
        raise ValueError(f"a line of at most {LINE} characters is expected")
    return value


def text(value: Any) -> str:
    """Text of several lines."""
    if not isinstance(value, str) or len(value) > MOST_TEXT or not all(c in "\n\t" or c.isprintable() for c in value):
        raise ValueError(f"text of at most {MOST_TEXT} characters is expected")
    return value


def number(value: Any) -> int:
    """A number; none and 0 are no limit."""
    if value == "none":
        return 0
    if isinstance(value, str) and (not value.strip().isdecimal() or len(value) > MOST_DIGITS):
        raise ValueError("a number is expected, or none")
    found = int(value)
    if isinstance(value, bool) or not 0 <= found < 1 << 53:
        raise ValueError("a number is expected, or none")
    return found


def days(value: Any) -> int:
    """Days between two automatic answers to one sender; default and 0 are the default."""
    found = 0 if value == "default" else number(value)
    if found > MOST_DAYS:
        raise ValueError(f"at most {MOST_DAYS} days are expected, or default")
    return found


def size(value: Any) -> int:
    """Octets; none and 0 are no limit."""
    if isinstance(value, str) and value != "none":
        return number(parse_size(value))
    return number(value)


def limit(value: Any) -> int:
    """A limit as it is kept: 0 default, -1 none."""
    if value in ("default", "none"):
        return 0 if value == "default" else -1
    found = parse_size(value) if isinstance(value, str) else value
    if not isinstance(found, int) or isinstance(found, bool) or not -1 <= found < 1 << 53:
        raise ValueError('a number or "5 GiB", none or default is expected')
    return found


def listed(value: Any) -> list[str]:
    """A list, or words with commas between."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError("a list is expected, or words with commas between")
    return [one.strip() for one in found if one.strip()]


def address(value: Any) -> str:
    """An address as it is written, its domain with A-labels."""
    if not isinstance(value, str):
        raise ValueError("an address is expected")
    return str(Address.parse(value))


def addresses(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(address, listed(value))))


def origin(value: Any) -> str:
    """The name of a source of accounts, local, or default for what the configuration's [directory] says."""
    found = "" if value == "default" else line(value)
    if found and not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", found):
        raise ValueError("the name of a source in the configuration, local or default is expected")
    return found


def identities(value: Any) -> tuple[str, ...]:
    """Addresses and @domains."""
    return tuple("@" + domain_name(one[1:]) if one.startswith("@") else address(one) for one in listed(value))


def domains(value: Any) -> tuple[str, ...]:
    return tuple(map(domain_name, listed(value)))


def a_domain(value: Any) -> str:
    """A domain, or nothing."""
    return domain_name(line(value)) if value else ""


def protocols(value: Any) -> tuple[str, ...]:
    """Where an app password counts; none for everywhere."""
    found = listed(value)
    if any(one not in apps.PROTOCOLS for one in found):
        raise ValueError(f"protocols are of {', '.join(apps.PROTOCOLS)}")
    return tuple(dict.fromkeys(found))


def networks(value: Any) -> str:
    """Networks as access.allows reads them."""
    return apps.networks(listed(value))


def moment(value: Any) -> int:
    """S since 1970 of a date or a time (UTC unless it says so); 0 for never."""
    if value in ("", "never", 0):
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40:
        return value
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("a date is expected, such as 2027-01-31, a time, such as 2027-01-31T12:00, or never") from None
    return int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp())


def separators(value: Any) -> str:
    """Characters that begin a detail; none for none."""
    found = "" if value == "none" else line(value)
    if any(c not in SEPARATORS for c in found):
        raise ValueError(f"characters of {SEPARATORS} are expected, or none")
    return "".join(dict.fromkeys(found))


def one_of(*allowed: Any) -> Reader:
    def read(value: Any) -> Any:
        found = next((one for one in allowed if str(one) == str(value)), None)
        if found is None:
            raise ValueError(f"{', '.join(str(one) or 'nothing' for one in allowed)} is expected")
        return found

    return read


def names(value: Any) -> tuple[str, ...]:
    """Entries of a list of senders and networks."""
    found = tuple(dict.fromkeys(map(named.parse, listed(value))))
    if len(found) > named.MOST:
        raise ValueError(f"at most {named.MOST} entries are expected")
    return found


def score(value: Any) -> float | None:
    """A score, or default."""
    if value in ("default", "", None):
        return None
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not math.isfinite(found) or abs(found) > HIGHEST:
        raise ValueError(f"a score of at most {HIGHEST:g} is expected, or default")
    return found


def choice(value: Any) -> bool | None:
    """Yes, no or default."""
    return None if value in ("default", "", None) else flag(value)


def blocked(value: Any) -> str:
    """What becomes of mail that is blocked: refuse, junk or default."""
    if value not in (REFUSED, TO_JUNK, "default", ""):
        raise ValueError(f"{REFUSED}, {TO_JUNK} or default is expected")
    return "" if value == "default" else str(value)


JUDGED: dict[str, Reader] = {
    "allow": names,
    "block": names,
    "blocked": blocked,
    "junk_score": score,
    "refuse_score": score,
    "greylist": choice,
    "enforce": choice,
}
DOMAIN: dict[str, Reader] = {
    "enabled": flag,
    "off_reply": one_of(NO_MAIL, LATER),
    "description": line,
    "alias_of": a_domain,
    "separators": separators,
    "postmaster": addresses,
    "most_accounts": number,
    "most_aliases": number,
    "most_lists": number,
    "most_octets": size,
    "most_storage": size,
    "message_size": size,
    "recipients_per_hour": number,
    "messages_per_hour": number,
    **dict.fromkeys(QUOTA_FIELDS, limit),
    "app_passwords_only": flag,
    "footer": text,
    "footer_html": text,
    "source": origin,
    **JUDGED,
    "batv": one_of("", TAG, REFUSE),
}
ACCOUNT: dict[str, Reader] = {
    "enabled": flag,
    "logs_in": flag,
    "receives": flag,
    "sends": flag,
    "suspended": line,
    "stopped": line,
    **dict.fromkeys(QUOTA_FIELDS, limit),
    "nets": networks,
    "forward": addresses,
    "keeps": flag,
    "senders": identities,
    "role": one_of("", SERVER, OF_DOMAINS, HELPDESK),
    "administers": domains,
    "name": line,
    "language": line,
    "zone": line,
    "notes": text,
    "message_size": size,
    "recipients_per_hour": number,
    "messages_per_hour": number,
    "answer_subject": line,
    "answer_text": text,
    "answer_begins": moment,
    "answer_ends": moment,
    "answer_html": text,
    "answer_enabled": flag,
    "answer_days": days,
    "answer_addresses": addresses,
    **JUDGED,
}
ALIAS: dict[str, Reader] = {
    "targets": addresses,
    "enabled": flag,
    "expires": moment,
    "internal": flag,
    "note": line,
}
GROUP: dict[str, Reader] = {"members": addresses, "description": line, "join": addresses, "leave": addresses}
MAILING_LIST: dict[str, Reader] = {
    "enabled": flag,
    "name": line,
    "description": line,
    "owners": addresses,
    "mode": one_of(PUBLIC, MEMBERS, ANNOUNCERS, INSIDE, MODERATED),
    "announcers": addresses,
    "logins_only": flag,
    "joins": one_of(CLOSED, OPEN),
    "tag": line,
    "footer": text,
    "reply_to": one_of(AUTHOR, LIST),
    "rewrite_from": one_of(NEVER, DEMANDED, ALWAYS),
    "bounce_days": number,
}
MEMBER: dict[str, Reader] = {
    "address": address,
    "name": line,
    "state": one_of(ACTIVE, SUSPENDED, UNCONFIRMED),
}
APP_PASSWORD: dict[str, Reader] = {
    "enabled": flag,
    "name": line,
    "protocols": protocols,
    "nets": networks,
    "expires": moment,
}
KINDS: dict[str, dict[str, Reader]] = {
    "app-password": APP_PASSWORD,
    "domain": DOMAIN,
    "account": ACCOUNT,
    "alias": ALIAS,
    "group": GROUP,
    "list": MAILING_LIST,
    "member": MEMBER,
}


def read(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields. WrongUsage, or BadAddress, names what is wrong."""
    out = {}
    for name, value in given.items():
        reader = KINDS[kind].get(name)
        if reader is None:
            raise WrongUsage(f"{kind}s have no {name}{meant(name, list(KINDS[kind]))}")
        try:
            out[name] = reader(value)
        except BadAddress as error:
            raise BadAddress(f"{name}: {error}") from None
        except (ValueError, TypeError, OverflowError) as error:
            raise WrongUsage(f"{name}: {str(value)[:100]!r}: {error}") from None
    return out


def changed(record: Record, values: Mapping[str, Any]) -> Record:
    """The record with these values (see ``read``)."""
    plain = dict(values)
    groups: dict[str, Any] = {}
    if isinstance(record, Domain | Account):
        quota = [plain.pop(field, now) for field, now in zip(QUOTA_FIELDS, record.quota, strict=True)]
        groups["quota"] = Quota(*quota)
    if isinstance(record, Account):
        answer = {name: plain.pop(f"answer_{name}", getattr(record.answer, name)) for name in _ANSWER}
        groups["answer"] = Answer(**answer)
    kept = {name: value for name, value in groups.items() if value != getattr(record, name)}
    return msgspec.structs.replace(record, **plain, **kept)


_ANSWER = Answer.__struct_fields__


def shown(record: Domain | Account | Alias | List) -> dict[str, Any]:
    """What may be set of a record, as ``changed`` takes it."""
    kind = type(record).__name__.lower()
    out: dict[str, Any] = {}
    for name in KINDS[kind]:
        if name in QUOTA_FIELDS:
            found = record.quota[QUOTA_FIELDS.index(name)]  # type: ignore[union-attr]
            out[name] = {0: "default", -1: "none"}.get(found, found)
        elif name.startswith("answer_"):
            value = _moment(name, getattr(record.answer, name.removeprefix("answer_")))  # type: ignore[union-attr]
            out[name] = list(value) if isinstance(value, tuple) else value
        else:
            value = _moment(name, getattr(record, name))
            if name == "nets":
                value = value.split(",") if value else []
            value = "default" if name in ABOVE and value in (None, "") else value
            out[name] = list(value) if isinstance(value, tuple) else value
    if kind == "domain":
        out["separators"] = out["separators"] or "none"
        out["source"] = out["source"] or "default"
    return out


def _moment(name: str, value: Any) -> Any:
    if name not in ("expires", "answer_begins", "answer_ends"):
        return value
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(value)) if value else "never"


def keys_shown(record: Domain) -> list[str]:
    """The keys that a domain's mail is signed with, for people: selector, kind and state of each."""
    return [f"{one.selector} ({one.kind}, {one.state})" for one in record.dkim]
