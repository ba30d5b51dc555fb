"""Reads a configuration file. What is wrong with it is told with file, line, and what was probably meant."""

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from typing import Any

from fastmail.auth import mechanisms, provider, send_as
from fastmail.config import places, strangers
from fastmail.config.settings import SECTIONS, TABLES, Config
from fastmail.model import place
from fastmail.model.address import Address, comparable
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress, ConfigError
from fastmail.model.meant import meant
from fastmail.model.units import parse_size, parse_time
from fastmail.net import networks

_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
TLS = ("none", "may", "encrypt", "verify")  # of [relay] tls; queue.routes has the same for each route
_CHOICES = {
    "minimum_version": ("1.2", "1.3"),
    "content": ("maildir", "segments"),
    "separator": ("/", "."),
    "anyone": ("list", "subscribed", "off"),
    "layout": ("maildir++", "fs"),
    "shared": ("none", "dovecot"),
    "format": ("text", "json"),
    "level": ("debug", "info", "warning", "error"),
    "ldap_nested_groups": ("no", "follow", "chain"),
    **strangers.CHOICES,
}


def load(path: str) -> Config:
    """The configuration; ConfigError with all that is wrong, a line each."""
    refuse_path(path)
    try:
        with open(path, encoding="utf-8-sig") as file:  # editors of Windows put a mark in front
            text = file.read()
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}. `fastmail quickstart DIR ADDRESS` writes a first one; -c names another."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    return parse(text, path)


def refuse_path(path: str) -> None:
    """ConfigError for the path of a configuration that is not UTF-8, or has control characters: paths of the data begin
    with it, and LMDB, TOML and the log have to take them."""
    whole = os.path.abspath(path)
    if _UNUSABLE.search(whole):
        raise ConfigError(f"{path!r}: the path has octets that are not UTF-8, or controls: choose another directory")


def parse(text: str, path: str = "fastmail.toml") -> Config:
    """The same from text; relative paths start from the file's directory."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_not_toml(path, str(error))) from None
    problems: list[str] = []
    config = Config(path=os.path.abspath(path), base=os.path.dirname(os.path.abspath(path)))
    for name, table in data.items():
        if name in TABLES:
            _tables(config, name, table, text, path, problems)
            continue
        section = SECTIONS.get(name)
        if section is None:
            maybe = meant(name, [*SECTIONS, *TABLES])
            problems.append(f"{path}:{_line(text, name, '')}: unknown section [{name}]{maybe}")
            continue
        if not isinstance(table, dict):
            problems.append(f"{path}:{_line(text, '', name)}: {name} is a section: write [{name}]")
            continue
        known = {item.name: item for item in fields(section)}
        for key, value in table.items():
            where = f"{path}:{_line(text, name, key)}"
            if key not in known:
                problems.append(f"{where}: unknown key {key} in [{name}]{meant(key, list(known))}")
                continue
            try:
                setattr(getattr(config, name), key, _value(known[key], value))
            except ValueError as error:
                problems.append(f"{where}: {key} {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    _finish(config, text, path)
    return config


def _not_toml(path: str, why: str) -> str:
    """What tomllib says, with the line where all other errors have it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", why, re.DOTALL)
    if found is None:
        return f"{path}: {why}"
    hint = '; a text stands in quotes: name = "value"' if found[1] == "Invalid value" else ""
    return f"{path}:{found[2]}: {found[1]}, in column {found[3]}{hint}"


def _tables(config: Config, name: str, tables: Any, text: str, path: str, problems: list[str]) -> None:
    """The sections of a name that may be there several times."""
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        problems.append(f"{path}:{_line(text, name, '')}: there may be several of {name}: write [[{name}]]")
        return
    known = {item.name: item for item in fields(TABLES[name])}
    for number, table in enumerate(tables):
        values = TABLES[name]()
        for key, value in table.items():
            where = f"{path}:{_line(text, name, key, number)}"
            if key not in known:
                problems.append(f"{where}: unknown key {key} in [[{name}]]{meant(key, list(known))}")
                continue
            try:
                setattr(values, key, _value(known[key], value))
            except ValueError as error:
                problems.append(f"{where}: {key} {error}")
        getattr(config, name).append(values)


