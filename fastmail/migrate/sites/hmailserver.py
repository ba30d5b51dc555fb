"""hMailServer 5 (and 4.4 on): hm_domains, hm_domain_aliases, hm_accounts, hm_aliases, hm_distributionlists and their
recipients.

Sizes of accounts and domains are MB, of messages KB; 0 is no limit, and numbers count where their bit of
domainlimitationsenabled is set. How a password is kept says accountpwencryption (CLEAR to ARGON2). Those in Blowfish
have a key that everybody knows: they are as good as in clear, and taken as such, to be hashed when they are first used.
Passwords of Active Directory are not in the database.
"""

import re
from contextlib import suppress

from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from fastmail.directory.records import OF_DOMAINS, SERVER
from fastmail.migrate.sites import hmail_ranges
from fastmail.migrate.sites.base import Base, need, picked, selected
from fastmail.migrate.sites.model import (
    EVERYBODY,
    ITS_ANNOUNCERS,
    ITS_MEMBERS,
    OF_ITS_DOMAIN,
    OF_THE_SERVER,
    BadRow,
    Hint,
    NotTaken,
    Options,
    Records,
    SiteAccount,
    SiteAlias,
    SiteAnswer,
    SiteDomain,
    SiteList,
)
from fastmail.migrate.sites.parts import groups, only_counted
from fastmail.migrate.sites.passwords import EMPTY, stored
from fastmail.migrate.sites.values import KIB, MIB, Row, flag, limit, lines, moment, number, one_line, text, words

DOMAIN = (
    *("domainid", "domainname", "domainactive", "domainpostmaster", "domainmaxsize", "domainmaxmessagesize"),
    *("domainuseplusaddressing", "domainplusaddressingchar", "domainenablesignature", "domainsignatureplaintext"),
    *("domainsignaturehtml", "domainmaxnoofaccounts", "domainmaxnoofaliases", "domainmaxnoofdistributionlists"),
    *("domainlimitationsenabled", "domainmaxaccountsize", "domaindkimselector", "domaindkimprivatekeyfile"),
)
ACCOUNT = (
    *("accountid", "accountdomainid", "accountaddress", "accountpassword", "accountpwencryption", "accountactive"),
    *("accountisad", "accountmaxsize", "accountadminlevel", "accountpersonfirstname", "accountpersonlastname"),
    *("accountvacationmessageon", "accountvacationmessage", "accountvacationsubject", "accountvacationexpires"),
    *("accountvacationexpiredate", "accountforwardenabled", "accountforwardaddress", "accountforwardkeeporiginal"),
    *("accountenablesignature",),
)
ACCOUNTS, ALIASES, LISTS = 1, 2, 4  # bits of domainlimitationsenabled
CLEAR, BLOWFISH, MD5, SALTED, PBKDF2, ARGON2 = range(6)  # accountpwencryption; the last two of a fork
FISH_KEY = b"THIS_KEY_IS_NOT_SECRET"  # of all installations
FISH_BLOCK, FISH_WORD = 8, 4  # octets
SALTED_FORM = re.compile(r".{6}[0-9a-fA-F]{64}", re.DOTALL)
ROLES = {1: OF_DOMAINS, 2: SERVER}  # accountadminlevel
WRITERS = {0: EVERYBODY, 1: ITS_MEMBERS, 2: ITS_ANNOUNCERS, 3: OF_ITS_DOMAIN, 4: OF_THE_SERVER}  # distributionlistmode
LEFT = (
    ("hm_fetchaccounts", "external accounts", "`fastmail import imap` fetches once; nothing does it every hour"),
    ("hm_rules", "rules", "of accounts and of the server: nothing runs them here yet"),
    ("hm_routes", "routes", "set [relay] routes"),
    ("hm_groups", "groups", "name the accounts in lists of rights"),
    ("hm_acl", "rights to public folders", "give them anew: mailboxes can be shared"),
    ("hm_imapfolders WHERE folderaccountid = 0", "public folders", "make a shared account"),
    ("hm_incoming_relays", "incoming relays", "see [listen] proxy_protocol and XCLIENT"),
    ("hm_dnsbl", "DNS blacklists", "set them in [policy]"),
    ("hm_surblservers", "SURBL servers", "set them in the filter that you use"),
    ("hm_blocked_attachments", "blocked attachments", "set them in the filter that you use"),
)


