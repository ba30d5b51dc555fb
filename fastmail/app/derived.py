"""What follows from a configuration alone (paths, limits, rules, TLS), and whether a server is running.

Commands ask this module for a path and should start quickly. So what needs the DNS, sender authentication or TLS is
imported by the function that needs it.
"""

import dataclasses
import fcntl
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastmail.config.settings import Config
from fastmail.model.address import comparable as folded
from fastmail.model.domain import comparable
from fastmail.model.errors import ConfigError
from fastmail.model.limits import Limits

if TYPE_CHECKING:
    from fastmail.auth.verifier import Masters
    from fastmail.delivery.quarantine import Quarantine
    from fastmail.dns.resolver import Resolver
    from fastmail.net.bans import Rules
    from fastmail.net.sni import Pair
    from fastmail.net.tls import ServerTls
    from fastmail.policy import received, rotation
    from fastmail.policy.judge import Judge
    from fastmail.policy.learning.counts import Learned
    from fastmail.policy.scanners.nouns import Scanner
    from fastmail.policy.scanners.teaching import Pupil
    from fastmail.policy.strangers import rules


def maildir_template(config: Config) -> str:
    """The absolute Maildir template."""
    return _absolute(config, config.store.maildir)


def control_template(config: Config) -> str:
    """The same for the control files of the server before; empty where they are in the Maildirs."""
    return _absolute(config, config.store.control) if config.store.control else ""


def index_template(config: Config) -> str:
    """The same for its index files."""
    return _absolute(config, config.store.indexes) if config.store.indexes else ""


def _absolute(config: Config, template: str) -> str:
    return template if template.startswith("{home}") else os.path.join(config.server.data_dir, template)


def limits(config: Config) -> Limits:
    return Limits(**dataclasses.asdict(config.limits))


def ban_rules(config: Config) -> "Rules":
    """When somebody is kept out."""
    from fastmail.net import networks
    from fastmail.net.bans import Rules

    own = config.limits
    exempt = [networks.parse(text) for text in own.ban_exempt]
    return Rules(own.ban_after, own.ban_window, own.ban_time, exempt)


def resolver_of(config: Config) -> "Resolver":
    """Whom to ask about the DNS."""
    from fastmail.dns.resolver import Resolver

    relay = config.relay
    return Resolver(relay.dns_servers, relay.ipv6, None if relay.dnssec == "auto" else bool(relay.dnssec))


def policy_settings(config: Config) -> "received.Settings":
    """Return the settings by which mail from others is checked."""
    from fastmail.directory import named
    from fastmail.policy import lists, received
    from fastmail.policy.verdict import Thresholds

    own = config.policy
    return received.Settings(
        config.server.hostname,
        own.spf,
        own.dkim,
        own.dmarc,
        own.arc,
        own.reverse_dns,
        own.enforce,
        own.lookup_time,
        own.void_lookups,
        Thresholds(
            own.junk_score, own.refuse_score, frozenset(map(comparable, own.trusted_sealers)), own.quarantine_score
        ),
        [lists.parse(text) for text in own.lists],
        [lists.parse(text) for text in own.domain_lists],
        own.greylist_score,
        named.book(tuple(map(named.parse, own.allow))),
        named.book(tuple(map(named.parse, own.block))),
        own.blocked == "junk",
        own.received_spf,
        own.subject_tag,
        own.subject_score,
        config.strangers.hello,
        config.strangers.sender_domain,
        [lists.parse(text) for text in own.link_lists],
    )


def stranger_rules(config: Config) -> "rules.Rules":
    """What clients may do that nobody vouches for."""
    from fastmail.policy.strangers import rules

    own = config.strangers
    return rules.Rules(
        own.banner_wait,
        own.early_talkers,
        own.unknown_recipients,
        own.guessers,
        own.unknown_in_message,
        own.tarpit,
        own.tarpit_sessions,
        tuple(rules.rate(text) for text in own.rates),
    )


def quarantine_of(config: Config) -> "Quarantine":
    """Return the quarantine."""
    from fastmail.delivery.quarantine import Quarantine

    own = config.policy
    return Quarantine(config.server.data_dir, own.quarantine_days * 86400.0, own.quarantine_size)