def _value(item: "Field[Any]", value: Any) -> Any:
    kind = item.metadata["kind"]
    if kind == "size":
        if isinstance(value, str):
            return parse_size(value)
        kind = "int"
    if kind == "time":
        if isinstance(value, str):
            return parse_time(value)
        kind = "float"
    if kind == "times":
        if not isinstance(value, list) or not value:
            raise ValueError('must be a list of times such as ["5m", "1h"]')
        for one in value:
            parse_time(one)
        return [str(one) for one in value]
    if kind == "plaintext":
        if value is True or value is False or value == "loopback":
            return value
        raise ValueError('must be true, false or "loopback"')
    if kind == "auto":
        if value is True or value is False or value == "auto":
            return value
        raise ValueError('must be true, false or "auto"')
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("must not be negative")
        return value
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("must not be negative")
        return float(value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str):
        choices = _CHOICES.get(item.name)
        if choices and value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {value!r}")
        return value
    if kind == "list" and isinstance(value, list):
        if not all(isinstance(one, str) for one in value):
            raise ValueError("must be a list of texts")
        return value
    if kind == "places" and isinstance(value, list):
        try:
            return [place.place(address if isinstance(address, str) else repr(address), True) for address in value]
        except ValueError as error:
            raise ValueError(f'must be a list of "host:port" or "unix:path": {error}') from None
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    names |= {"list": "a list", "places": "a list"}
    raise ValueError(f"must be {names[kind]}, not {value!r}")


def _finish(config: Config, text: str, path: str) -> None:
    """Checks between settings, and paths made absolute."""
    problems = []
    file = text  # which the loops below call their own values

    def problem(section: str, key: str, what: str) -> None:
        problems.append(f"{path}:{_line(file, section, key)}: {what}")

    base = config.base
    _names(config, problem)
    config.store.shared_accounts = [comparable(one) for one in config.store.shared_accounts]
    _make_absolute(config, base)
    try:
        _check_sources(config, base)
    except ConfigError as error:
        problem("directory", str(error).partition(" ")[0].rstrip(":"), str(error))
    if config.source:
        from fastmail.config import named_sources  # with what reads them, which few commands need

        for number, key, what in named_sources.faults(config):
            problems.append(f"{path}:{_line(text, 'source', key, number)}: {what}")
    for section, key, what in places.faults(config):
        problem(section, key, what)
    _check_tls(config, problem)
    for number, key, what in _certificates(config, base):
        problems.append(f"{path}:{_line(text, 'certificate', key, number)}: {what}")
    if config.limits.message_size > 1 << 31:
        problem("limits", "message_size", "message_size must not be above 2 GiB")
    try:
        _check_routes(config, base)
    except ConfigError as error:
        problem("relay", "pools" if "[relay] pools" in str(error) else "routes", str(error))
    _check_filters(config, problem)
    if config.relay.tls not in TLS:
        problem("relay", "tls", "tls must be none, may, encrypt or verify")
    _check_store(config, problem)
    _check_auth(config, base, problem)
    _check_networks(config, problem)
    _check_web(config, problem)
    _check_reports(config, problem)
    _check_lists(config, problem)
    _check_named(config, problem)
    for key, what in strangers.faults(config.strangers, config.policy.spf):
        problem("strangers", key, what)
    _check_signing(config, problem)
    if config.scanner:
        from fastmail.config import scanners  # with the words of policy, which few commands need

        for number, key, what in scanners.faults(config.scanner):
            problems.append(f"{path}:{_line(text, 'scanner', key, number)}: {what}")
    if problems:
        raise ConfigError("\n".join(problems))


def _make_absolute(config: Config, base: str) -> None:
    """Let relative paths begin at ``base``."""
    config.server.data_dir = os.path.join(base, config.server.data_dir)
    config.server.run_dir = os.path.join(base, config.server.run_dir or os.path.join(config.server.data_dir, "run"))
    if config.directory.sql.startswith("sqlite:"):
        config.directory.sql = "sqlite:" + os.path.join(base, config.directory.sql.removeprefix("sqlite:"))
    if config.directory.passwd_file:
        config.directory.passwd_file = os.path.join(base, config.directory.passwd_file)
    for key in ("certificate", "key", "client_ca", "client_crl"):
        value = getattr(config.tls, key)
        if value:
            setattr(config.tls, key, os.path.join(base, value))


def _check_tls(config: Config, problem: Callable[[str, str, str], None]) -> None:
    if bool(config.tls.certificate) != bool(config.tls.key):
        problem("tls", "certificate", "certificate and key go together")
    if config.tls.client_crl and not config.tls.client_ca:
        problem("tls", "client_crl", "client_crl says what the authorities of client_ca have revoked: give both")
    if not config.tls.certificate:
        for key in ("submissions", "imaps", "pop3s"):
            if getattr(config.listen, key):
                problem("listen", key, f"{key} needs [tls] certificate and key")


def _check_filters(config: Config, problem: Callable[[str, str, str], None]) -> None:
    for key in ("smtp", "submission", "lmtp"):
        for place_ in getattr(config.filters, key):
            if place_.startswith(":"):
                problem("filters", key, f"{key}: {place_!r} has no host")
    if config.filters.otherwise not in ("tempfail", "accept", "reject"):
        problem("filters", "otherwise", "otherwise must be tempfail, accept or reject")


