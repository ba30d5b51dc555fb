"""A plan for Maildirs without a configuration that could be read: Courier's, or those of any other program.

It looks at what is there: where the Maildirs lie, how their folders are named, which control files say UIDs, keywords,
subscriptions and POP3 names, what will not be shown, and accounts in Courier's ``userdb``. Nothing is changed.

The look is bounded (MOST Maildirs, MOST_FILES files of each kind of question); what was not looked at is said.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastmail.auth import schemes
from fastmail.durable import beneath
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Finding, Plan
from fastmail.model.address import account_address
from fastmail.model.errors import CannotDo, ClientError
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home

USUAL = ("/var/vmail", "/srv/vmail", "/var/mail/vhosts", "/var/spool/mail", "/home/vmail", "/home")
CONFIGURED = ("/etc/courier", "/etc/authlib", "/etc")
DEEPEST = 4  # directories between the given one and a Maildir
MOST = 20_000
MOST_FILES = 20  # messages of a Maildir whose first octets are looked at
MAGICS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"CRYPTED": "mail_crypt",
}
CONTROL = {
    "dovecot-uidlist": "UIDs",
    "courierimapuiddb": "UIDs",
    "dovecot-keywords": "keywords",
    "courierimapkeywords": "keywords",
    "courierpop3dsizelist": "POP3 UIDLs",
    "subscriptions": "subscriptions",
    "courierimapsubscribed": "subscriptions",
    "dovecot-acl": "access lists",
    "courierimapacl": "access lists",
    "maildirsize": "quotas",
}


@dataclass(slots=True)
class Seen:
    """What a look at Maildirs found. ``control``: how many mailboxes have each control file."""

    maildirs: list[str] = field(default_factory=list)
    mailboxes: int = 0
    messages: int = 0
    whole: bool = True
    control: Counter[str] = field(default_factory=Counter)
    without_uids: int = 0
    utf8: int = 0
    utf7: int = 0
    hidden: list[str] = field(default_factory=list)
    packed: Counter[str] = field(default_factory=Counter)
    owners: Counter[int] = field(default_factory=Counter)


def maildirs(top: str) -> Iterator[str]:
    """Maildirs below a directory, which may be one itself; not those inside others."""
    pending = [(top, 0)]
    while pending:
        path, depth = pending.pop()
        if all(os.path.isdir(os.path.join(path, sub)) for sub in folders.PARTS):
            yield path
            continue
        if depth > DEEPEST:
            continue
        try:
            with os.scandir(path) as entries:
                below = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            continue
        pending += [(one, depth + 1) for one in reversed(below)]


def look(top: str) -> Seen:
    """Every Maildir below ``top``."""
    out = Seen()
    for path in maildirs(top):
        if len(out.maildirs) == MOST:
            out.whole = False
            break
        out.maildirs.append(path)
        _look_at(path, out)
    return out


def _look_at(path: str, out: Seen) -> None:
    out.owners[os.stat(path).st_uid] += 1
    top = beneath.guarded(path)
    with beneath.scan(top) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".") and entry.is_dir()]
    utf8 = any(not name.isascii() for name in names)
    out.utf8 += utf8
    out.utf7 += any("&" in name for name in names)
    home = Home(path, utf8=utf8)
    listed = folders.directories(home)
    out.hidden += [
        os.path.join(path, name)
        for name in names
        if os.path.isdir(os.path.join(path, name, "cur")) and os.path.join(top, name) not in listed
    ]
    for place in listed:
        out.mailboxes += 1
        there = {name for name in CONTROL if beneath.exists(os.path.join(place, name))}
        out.control.update(there)
        out.without_uids += not there & {"dovecot-uidlist", "courierimapuiddb"}
        files = [os.path.join(place, sub, name) for sub in ("cur", "new") for name in _names(os.path.join(place, sub))]
        out.messages += len(files)
        for one in files[:MOST_FILES]:
            out.packed.update(_packing(one))


def _names(path: str) -> list[str]:
    try:
        return [name for name in beneath.names(path) if not name.startswith((".", ":"))]
    except OSError:
        return []


def _packing(path: str) -> list[str]:
    try:
        head = beneath.read(path, 8)
    except OSError:
        return ["unreadable"]
    return [name for magic, name in MAGICS.items() if head.startswith(magic)]


def template(top: str, found: list[str]) -> str:
    """Where Maildirs are, with {domain} and {user}; empty where they lie in different ways."""
    forms: Counter[str] = Counter()
    for path in found:
        parts = os.path.relpath(path, top).split("/")
        tail = ""
        if len(parts) > 1 and parts[-1].lower() in ("maildir", "mail", ".maildir"):
            tail = "/" + parts.pop()
        names = {1: ["{user}@{domain}" if "@" in parts[0] else "{user}"], 2: ["{domain}", "{user}"]}.get(len(parts))
        if names is None or (names == ["{domain}", "{user}"] and "." not in parts[0]):
            return ""
        forms["/".join([top.rstrip("/"), *names]) + tail] += 1
    return next(iter(forms)) if len(forms) == 1 else ""


def plan(kind: str, mail: str, conf: str, domain: str) -> Plan:
    """``kind``: courier or maildir; ``mail``: the directory that the Maildirs are below, looked for when empty;
    ``conf``: Courier's configuration, looked for when empty; ``domain`` completes users without one."""
    out = Plan()
    tops = [mail] if mail else [top for top in USUAL if os.path.isdir(top)]
    if mail and not os.path.isdir(mail):
        raise CannotDo(f"{mail} is no directory")
    seen, top = Seen(), mail
    for top in tops:
        seen = look(top)
        if seen.maildirs:
            break
    where = template(top, seen.maildirs) if seen.maildirs else ""
    _say_mail(out, seen, top, where)
    _say_control(out, seen)
    courier = kind == "courier"
    if courier:
        _courier(out, conf, domain)
    else:
        out.findings.append(Finding("accounts", kind, "make a file for `fastmail account import`", NOTICED))
    shown = "prefix INBOX. and separator ." if courier else "prefix none and separator /"
    out.findings.append(Finding("folder names", kind, shown, SAME))
    utf8 = seen.utf8 > 0 or (courier and not seen.utf7)
    names = f'separator = "."\nprefix = "INBOX."\nutf8_names = {str(utf8).lower()}\n' if courier else ""
    if not courier and utf8:
        names = "utf8_names = true\n"
    quoted = (where or "/var/vmail/{domain}/{user}/Maildir").replace("\\", "\\\\").replace('"', '\\"')
    out.config = f'[store]\nmaildir = "{quoted}"\n{names}'
    return out


