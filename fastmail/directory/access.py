"""Who may log in and who may send: what an account's and its domain's switches say, and conditions that a source of
accounts states, in Dovecot's words: ``nologin``, ``allow_nets``, ``proxy``, ``host``.

Two texts of a source are kept for an account: ``nets``, from where it may log in, and ``nologin``, why it may not at
all; both are empty where there is no condition. A condition that is stated badly lets nobody in, as in
Dovecot: it was put there to keep somebody out.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

from fastmail.directory.records import OF_DOMAINS, SERVER, Account, Domain
from fastmail.model import domain as names
from fastmail.model.address import comparable

NOT_ALLOWED = "logins to this account are not allowed"
ELSEWHERE = "this account's mail is on another server"
SUSPENDED = "this account is suspended, please ask the administrator"
NO_LOGINS = "logins to this account are switched off"
DOMAIN_OFF = "the domain of this account is switched off"
APP_NEEDED = "an app password is needed here: make one for this program"
NOT_FOR_THAT = "this login may not act for that account"
NO_SENDING = "sending is switched off for this account"
NOBODY = "none"  # nets that no address is in
LOCAL = "local"  # this machine, by a UNIX socket
MAIL = ("imap", "pop3", "smtp", "sieve")  # protocols that a domain may keep its main passwords away from
MOST_TEXT = 200
NETS = ("allow_nets", "allow_real_nets")
FIELDS = ("nologin", "reason", "proxy", "proxy_maybe", "host", "nopassword", *NETS)


def conditions(fields: Mapping[str, Any]) -> tuple[str, str]:
    """(nets, nologin) of Dovecot's extra fields. A field counts when it is there and not None: ``nologin=no`` keeps
    people out, too; ``host`` counts when it names one, with ``proxy`` or, for a referral, without."""
    given = {name: str(value) for name, value in fields.items() if value is not None}
    nets = next((given[name].replace(" ", "") or NOBODY for name in NETS if name in given), "")
    if "nologin" in given:
        return nets, _printable(given.get("reason", "")) or NOT_ALLOWED
    if "proxy" in given or "proxy_maybe" in given or given.get("host", "").strip():
        return nets, ELSEWHERE
    return nets, ""


def refusal(account: Account, domain: Domain | None) -> str:
    """Why nobody logs in to the account, in words for its user; empty where its owner may. Why it was suspended is for
    support."""
    if account.nologin:
        return account.nologin
    if account.suspended:
        return SUSPENDED
    if not account.logs_in:
        return NO_LOGINS
    return DOMAIN_OFF if domain is not None and not domain.enabled else ""


def sending(account: Account, domain: Domain | None) -> str:
    """Why the account may not send, in words for its user; empty where it may."""
    if account.suspended:
        return SUSPENDED
    if not account.sends:
        return NO_SENDING
    return DOMAIN_OFF if domain is not None and not domain.enabled else ""


def may_act_for(master: Account, account: Account, reserved: Collection[str] = ()) -> bool:
    """May somebody with this role open the account of another one? A server's administrator any, a domain's those of
    the domains that it administers; nobody that of another administrator, because that would be more than the role
    gives. ``reserved``: addresses in the form for comparing that are nobody else's either."""
    if account.role or comparable(account.address) in reserved:
        return False
    if master.role == OF_DOMAINS:
        domain = names.comparable(account.address.rpartition("@")[2])
        return domain in map(names.comparable, master.administers)
    return master.role == SERVER


def has_no_password(fields: Mapping[str, Any]) -> bool:
    """Does the source say that any password is right? That is not taken over: nobody logs in by password."""
    return fields.get("nopassword") is not None


def _printable(text: str) -> str:
    """What may be sent to a client in any protocol."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:MOST_TEXT].strip()


def allows(nets: str, host: str) -> bool:
    """May somebody at this address log in? ``host``: as a connection says it, ``local`` for a UNIX socket."""
    if not nets:
        return True
    words = nets.split(",")
    if host == LOCAL:
        return LOCAL in words
    try:
        peer = _plain(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return False
    for word in words:
        try:
            net = ipaddress.ip_network(word, strict=False)
        except ValueError:
            continue  # one that cannot be read has nobody in it
        if peer.version == net.version and peer in net:
            return True
    return False


def _plain(
    address: "ipaddress.IPv4Address | ipaddress.IPv6Address",
) -> "ipaddress.IPv4Address | ipaddress.IPv6Address":
    """An IPv4 address that came as an IPv6 one (RFC 4291 2.5.5.2) is itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