def signature_lifetime(config: Config) -> int:
    """Return after how many seconds our signatures expire: later than a message can wait in the queue, with time to
    spare for its receivers."""
    from fastmail.policy import sign

    return max(sign.LIFETIME, int(config.relay.lifetime) + sign.LIFETIME // 2)


def key_schedule(config: Config) -> "rotation.Schedule":
    """Return when DKIM keys are replaced. A key stays published until the last signature that was made with it has
    expired."""
    from fastmail.policy import rotation

    own = config.policy
    keep = max(own.dkim_keep, float(signature_lifetime(config)))
    return rotation.Schedule(own.dkim_rotate, keep, tuple(own.dkim_kinds), own.dkim_bits)


def scanners_of(config: Config) -> "list[Scanner]":
    """Return the scanners of content, in the order of the configuration."""
    from fastmail.policy.scanners.nouns import LARGEST, Scanner

    return [
        Scanner(
            one.kind,
            one.address,
            one.name or one.kind,
            frozenset(one.on),
            one.timeout,
            one.largest or LARGEST[one.kind],
            one.when_away,
            one.virus,
            one.weight,
            one.connections,
            one.rewrite_subject,
            one.learn_address,
            _password(config, one.learn_password_file),
            one.per_user,
        )
        for one in config.scanner
    ]


def _password(config: Config, name: str) -> str:
    """What a scanner's password file has; empty without one."""
    if not name:
        return ""
    from fastmail.model import secret

    try:
        return secret.first_line(os.path.join(config.base, name))
    except OSError as error:
        raise ConfigError(f"[[scanner]] learn_password_file: {error.strerror}") from None


def pupils_of(config: Config) -> "list[Pupil]":
    """The scanners that learn what users move; as one worker teaches them."""
    if not any(one.learn_address for one in config.scanner):
        return []
    from fastmail.policy.scanners.teaching import Pupil

    return [Pupil(one) for one in scanners_of(config) if one.learns]


def learned_of(config: Config) -> "Learned":
    """Return what users taught the classifier. Nothing is opened yet."""
    from fastmail.policy.learning.counts import Learned

    own = config.learning
    return Learned(config.server.data_dir, max(own.words, 1), max(own.messages, 1))


def judge_of(config: Config, learned: "Learned | None" = None) -> "Judge | None":
    """Return the judge of content, with all scanners; None if there are no scanners and no classifier."""
    if not config.scanner and learned is None:
        return None
    from fastmail.policy.judge import Judge, Taught  # with what asks scanners, which few commands need
    from fastmail.policy.scanners.panel import Panel

    own = policy_settings(config)
    taught = Taught(learned, config.learning.score) if learned is not None else None
    return Judge(Panel(scanners_of(config)), own.thresholds, own.enforce, taught)


def masters_of(config: Config) -> "Masters | None":
    """Who may act for others; None where nobody may."""
    from fastmail.auth.verifier import Masters

    auth = config.auth
    return Masters(frozenset(map(folded, auth.admins)), auth.master_user_separator) if auth.master_users else None


def users_of(names: Sequence[str]) -> frozenset[int]:
    """Numbers of users of this machine."""
    from fastmail.app.owner import named_user

    found = set()
    for name in names:
        user = named_user(name)
        if user is None:
            raise ConfigError(f"[listen] unix_users: this machine has no user {name!r}")
        found.add(user.pw_uid)
    return frozenset(found)


def make_tls(config: Config) -> "ServerTls | None":
    """Return the TLS context; None if no certificate is configured."""
    if not config.tls.certificate:
        return None
    from fastmail.net.tls import ServerTls

    tls = config.tls
    return ServerTls(
        tls.certificate, tls.key, tls.minimum_version, tls.client_ca, tls.client_crl, _more_certificates(config)
    )


def make_web_tls(config: Config) -> "ServerTls | None":
    """The same for the web server, which asks browsers for no certificate; None where it speaks without TLS."""
    if not config.web.listen or config.web.plain:
        return None
    from fastmail.net.tls import ServerTls

    tls = config.tls
    return ServerTls(tls.certificate, tls.key, tls.minimum_version, more=_more_certificates(config))


def _more_certificates(config: Config) -> "list[Pair]":
    from fastmail.net.sni import Pair

    return [Pair(one.certificate, one.key, tuple(one.names)) for one in config.certificate]


def read_instance(config: Config) -> str:
    """The mark of the running server, or NO_INSTANCE."""
    from fastmail.store.local.maildir.names import NO_INSTANCE

    try:
        with open(os.path.join(config.server.run_dir, "instance"), encoding="ascii") as file:
            return file.read().strip()[:8] or NO_INSTANCE
    except OSError:
        return NO_INSTANCE


def running(config: Config) -> bool:
    """True if a server is running on this data directory."""
    try:
        with open(os.path.join(config.server.run_dir, "lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