def _say_mail(out: Plan, seen: Seen, top: str, where: str) -> None:
    add = out.findings.append
    if not seen.maildirs:
        add(Finding("mail", "no Maildirs were found", "give --mail DIRECTORY, and set [store] maildir", BLOCKS))
        return
    counts = f"{len(seen.maildirs)} Maildirs, {seen.mailboxes} mailboxes, {seen.messages} messages"
    say = f'[store] maildir = "{where}"' if where else "they lie in different ways: set [store] maildir by hand"
    add(Finding("mail", f"{top}: {counts}", say, SAME if where else BLOCKS))
    if not seen.whole:
        add(Finding("mail", f"more than {MOST} Maildirs", "the rest was not looked at", NOTICED))
    for name, count in sorted(seen.packed.items()):
        say = "cannot be read: rewrite these messages first"
        add(Finding("messages", f"{name}: {count} of those looked at", say, BLOCKS))
    if len(seen.owners) > 1:
        say = "one user must own all: [server] user"
        add(Finding("owner of mail", f"{len(seen.owners)} users", say, BLOCKS))
    if seen.utf8 and seen.utf7:
        say = "one coding counts for all; folders in the other are not shown"
        add(Finding("folder names", f"UTF-8 in {seen.utf8} Maildirs, modified UTF-7 in {seen.utf7}", say, BLOCKS))
    elif seen.utf8 or seen.utf7:
        coding = f"[store] utf8_names = {str(bool(seen.utf8)).lower()}"
        add(Finding("folder names", "UTF-8" if seen.utf8 else "modified UTF-7", coding, SAME))
    for path in seen.hidden[:5]:
        add(Finding("folder", path, "not shown: rename it, or move its messages", MISSING))
    if len(seen.hidden) > 5:
        add(Finding("folders", f"{len(seen.hidden) - 5} more", "not shown", MISSING))


