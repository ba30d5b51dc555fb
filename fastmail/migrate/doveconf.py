"""Reads a Dovecot configuration (what ``doveconf -n`` prints, 2.3 and 2.4) and says what becomes of each part of it.

The result is a proposed ``fastmail.toml``, the accounts that a passwd-file holds, and a list of findings: what is taken
over as it is, what clients would notice, and what stands in the way. Nothing is changed here.
"""

import glob
import os
import re
from collections.abc import Iterator
from urllib.parse import quote

from fastmail.directory.queries import compile_query
from fastmail.migrate import certificates, passdbs
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Block, Finding, Plan, quoted
from fastmail.model.errors import CannotDo, ConfigError, in_words

SECTIONS = ("server", "listen", "tls", "auth", "directory", "store", "limits")
PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "lmtp": 24}
ELSEWHERE = ("proxy", "proxy_maybe", "host")  # fields of accounts whose mail is on another server
MOST_INCLUDES = 10  # files in files
_OPEN = re.compile(r"([\w-]+)\s*(.*?)\s*\{")
_VARIABLES = [
    (re.compile(r"%\{\s*user\s*\|\s*domain\s*\}|%\{domain\}|%L?d"), "{domain}"),
    (re.compile(r"%\{\s*user\s*\|\s*username\s*\}|%\{username\}|%L?n"), "{user}"),
    (re.compile(r"%\{user\}|%L?u"), "{user}@{domain}"),
]


def parse(text: str) -> Block:
    """The configuration; CannotDo with the line that makes no sense."""
    root = Block()
    stack = [root]
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line == "}":
            if len(stack) == 1:
                raise CannotDo(f"line {number}: a }} too many")
            stack.pop()
            continue
        opened = _OPEN.fullmatch(line)
        if opened is not None:
            block = Block(opened.group(1), opened.group(2).strip('"'))
            there = next((one for one in stack[-1].all(block.kind) if block.name and one.name == block.name), None)
            if there is None:
                stack[-1].blocks.append(block)
            stack.append(there or block)  # a section of one name in several files is one
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise CannotDo(f"line {number}: neither a setting nor a section: {line[:60]}")
        stack[-1].values[name.strip()] = value.strip().strip('"')
    if len(stack) > 1:
        raise CannotDo(f"section {stack[-1].kind} is not closed: is the file whole?")
    return root


