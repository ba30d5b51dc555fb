"""Who can log in at a Dovecot: each ``passdb`` of its configuration, and what becomes of it.

Users of a passwd-file become lines for ``fastmail account import``, with the conditions that the file,
``default_fields``, ``override_fields`` and files with ``deny = yes`` put on their logins. Every other thing that lets
in fewer people there than here is said: nothing that restricts is dropped silently.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastmail.auth import schemes
from fastmail.directory import access
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Block, Finding, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = 5  # accounts that are named
RESTRICTIONS = ("nologin", "proxy", "proxy_maybe", "nopassword", *access.NETS)
HARMLESS = frozenset(["nodelay", "reason", "starttls", "ssl", "port", "destuser", "pass", "master", "delay_until"])
LIVE = ("userdb_home", "userdb_mail", "userdb_quota_rule")  # what the followed file has, and an import has not
CHAINS = ("pass", "result_success", "result_failure", "result_internalfail", "skip")
FILTERS = ("mechanisms", "mechanisms_filter", "username_filter")


def words(text: str) -> dict[str, str]:
    """``name=value`` and bare names, with blanks between."""
    return dict(word.partition("=")[::2] for word in text.split())


def fields_of(block: Block, name: str) -> dict[str, str]:
    """``default_fields`` and ``override_fields`` of 2.3, a section of that name in 2.4."""
    found = words(block.get(name))
    for inner in block.all(name):
        found |= inner.values
    return found


def take_all(
    conf: Block, out: Plan, realm: str, others: "Callable[[Block, str, str], None]", load: "Callable[[str], list[str]]"
) -> None:
    """Every passdb. ``others``: what becomes of one that is no passwd-file, by block, driver and path; ``load``: lines
    of a file."""
    blocks = list(conf.all("passdb"))
    barred = _denied([one for one in blocks if one.get("deny") == "yes"], out, realm, load)
    for block in blocks:
        driver = block.get("driver") or block.name
        path = path_of(block)
        if block.get("deny") == "yes":
            continue
        if block.get("master") == "yes":
            say = "not taken over: `account set ... role=server` makes an account one, with [auth] master_users = true"
            out.findings.append(Finding("master users", f"{driver} {path}".strip(), say, MISSING))
            continue
        _order(block, driver, out)
        if driver == "passwd-file" and path:
            _passwd_file(block, path, out, realm, barred, load)
        elif driver == "static":
            theirs = block.get("args") or " ".join(f"{k}={v}" for k, v in fields_of(block, "fields").items())
            say = "logins without a password of one's own are not taken over"
            out.findings.append(Finding("accounts", f"static {theirs}".strip(), say, NOTICED))
        else:
            given = [name for name in RESTRICTIONS if name in _given(block)]
            if given:
                say = "conditions for all of its users: put them into the query"
                out.findings.append(Finding("logins", f"{driver}: {', '.join(given)}", say, BLOCKS))
            others(block, driver, path)
    if barred and not any(out.accounts):
        say = "refuse these users in the source of the accounts"
        out.findings.append(Finding("logins", f"{len(barred)} denied users", say, BLOCKS))
    if conf.get("auth_master_user_separator"):
        separator = conf.get("auth_master_user_separator")
        say = f'[auth] master_users = true and master_user_separator = "{separator}"'
        out.findings.append(Finding("master users", separator, say, NOTICED))


def path_of(block: Block) -> str:
    """The file of a passdb."""
    named = block.get("passwd_file_path")
    return named or next((word for word in block.get("args").split() if word.startswith("/")), "")


def _given(block: Block) -> dict[str, str]:
    return fields_of(block, "default_fields") | fields_of(block, "override_fields")


def _order(block: Block, driver: str, out: Plan) -> None:
    """Settings that make one source count only sometimes."""
    chained = [f"{name} = {block.get(name)}" for name in CHAINS if block.get(name) not in ("", "no")]
    if chained:
        say = "one source decides here: a second check after it is not made"
        out.findings.append(Finding("logins", f"{driver}: {', '.join(chained)}", say, BLOCKS))
    filters = [f"{name} = {block.get(name)}" for name in FILTERS if block.get(name)]
    if filters:
        say = "its users count for every mechanism and name here"
        out.findings.append(Finding("logins", f"{driver}: {', '.join(filters)}", say, BLOCKS))


def _denied(
    blocks: Sequence[Block], out: Plan, realm: str, load: "Callable[[str], list[str]]"
) -> dict[str, dict[str, str]]:
    """Users whom a passdb with ``deny = yes`` keeps out."""
    found: dict[str, dict[str, str]] = {}
    for block in blocks:
        path, driver = path_of(block), block.get("driver") or block.name
        try:
            lines = load(path) if driver == "passwd-file" and path else None
        except OSError as error:
            out.findings.append(Finding("logins", f"deny {path}", f"cannot be read: {error.strerror}", BLOCKS))
            continue
        if lines is None:
            say = "refuse its users in the source of the accounts"
            out.findings.append(Finding("logins", f"deny: {driver} {path}".strip(), say, BLOCKS))
            continue
        names = [line.partition(":")[0].strip().lower() for line in lines if line.strip() and line[:1] != "#"]
        found |= {_full(name, realm): {"nologin": ""} for name in names if name}
        out.findings.append(Finding("logins", f"deny {path}: {len(names)} users", "kept: they may not log in", SAME))
    return found


def _full(user: str, realm: str) -> str:
    return user if "@" in user or not realm else f"{user}@{realm}"


def _passwd_file(
    block: Block,
    path: str,
    out: Plan,
    realm: str,
    barred: dict[str, dict[str, str]],
    load: "Callable[[str], list[str]]",
) -> None:
    """``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra`` as Dovecot has it."""
    try:
        lines = load(path)
    except OSError as error:
        out.findings.append(Finding("accounts", path, f"cannot be read: {error.strerror}", BLOCKS))
        return
    scheme = words(block.get("args")).get("scheme") or block.get(
        "default_password_scheme", "passdb_default_password_scheme"
    )
    default, override = fields_of(block, "default_fields"), fields_of(block, "override_fields")
    without = taken = 0
    unknown: list[str] = []
    conditions: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for line in lines:
        fields = [*line.split(":", 7), *[""] * 7]
        if not line.strip() or line.startswith("#") or ":" not in line or not fields[0].strip():
            continue
        user = _full(fields[0].strip().lower(), realm)
        if "@" not in user:
            without += 1
            continue
        extra = default | words(fields[7]) | override | barred.get(user, {})
        if extra.get("host"):
            extra = {"proxy": "", **extra}  # a referral: the mail is there
        conditions.update(name for name in RESTRICTIONS if name in extra)
        left.update(name for name in extra if name not in (*RESTRICTIONS, *HARMLESS))
        left.update({"home": 1} if fields[5] else {})
        secret = fields[1] if fields[1].startswith("{") else f"{{{(scheme or 'CRYPT').upper()}}}{fields[1]}"
        if access.has_no_password(extra):
            out.accounts.append(f"# {user}: logs in without a password there: give it one")
            continue
        if not schemes.known(secret):
            unknown.append(f"{user} ({secret.partition('}')[0]}}})")
            out.accounts.append(
                f"# {user}: {secret.partition('}')[0]}}} cannot be checked here: give it a new password"
            )
            continue
        kept = " ".join(f"{name}={extra[name]}" for name in (*RESTRICTIONS, "reason") if name in extra)
        out.accounts.append(f"{user}:{secret}" + (f"\t{kept}" if kept else ""))
        taken += 1
        if user.rpartition("@")[2] not in out.domains:
            out.domains.append(user.rpartition("@")[2])
    out.findings.append(Finding("accounts", path, f"{taken} for `account import`, passwords kept", SAME))
    if without:
        out.findings.append(Finding("accounts", f"{without} without a domain", "give --domain", BLOCKS))
    if unknown:
        say = "a new password each: " + ", ".join(unknown[:SHOWN]) + (" ..." if len(unknown) > SHOWN else "")
        out.findings.append(Finding("accounts", f"{len(unknown)} with schemes not known here", say, BLOCKS))
    _say_conditions(conditions, left, path, out)


def _say_conditions(conditions: "Counter[str]", left: "Counter[str]", path: str, out: Plan) -> None:
    says = {
        "nologin": "kept: login is refused with its reason",
        "proxy": "login is refused: the mail is on another server",
        "proxy_maybe": "login is refused: the mail is on another server",
        "allow_nets": "kept: the networks of clients",
        "allow_real_nets": "kept, for the address that a PROXY header or XCLIENT names",
        "nopassword": "not taken over: give these accounts passwords",
    }
    for name, count in sorted(conditions.items()):
        state = NOTICED if name.startswith(("proxy", "nopassword", "allow_real")) else SAME
        out.findings.append(Finding("logins", f"{name}: {count} accounts", says[name], state))
    live = [name for name in (*LIVE, "home") if left.pop(name, 0)]
    if live:
        say = f'[directory] passwd_file = "{path}" follows the file itself, with homes and quotas'
        out.findings.append(Finding("accounts", ", ".join(live), f"not in an import: {say}", NOTICED))
    for name, count in sorted(left.items()):
        state = BLOCKS if name == "user" else MISSING
        say = "the login is the account's own name here" if name == "user" else "not here"
        out.findings.append(Finding("extra field", f"{name}: {count} accounts", say, state))


def say_query(query: str, out: Plan) -> None:
    """Conditions that a password_query selects."""
    names = [name for name in RESTRICTIONS if name in query.lower().replace(",", " ").replace("'", " ").split()]
    for name in names:
        out.findings.append(
            Finding("logins", f"sql: {name}", "counts where it is not NULL" if name != "nopassword" else
                    "no login by password", SAME if name not in ("nopassword", "proxy", "proxy_maybe") else NOTICED)
        )  # fmt: skip