def _say_control(out: Plan, seen: Seen) -> None:
    for name, what in CONTROL.items():
        if seen.control[name]:
            out.findings.append(Finding(what, f"{name}: {seen.control[name]} mailboxes", "kept", SAME))
    if seen.without_uids:
        theirs = f"none in {seen.without_uids} of {seen.mailboxes} mailboxes"
        out.findings.append(Finding("UIDs", theirs, "new ones, in the order of arrival: clients fetch anew", NOTICED))


# ---------------------------------------------------------------- Courier's accounts


def _courier(out: Plan, conf: str, domain: str) -> None:
    places = [conf] if conf else [place for place in CONFIGURED if os.path.exists(os.path.join(place, "authdaemonrc"))]
    modules: list[str] = []
    for place in places:
        modules += re.findall(r"\w+", _setting(os.path.join(place, "authdaemonrc"), "authmodulelist"))
        _userdb(os.path.join(place, "userdb"), out, domain)
    for module in modules:
        if module == "authuserdb" and out.accounts:
            continue
        say = {
            "authmysql": "[directory] sql with sql_accounts: the table and fields of authmysqlrc",
            "authpgsql": "[directory] sql with sql_accounts: the table and fields of authpgsqlrc",
            "authsqlite": "[directory] sql with sql_accounts: the table and fields of authsqliterc",
            "authldap": "[directory] ldap: the server and attributes of authldaprc",
        }.get(module, "make a file for `fastmail account import`")
        out.findings.append(Finding("accounts", module, say, NOTICED))
    if not modules and not out.accounts:
        out.findings.append(Finding("accounts", "courier", "make a file for `fastmail account import`", NOTICED))


def _setting(path: str, name: str) -> str:
    """``name="value"`` in a file for a shell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    values = [line.partition("=")[2].strip().strip("\"'") for line in lines if line.startswith(name + "=")]
    return values[-1] if values else ""


def _userdb(path: str, out: Plan, domain: str) -> None:
    """``name<TAB>field=value|field=value``; imappw and pop3pw go before systempw."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError:
        return
    taken = 0
    for line in lines:
        user, tab, rest = line.partition("\t")
        if not tab or line.startswith("#"):
            continue
        fields = dict(part.partition("=")[::2] for part in rest.split("|"))
        secret = fields.get("imappw") or fields.get("systempw") or fields.get("pop3pw") or ""
        stored = secret if secret.startswith("{") else "{CRYPT}" + secret
        name = user.strip().lower()
        try:
            address = account_address(name if "@" in name else f"{name}@{domain}").key
        except ClientError:
            out.findings.append(Finding("accounts", name, "no address: give --domain", BLOCKS))
            continue
        if not schemes.known(stored):
            out.accounts.append(f"# {address}: its password cannot be checked here: give it a new one")
            out.findings.append(Finding("accounts", address, "its password cannot be checked here", BLOCKS))
            continue
        out.accounts.append(f"{address}:{stored}")
        taken += 1
        if address.rpartition("@")[2] not in out.domains:
            out.domains.append(address.rpartition("@")[2])
    out.findings.append(Finding("accounts", path, f"{taken} for `account import`, passwords kept", SAME))