def plan(text: str, domain: str) -> Plan:
    """What to do; ``domain`` completes users without one."""
    conf = parse(text)
    out = Plan()
    settings: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    _mail(conf, out, settings)
    _namespaces(conf, out, settings)
    _listeners(conf, out, settings)
    more = certificates.take(conf, out, settings)
    _auth(conf, out, settings, domain)
    _plugins(conf, out, settings)
    lines = ["# proposed from a Dovecot configuration: see `fastmail config-reference` for the rest"]
    settings["server"] = {"hostname": quoted(conf.get("hostname") or "mail." + (domain or "example.org"))} | settings[
        "server"
    ]
    settings["server"]["data_dir"] = quoted("/var/lib/fastmail")
    for section, values in settings.items():
        if values:
            lines += ["", f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
    out.config = "\n".join(lines) + "\n" + more
    return out


def template(path: str, home: str) -> str:
    """A path of Dovecot's with its variables as ours; CannotDo for those that we have not."""
    if path.startswith("~"):
        path = home + path[1:]
    path = path.replace("%h", home).replace("%{home}", home)
    for variable, ours in _VARIABLES:
        path = variable.sub(ours, path)
    left = re.search(r"%\{[^}]*\}|%\S", path)
    if left is not None:
        raise CannotDo(f"{left.group(0)} cannot be said in a path here")
    return path.rstrip("/")


def _home(conf: Block) -> str:
    """The home directory of users."""
    for block in conf.all("userdb"):
        match = re.search(r"(?:^|\s)home=(\S+)", block.get("args"))
        if match is not None:
            return match.group(1)
        for fields in block.all("fields"):
            if fields.get("home"):
                return fields.get("home")
    return conf.get("mail_home")


def _mail_location(conf: Block) -> tuple[str, str, str, dict[str, str]]:
    """Return where mail is: as Dovecot's configuration says it, the driver, the path, and options by name."""
    location = conf.get("mail_location")
    driver, _, rest = location.partition(":")
    options = dict(part.partition("=")[::2] for part in rest.split(":")[1:])
    path = rest.split(":")[0]
    if not location:
        driver, path = conf.get("mail_driver"), conf.get("mail_path")
        options = {
            "LAYOUT": conf.get("mailbox_list_layout"),
            "CONTROL": conf.get("mail_control_path"),
            "INDEX": conf.get("mail_index_path"),
            "DIRNAME": conf.get("mailbox_directory_name"),
            "INBOX": conf.get("mail_inbox_path"),
        }
        if conf.get("mailbox_list_utf8") == "yes":
            options["UTF-8"] = ""
    return location or f"{driver}:{path}", driver, path, options


def _mail(conf: Block, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    theirs, driver, path, options = _mail_location(conf)
    if driver != "maildir":
        out.findings.append(
            Finding("mail", theirs, "only Maildir is taken over: convert with `doveadm sync` first", BLOCKS)
        )
        return
    home = _home(conf)
    asked = any("sql" in (one.get("driver"), one.name) for one in conf.all("userdb"))
    if path.startswith("~") and asked and not home:
        home = "{home}"
        settings["store"]["homes"] = quoted("/srv/vmail")
        say = "[store] homes: put the directory there that all homes are in"
        out.findings.append(Finding("homes", "from the database", say, NOTICED))
    try:
        if path.startswith("~") and not home:
            raise CannotDo("~ is each user's home, which the configuration does not say: look in the user database")
        settings["store"]["maildir"] = quoted(template(path, home))
        out.findings.append(Finding("mail", theirs, template(path, home), SAME))
        if options.get("CONTROL"):
            settings["store"]["control"] = quoted(template(options["CONTROL"], home))
            out.findings.append(Finding("control files", options["CONTROL"], "read from there, too", SAME))
        if options.get("INDEX") and options["INDEX"] != "MEMORY":
            settings["store"]["indexes"] = quoted(template(options["INDEX"], home))
            say = "keywords beyond the 26 that file names can say are read from there"
            out.findings.append(Finding("index files", options["INDEX"], say, SAME))
    except CannotDo as error:
        out.findings.append(Finding("mail", theirs, f"set [store] maildir by hand: {error}", BLOCKS))
    _folders(options, out, settings)
    owner = conf.get("mail_uid")
    if owner:
        settings["server"]["user"] = quoted(owner)
        out.findings.append(Finding("owner of mail", owner, "[server] user: files stay that user's", SAME))


def _folders(options: dict[str, str], out: Plan, settings: dict[str, dict[str, str]]) -> None:
    """How folders lie in a Maildir, and how they are named."""
    kind = (options.get("LAYOUT") or "maildir++").lower()
    if kind == "fs":
        settings["store"]["layout"] = quoted(kind)
    if kind in ("fs", "maildir++"):
        out.findings.append(Finding("folders", f"LAYOUT={kind}", f'[store] layout = "{kind}"', SAME))
    else:
        out.findings.append(Finding("folders", f"LAYOUT={kind}", 'only "maildir++" and "fs" are taken over', BLOCKS))
    if "UTF-8" in options:
        settings["store"]["utf8_names"] = "true"
        out.findings.append(Finding("names of folders", "UTF-8", "[store] utf8_names", SAME))
    for name in ("DIRNAME", "INBOX"):
        if options.get(name):
            say = "folders and INBOX must lie in the Maildir itself: move them with `doveadm sync` first"
            out.findings.append(Finding("folders", f"{name}={options[name]}", say, BLOCKS))


def _namespaces(conf: Block, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    for block in conf.all("namespace"):
        kind = block.get("type") or "private"
        if block.get("inbox") != "yes":
            what = f"namespace {block.name}".strip()
            theirs = f"{kind}, prefix {block.get('prefix')!r}"
            if kind == "shared":
                out.findings.append(Finding(what, theirs, "Other Users/, by IMAP ACL", NOTICED))
            elif kind == "public":
                out.findings.append(Finding(what, theirs, "Shared/: move it to an account of its own", NOTICED))
            else:
                out.findings.append(Finding(what, theirs, "a second private namespace is not there", MISSING))
            continue
        separator, prefix = block.get("separator") or ".", block.get("prefix")
        if separator not in "/.":
            out.findings.append(Finding("separator", separator, 'only "/" and "."', BLOCKS))
            continue
        settings["store"]["separator"] = quoted(separator)
        if prefix:
            settings["store"]["prefix"] = quoted(prefix)
        out.findings.append(Finding("folder names", f"prefix {prefix!r}, separator {separator!r}", "the same", SAME))


def _listeners(conf: Block, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    protocols = (conf.get("protocols") or "imap pop3 lmtp").split()
    hosts = [host.strip() for host in (conf.get("listen") or "*, ::").split(",")]
    ports = dict(PORTS)
    for service in conf.all("service"):
        for listener in service.all("inet_listener"):
            if listener.name in ports and listener.get("port"):
                ports[listener.name] = int(listener.get("port"))
    named = {"*": "0.0.0.0", "::": "[::]"}
    for name, port in ports.items():
        if name.removesuffix("s") in protocols and port and name != "lmtp":
            places = [quoted(f"{named.get(host, host)}:{port}") for host in hosts]
            settings["listen"][name] = "[" + ", ".join(places) + "]"
            out.findings.append(Finding(name, f"port {port}", "the same", SAME))
    if "lmtp" in protocols:
        settings["listen"]["lmtp"] = '["unix:/run/fastmail/lmtp"]'
        out.findings.append(
            Finding("lmtp", "its own socket", "unix:/run/fastmail/lmtp: name it in your MTA (lmtp:unix:...)", SAME)
        )
    for name in protocols:
        if name in ("sieve", "submission"):
            ours = {"sieve": "filters are not run yet", "submission": "[listen] submission"}[name]
            out.findings.append(Finding(name, "on", ours, MISSING if name == "sieve" else SAME))


def _auth(conf: Block, out: Plan, settings: dict[str, dict[str, str]], domain: str) -> None:
    if conf.get("disable_plaintext_auth") == "no" or conf.get("auth_allow_cleartext") == "yes":
        settings["auth"]["plaintext_without_tls"] = "true"
    realm = conf.get("auth_default_realm", "auth_default_domain") or domain
    if realm:
        settings["auth"]["default_domain"] = quoted(realm)
    mechanisms = (conf.get("auth_mechanisms") or "plain").upper().split()
    ours = [one for one in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1") if one in mechanisms]
    settings["auth"]["mechanisms"] = "[" + ", ".join(quoted(one) for one in ours or ["PLAIN"]) + "]"
    for one in sorted(set(mechanisms) - set(ours)):
        state = NOTICED if one in ("OAUTHBEARER", "XOAUTH2", "EXTERNAL") else MISSING
        say = "needs [oauth] or [tls] client_ca" if state == NOTICED else "not offered"
        out.findings.append(Finding("login by " + one, "on", say, state))

    def others(block: Block, driver: str, path: str) -> None:
        if driver == "sql":
            _sql(conf, block, path, out, settings)
        elif driver == "ldap":
            _ldap(block, path, out, settings)
        else:
            theirs = f"{driver} {block.get('args')}".strip()
            out.findings.append(Finding("accounts", theirs, "make a file for `account import`", BLOCKS))

    passdbs.take_all(conf, out, realm, others, _file_lines)


def _file_lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().split("\n")


_ATTRIBUTE = re.compile(r"=?([\w;-]+)(?:=([\w]+))?$")


def _ldap(block: Block, path: str, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    """A file of its own (2.3); 2.4's sections are said to be done by hand."""
    if not path:
        say = "set [directory] ldap, ldap_base, ldap_filter by hand"
        out.findings.append(Finding("accounts", "ldap", say, BLOCKS))
        return
    try:
        found = _lines("\n".join(_file_lines(path)))
    except OSError as error:
        out.findings.append(Finding("accounts", path, f"cannot be read: {error.strerror}", BLOCKS))
        return
    bound = found.get("auth_bind") == "yes"
    attributes: dict[str, str] = {}
    for part in (found.get("pass_attrs", "") + "," + found.get("user_attrs", "")).split(","):
        match = _ATTRIBUTE.fullmatch(part.strip())
        if match is not None and match[2]:
            attributes.setdefault(match[2].removeprefix("userdb_"), match[1])
    place = (found.get("uris") or "ldap://" + found.get("hosts", "localhost")).split()[0]
    filter_ = re.sub(r"\(?([\w-]+)=%[LU]?[unw]\)?", r"(\1=*)", found.get("pass_filter", "(mail=%u)"))
    asked = re.search(r"\(([\w-]+)=%", found.get("pass_filter", "(mail=%u)"))
    wanted = {
        "ldap": place,
        "ldap_bind": found.get("dn", ""),
        "ldap_base": found.get("base", ""),
        "ldap_filter": filter_,
        "ldap_address": attributes.get("user", asked[1] if asked is not None else "mail"),
        "ldap_password": attributes.get("password", "userPassword"),
        "ldap_nets": attributes.get("allow_nets", ""),
        "ldap_nologin": attributes.get("nologin", ""),
        "ldap_proxy": next((attributes[name] for name in ELSEWHERE if name in attributes), ""),
    }
    settings["directory"] = {name: quoted(value) for name, value in wanted.items() if value}
    if bound:
        settings["directory"].pop("ldap_password")
        settings["directory"]["ldap_bind_as_user"] = "true"
        out.findings.append(Finding("accounts", "ldap auth_bind", "ldap_bind_as_user: passwords stay there", SAME))
    if bound and found.get("auth_bind_userdn"):
        say = "entries are looked for first: ldap_bind must be allowed to search, then the user's own name is bound"
        out.findings.append(Finding("accounts", "ldap auth_bind_userdn", say, NOTICED))
    out.findings.append(
        Finding("accounts", f"ldap {place}", "[directory] ldap: followed, and asked at each login", SAME)
    )
    if found.get("dnpass"):
        settings["directory"]["ldap_password_file"] = quoted("/etc/fastmail/ldap-password")
        say = "put it into the file of ldap_password_file"
        out.findings.append(Finding("accounts", "ldap dnpass", say, NOTICED))
    here = {"allow_nets": "ldap_nets", "nologin": "ldap_nologin", **dict.fromkeys(ELSEWHERE, "ldap_proxy")}
    for name in (*here, "nopassword", "allow_real_nets"):
        if name in attributes:
            kept = settings["directory"].get(here.get(name, "")) == quoted(attributes[name])
            say = f"kept: {here[name]}" if kept else "cannot be said of LDAP here"
            out.findings.append(Finding("logins", f"ldap: {name}", say, SAME if kept else BLOCKS))


def _sql(conf: Block, block: Block, path: str, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    """Queries: in a file of their own (2.3), or in the sections (2.4)."""
    users = [one for one in conf.all("userdb") if "sql" in (one.get("driver"), one.name)]
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                found = _lines(file.read())
        except (OSError, UnicodeDecodeError) as error:
            out.findings.append(Finding("accounts", path, f"cannot be read: {in_words(error, path)}", BLOCKS))
            return
        driver, connect = found.get("driver", ""), found.get("connect", "")
        place = dict(word.partition("=")[::2] for word in connect.split()) if driver != "sqlite" else {}
    else:
        driver = conf.get("sql_driver")
        connect = conf.get("sqlite_path")
        found = {"password_query": block.get("query", "passdb_sql_query")}
        found["default_pass_scheme"] = block.get("default_password_scheme", "passdb_default_password_scheme")
        for one in users:
            found["user_query"] = one.get("query", "userdb_sql_query")
            found["iterate_query"] = one.get("iterate_query", "userdb_sql_iterate_query")
        server = next((one for one in conf.blocks if one.kind in ("mysql", "pgsql")), Block())
        place = {"host": server.name} | server.values
        for parameters in server.all("parameters"):
            place |= parameters.values
        place |= {name.removeprefix("mysql_").removeprefix("pgsql_"): value for name, value in place.items()}
    url = _url(driver, connect, place)
    if not url or not found.get("password_query"):
        out.findings.append(
            Finding("accounts", f"sql {driver}", "no database or no password_query: set [directory] by hand", BLOCKS)
        )
        return
    wanted = {"sql": url, "sql_password_query": found["password_query"]}
    if users:
        wanted |= {f"sql_{name}": found.get(name, "") for name in ("user_query", "iterate_query")}
    if found.get("default_pass_scheme"):
        wanted["sql_scheme"] = found["default_pass_scheme"]
    for name in ("sql_password_query", "sql_user_query"):
        try:
            compile_query(wanted.get(name, ""))
        except ConfigError as error:
            out.findings.append(Finding("accounts", name.removeprefix("sql_"), str(error), BLOCKS))
    settings["directory"] = {name: quoted(value) for name, value in wanted.items() if value}
    out.findings.append(Finding("accounts", f"sql {driver}", "[directory]: the same queries, asked live", SAME))
    passdbs.say_query(wanted["sql_password_query"], out)
    if not wanted.get("sql_iterate_query"):
        out.findings.append(
            Finding("accounts", "no iterate_query", "`fastmail domain add` says which domains are here", NOTICED)
        )


def _lines(text: str) -> dict[str, str]:
    """A file of ``name = value`` lines, of which one with a backslash at the end goes on in the next."""
    out = {}
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            value = value.strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            out[name.strip()] = value[1:-1] if quoted else value
    return out


def _url(driver: str, connect: str, place: dict[str, str]) -> str:
    """A database's address as [directory] sql has it; empty for one that cannot be used."""
    if driver == "sqlite":
        return f"sqlite:{connect}" if connect else ""
    if driver not in ("mysql", "pgsql"):
        return ""
    host, name = place.get("host", "localhost"), place.get("dbname", "")
    who = quote(place.get("user", ""), safe="")
    if place.get("password"):
        who += ":" + quote(place["password"], safe="")
    port = f":{place['port']}" if place.get("port") else ""
    if not host.startswith("/"):
        return f"{'mysql' if driver == 'mysql' else 'postgresql'}://{who}@{host}{port}/{name}"
    if driver == "mysql":
        return f"mysql://{who}@localhost/{name}?unix_socket={host}"
    return f"postgresql://{who}@/{name}?host={host}"


_QUOTA = re.compile(r"\*:storage=(\d+)([KMGT]?)", re.IGNORECASE)


def _plugins(conf: Block, out: Plan, settings: dict[str, dict[str, str]]) -> None:
    values = dict(conf.values)
    for block in conf.all("plugin"):
        values |= block.values
    used = set(conf.get("mail_plugins").replace("$mail_plugins", "").split())
    for protocol in conf.all("protocol"):
        used |= set(protocol.get("mail_plugins").replace("$mail_plugins", "").split())
    used |= {block.name for block in conf.blocks if block.kind == "mail_plugins"}
    if used & {"zlib", "mail_compress"} and (values.get("zlib_save") or values.get("mail_compress_write_method")):
        out.findings.append(
            Finding("compression", "on", "compressed files cannot be read: rewrite them with `doveadm`", BLOCKS)
        )
    if used & {"mail_crypt"}:
        out.findings.append(Finding("encryption", "mail_crypt", "encrypted files cannot be read", BLOCKS))
    rule = _QUOTA.search(values.get("quota_rule", ""))
    if rule is not None:
        octets = int(rule.group(1)) * 1024 ** ("KMGT".find((rule.group(2) or "K").upper()) + 1)
        settings["limits"]["quota_storage"] = str(octets)
        out.findings.append(Finding("quota", rule.group(0), f"{octets} octets for each account", SAME))
    if "acl" in used:
        out.findings.append(
            Finding("access lists", "dovecot-acl files", "taken over by `migrate switch`, but for groups", SAME)
        )
    form = values.get("pop3_uidl_format", "")
    if form and form not in ("%08Xu%08Xv", "%08xu%08xv"):
        out.findings.append(
            Finding("POP3 UIDLs", form, "kept where Dovecot saved them (pop3_save_uidl), else new ones", NOTICED)
        )
    for name in sorted(used & {"sieve", "imap_sieve", "fts", "virtual", "notify", "push_notification"}):
        out.findings.append(
            Finding("plugin", name, "SEARCH has its own index" if name == "fts" else "not here", MISSING)
        )


def load(path: str) -> str:
    """The text of a file that ``doveconf -n`` wrote, or of a directory with ``dovecot.conf`` and the files that it
    includes; "-" is not handled here."""
    path = os.path.expanduser(path)
    try:
        if os.path.isdir(path):
            return "\n".join(_with_includes(os.path.join(path, "dovecot.conf"), 0))
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotDo(f"{path} cannot be read: {in_words(error, path)}") from None


def _with_includes(path: str, depth: int) -> Iterator[str]:
    """Lines as ``doveconf`` would print them: without comments, long lines whole, included files in place."""
    if depth > MOST_INCLUDES:
        raise CannotDo(f"{path}: files that include each other")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for raw in re.sub(r"[ \t]*\\\n[ \t]*", " ", text).split("\n"):
        line = _COMMENT.sub("", raw).strip()
        included = re.fullmatch(r"!include(_try)?\s+(\S+)", line)
        if included is None:
            if line and not line.startswith("#"):
                yield line
            continue
        names = sorted(glob.glob(os.path.join(os.path.dirname(path), included[2])))
        if not names and included[1] is None and not glob.has_magic(included[2]):
            raise CannotDo(f"{path} includes {included[2]}, which is not there")
        for name in names:
            try:
                yield from _with_includes(name, depth + 1)
            except OSError:
                if included[1] is None:
                    raise


_COMMENT = re.compile(r"(?:^|\s)#.*$")