def read(base: Base, options: Options) -> Records:
    need(base, "hMailServer", "hm_domains", "hm_accounts", "hm_aliases")
    names: dict[str, str] = {}
    catching: list[SiteAlias] = []
    keys: list[str] = []
    ranges = hmail_ranges.read(base)
    for row in selected(base, "hm_domains", DOMAIN, "ORDER BY domainname"):
        name = text(row, "domainname")
        names[text(row, "domainid")] = name
        if text(row, "domainpostmaster"):
            catching.append(SiteAlias(f"@{name}", words(text(row, "domainpostmaster"))))
        if text(row, "domaindkimprivatekeyfile"):
            keys.append(name)
        yield _domain(name, row, *ranges.lists())
    for row in selected(base, "hm_domain_aliases", ("dadomainid", "daalias")):
        alias, of = text(row, "daalias"), names.get(text(row, "dadomainid"), "")
        yield SiteDomain(alias, alias_of=of) if of else BadRow("domain", alias, "another name of a domain that is gone")
    yield from _accounts(base, options)
    for row in selected(base, "hm_aliases", ("aliasname", "aliasvalue", "aliasactive"), "ORDER BY aliasname"):
        yield SiteAlias(text(row, "aliasname"), words(text(row, "aliasvalue")), flag(row, "aliasactive"))
    yield from catching
    yield from _lists(base)
    for name in keys:
        yield NotTaken("DKIM keys of domains", "take the key files over", name)
    yield from ranges.not_taken(base)
    yield from only_counted(base, LEFT)
    say = "files {GUID}.eml; `fastmail import imap` fetches mail while the old server runs"
    yield Hint("mail", "Data\\DOMAIN\\USER", say)


def _domain(name: str, row: Row, allow: tuple[str, ...], block: tuple[str, ...]) -> SiteDomain:
    bits = number(row, "domainlimitationsenabled")
    signed = flag(row, "domainenablesignature", False)
    separators = None
    if "domainuseplusaddressing" in row:
        separators = text(row, "domainplusaddressingchar") if flag(row, "domainuseplusaddressing", False) else ""
    return SiteDomain(
        name,
        flag(row, "domainactive"),
        separators=separators,
        message_size=limit(row, "domainmaxmessagesize", KIB),
        footer=lines(text(row, "domainsignatureplaintext")) if signed else "",
        footer_html=lines(text(row, "domainsignaturehtml")) if signed else "",
        most_accounts=limit(row, "domainmaxnoofaccounts") if bits & ACCOUNTS else 0,
        most_aliases=limit(row, "domainmaxnoofaliases") if bits & ALIASES else 0,
        most_lists=limit(row, "domainmaxnoofdistributionlists") if bits & LISTS else 0,
        most_octets=limit(row, "domainmaxsize", MIB),
        most_storage=limit(row, "domainmaxaccountsize", MIB),
        allow=allow,
        block=block,
    )


def password(value: str, kind: int) -> tuple[str, str]:
    """(``{SCHEME}hash``, why there is none) of a password and its accountpwencryption."""
    if not value:
        return "", EMPTY
    if kind == CLEAR:
        return "{PLAIN}" + value, ""
    if kind == MD5:
        return stored("{PLAIN-MD5}" + value)
    if kind == SALTED and SALTED_FORM.fullmatch(value):
        return "{HMAIL-SHA256}" + value, ""
    if kind == ARGON2 and value.startswith("$argon2"):
        return stored(value)
    if kind == BLOWFISH:
        found = unfished(value)
        return ("{PLAIN}" + found, "") if found else ("", "its password (Blowfish) cannot be read: give it a new one")
    return "", f"its password (encryption {kind}) cannot be checked here: give it a new one"