def _check_signing(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Check the settings of what is put on mail that users send."""
    kinds = config.policy.dkim_kinds
    if not kinds or not set(kinds) <= {"rsa", "ed25519"}:
        problem("policy", "dkim_kinds", 'dkim_kinds must be of "rsa" and "ed25519"')
    if not 2048 <= config.policy.dkim_bits <= 4096:
        problem("policy", "dkim_bits", "dkim_bits must be 2048 to 4096")
    if config.policy.feedback_id and not re.fullmatch(r"[A-Za-z0-9]{5,15}", config.policy.feedback_id):
        problem("policy", "feedback_id", "feedback_id must be 5 to 15 letters and digits")


def _names(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Host names, addresses and ports in the form in which they are used; what is wrong with them."""
    relay = config.relay
    checks: list[tuple[Any, str, str, Callable[[str], Any]]] = [
        (config.server, "server", "hostname", place.host_name),
        (config.auth, "auth", "default_domain", place.host_name),
        (config.policy, "policy", "arc_seal", place.host_name),
        (relay, "relay", "source_ipv4", lambda text: place.ip_address(text, 4)),
        (relay, "relay", "source_ipv6", lambda text: place.ip_address(text, 6)),
        (relay, "relay", "port", lambda port: place.port_number(str(port))),
        (relay, "relay", "dns_servers", lambda texts: [place.resolver(text) for text in texts]),
    ]
    for owner, section, key, form in checks:
        value = getattr(owner, key)
        if value == "" and key != "hostname":
            continue
        try:
            setattr(owner, key, form(value))
        except ValueError as error:
            problem(section, key, f"{key} {error}")


def _certificates(config: Config, base: str) -> Iterator[tuple[int, str, str]]:
    """Make the paths of [[certificate]] absolute and its names comparable; yield what is wrong: which section, which
    key, what."""
    for number, one in enumerate(config.certificate):
        if not one.certificate or not one.key:
            yield number, "certificate", "certificate and key go together"
        if not config.tls.certificate:
            yield number, "certificate", "[[certificate]] needs [tls] certificate and key, for all other names"
        one.certificate, one.key = os.path.join(base, one.certificate), os.path.join(base, one.key)
        for at, name in enumerate(one.names):
            star = "*." if name.startswith("*.") else ""
            try:
                one.names[at] = star + ascii_name(name.removeprefix(star))
            except BadAddress:
                yield number, "names", f"names: {name!r} is no name of a host"


def _line(text: str, section: str, key: str, nth: int = 0) -> int:
    """The line of a section or of a key in it; 1 when it is not found. ``nth``: of the sections of that name, from 0
    on; a key that is not in it is where the section begins."""
    current, begun, seen = "", 1, -1 if section else 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            current = stripped.strip("[]").strip()
            seen += current == section
            if current == section and seen == nth:
                if not key:
                    return number
                begun = number if stripped.startswith("[[") else 1
        elif key and current == section and seen == nth and re.match(rf'"?{re.escape(key)}"?\s*=', stripped):
            return number
    return begun


def _check_routes(config: Config, base: str) -> None:
    """Whether mail can go where the route table says; without one there is nothing to import for that."""
    relay = config.relay
    if relay.routes or relay.tls_policies or relay.pools:
        from fastmail.queue import routes

        routes.parse(relay.routes, relay.tls_policies, base, relay.pools)


def _check_store(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Where Maildirs lie, and what else serves them."""
    if config.store.shards < 1 or config.store.shards > 64:
        problem("store", "shards", "shards must be 1 to 64")
    template = config.store.maildir
    templates = template + config.store.control + config.store.indexes
    try:
        templates.format(domain="d", user="u", home="h")
    except (KeyError, IndexError, ValueError):
        problem("store", "maildir", "the template may use {domain}, {user} and {home} only")
    if "{home}" in templates and not config.store.homes.startswith("/"):
        problem("store", "maildir", "{home} needs [store] homes, the absolute path of the directory with the homes")
    if "{user}" not in template and "{home}" not in template:
        problem("store", "maildir", "the template needs {user}, or accounts would share a Maildir")
    if config.store.prefix and not config.store.prefix.endswith(config.store.separator):
        problem("store", "prefix", f'prefix must end with the separator "{config.store.separator}"')
    if config.store.shared == "dovecot" and config.store.content != "maildir":
        problem("store", "shared", 'what Dovecot serves too must be in Maildirs: content = "maildir"')


def _check_auth(config: Config, base: str, problem: Callable[[str, str, str], None]) -> None:
    """How people log in, and what each way needs."""
    separator = config.auth.master_user_separator
    if separator and (len(separator) != 1 or separator not in "*!%&#$~^|/:;,="):
        problem("auth", "master_user_separator", "master_user_separator must be one of * ! % & # $ ~ ^ | / : ; , =")
    elif separator and not config.auth.master_users:
        problem("auth", "master_user_separator", "master_user_separator needs master_users = true")
    try:
        send_as.parse(config.auth.header_senders, config.auth.send_as)
    except ConfigError as error:
        problem("auth", str(error).partition(" ")[0].partition(":")[0], str(error))
    for name in config.auth.mechanisms:
        if name not in mechanisms.NAMES:
            problem("auth", "mechanisms", f"{name} is not known; known are {', '.join(mechanisms.NAMES)}")
    try:
        tokens = provider.load(config.oauth, base)
    except ConfigError as error:
        problem("oauth", str(error).partition(":")[0].partition(" ")[0], str(error))
    else:
        named = [name for name in config.auth.mechanisms if name in mechanisms.TOKENS]
        if named and not tokens.jwks and not tokens.introspection:
            problem("auth", "mechanisms", f"{named[0]} needs jwks or introspection in [oauth]")
    if "EXTERNAL" in config.auth.mechanisms and not config.tls.client_ca:
        problem("auth", "mechanisms", "EXTERNAL needs client_ca in [tls]")


def _check_networks(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Lists of networks, and of networks and logins."""
    for section, key in (
        ("relay", "networks"),
        ("listen", "proxy_protocol"),
        ("listen", "xclient"),
        ("policy", "exempt"),
        ("limits", "ban_exempt"),
    ):
        for network in getattr(getattr(config, section), key):
            try:
                networks.parse(network)
            except ValueError as error:
                problem(section, key, str(error))
    for one in config.relay.never_suspend:
        try:
            if "@" not in one:
                networks.parse(one)
        except ValueError:
            problem("relay", "never_suspend", f"never_suspend: {one!r} is neither a login (an address) nor a network")


def _check_web(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Whether the web server can be reached as links to it say."""
    web = config.web
    if web.url:
        try:
            web.url = place.https_url(web.url)
        except ValueError as error:
            problem("web", "url", f"url {error}")
        if not web.listen:
            problem("web", "url", "url needs listen, or links would lead nowhere")
    if web.listen and not web.plain and not config.tls.certificate:
        problem("web", "listen", "listen needs [tls] certificate and key, or plain = true behind a reverse proxy")
    for one in web.listen if web.plain else ():
        if not place.is_loopback(one):
            problem("web", "listen", f"plain HTTP is for loopback addresses and Unix sockets only, not for {one}")


def _check_lists(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Whether the DNS lists are named as they must be; without any there is nothing to import for that."""
    for key in ("lists", "domain_lists", "link_lists"):
        for text in getattr(config.policy, key):
            from fastmail.policy import lists

            try:
                lists.parse(text)
            except ValueError as error:
                problem("policy", key, str(error))


def _check_named(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """Senders and networks of the operator's lists; without any there is nothing to import for that."""
    for key in ("allow", "block"):
        for text in getattr(config.policy, key):
            from fastmail.directory import named

            try:
                named.parse(text)
            except (ValueError, BadAddress) as error:
                problem("policy", key, f"{key}: {error}")
    if config.policy.subject_tag:
        from fastmail.message import subject

        if not subject.valid(config.policy.subject_tag):
            fault = (
                f"subject_tag must be printable, without spaces at its ends and =?, of at most {subject.LONGEST} octets"
            )
            problem("policy", "subject_tag", fault)
    if config.policy.blocked not in ("refuse", "junk"):
        problem("policy", "blocked", "blocked must be refuse or junk")


def _check_reports(config: Config, problem: Callable[[str, str, str], None]) -> None:
    """What failure reports show and how many there are; addresses of reports, in the form in which envelopes have
    them."""
    if config.policy.failure_shows not in ("redacted", "header", "message"):
        problem("policy", "failure_shows", "failure_shows must be redacted, header or message")
    for key in ("failure_reports_per_domain", "failure_reports_per_hour"):
        if getattr(config.policy, key) < 1:  # no limit would be a way to flood others (RFC 9991 2)
            problem("policy", key, f"{key} must be at least 1; failure_reports = false sends none")
    for key in ("reports_from", "reports_address"):
        address = getattr(config.policy, key)
        try:
            setattr(config.policy, key, str(Address.parse(address)) if address else "")
        except BadAddress as error:
            problem("policy", key, f"{key}: {error}")
        if not address.isascii():
            problem("policy", key, f"{key} must be ASCII: every server has to be able to write to it")


def _check_sources(config: Config, base: str) -> None:
    """Whether what is followed can be. Most configurations follow nothing, and need not import what would."""
    if config.directory.passwd_file or config.directory.sql or config.directory.ldap:
        from fastmail.directory import sources

        sources.source(config.directory, config.auth.default_domain, base, config.store.homes)