def unfished(value: str) -> str:
    """What a password in Blowfish is: hexadecimal digits of blocks, each for itself, whose words of four octets are
    turned round, and NUL at the end up to a whole block. Empty for what is none."""
    with suppress(ValueError):  # no such digits, no whole blocks, or no text
        blocks = bytes.fromhex(value)
        if blocks and not len(blocks) % FISH_BLOCK:
            reader = Cipher(Blowfish(FISH_KEY), modes.ECB()).decryptor()
            found = _turned(reader.update(_turned(blocks)) + reader.finalize()).rstrip(b"\0").decode("utf-8")
            return found if found.isprintable() else ""  # what was no password becomes noise
    return ""


def _turned(octets: bytes) -> bytes:
    return b"".join(octets[at : at + FISH_WORD][::-1] for at in range(0, len(octets), FISH_WORD))


def _accounts(base: Base, options: Options) -> Records:
    signatures = 0
    for row in selected(base, "hm_accounts", ACCOUNT, "ORDER BY accountaddress"):
        address = text(row, "accountaddress")
        kept, why = password(text(row, "accountpassword"), number(row, "accountpwencryption"))
        if flag(row, "accountisad", False):
            kept, why = "", "its password is kept by Active Directory"
        to: tuple[str, ...] = ()
        if flag(row, "accountforwardenabled", False):
            to = words(text(row, "accountforwardaddress"))
        role = ROLES.get(number(row, "accountadminlevel"), "")
        signatures += flag(row, "accountenablesignature", False)
        yield SiteAccount(
            address,
            kept,
            why,
            flag(row, "accountactive"),
            quota=limit(row, "accountmaxsize", MIB),
            forward=to,
            keeps=not to or flag(row, "accountforwardkeeporiginal"),
            role=role,
            administers=(address.rpartition("@")[2],) if role == OF_DOMAINS else (),
            name=one_line(f"{text(row, 'accountpersonfirstname')} {text(row, 'accountpersonlastname')}"),
            answer=_answer(row),
        )
    if signatures:
        yield NotTaken("signatures of accounts", "clients add them", count=signatures)


def _answer(row: Row) -> SiteAnswer:
    """Also one that is switched off: its text is kept."""
    if not text(row, "accountvacationmessage"):
        return SiteAnswer()
    ends = moment(row, "accountvacationexpiredate") if flag(row, "accountvacationexpires", False) else 0
    return SiteAnswer(
        one_line(text(row, "accountvacationsubject")),
        lines(text(row, "accountvacationmessage")),
        ends=ends,
        enabled=flag(row, "accountvacationmessageon", False),
    )


def _lists(base: Base) -> Records:
    if not base.columns("hm_distributionlists") or not base.columns("hm_distributionlistsrecipients"):
        return
    wanted = (
        *("distributionlistaddress", "distributionlistenabled", "distributionlistrequireauth"),
        *("distributionlistrequireaddress", "distributionlistmode"),
    )
    columns = picked(base, "hm_distributionlists", wanted, "l")
    rows = base.rows(
        f"SELECT {columns}, r.distributionlistrecipientaddress AS member FROM hm_distributionlists l "
        "LEFT JOIN hm_distributionlistsrecipients r ON r.distributionlistrecipientlistid = l.distributionlistid "
        "ORDER BY l.distributionlistaddress"
    )
    for address, mine in groups(rows, "distributionlistaddress"):
        row = mine[0]
        writers = WRITERS.get(number(row, "distributionlistmode"), "some")
        yield SiteList(
            address,
            tuple(one for each in mine if (one := text(each, "member"))),
            flag(row, "distributionlistenabled"),
            writers=writers,
            announcers=words(text(row, "distributionlistrequireaddress")) if writers == ITS_ANNOUNCERS else (),
            logins_only=flag(row, "distributionlistrequireauth", False),
        )
