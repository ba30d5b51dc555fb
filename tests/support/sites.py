"""Databases of other mail servers, small ones, for the tests of imports: each is tables as that server makes them (the
columns that matter, in types that every database has) and rows with what can be right and wrong in them.

``statements`` gives them in the words of SQLite, MariaDB or PostgreSQL. Every account that is right has the password
PASSWORD.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

PASSWORD = "pass word"
BCRYPT = "$2y$05$DyhAQjl9MMFK1zXUC2YHjeIL2Jf6kE/tARKfOy/X57MqYOd466UdG"
Value = str | int | bool | None


@dataclass(frozen=True)
class Site:
    """``tables``: columns by table; ``rows``: (table, values by column)."""

    tables: dict[str, str]
    rows: list[tuple[str, dict[str, Value]]] = field(default_factory=list)

    def statements(self, kind: str) -> Iterator[str]:
        """``kind``: sqlite, mysql or postgres."""
        when = "TIMESTAMP" if kind == "postgres" else "DATETIME"
        for name, columns in self.tables.items():
            yield f"CREATE TABLE {name} ({columns.replace('WHEN', when)})"
        for name, values in self.rows:
            words = ", ".join(_word(value, kind) for value in values.values())
            yield f"INSERT INTO {name} ({', '.join(values)}) VALUES ({words})"


def _word(value: Value, kind: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).upper() if kind == "postgres" else str(int(value))
    if isinstance(value, int):
        return str(value)
    quoted = value.replace("'", "''")
    return "'" + (quoted.replace("\\", "\\\\") if kind == "mysql" else quoted) + "'"


def rows(table: str, names: str, *values: tuple[Value, ...]) -> list[tuple[str, dict[str, Value]]]:
    """Rows of a table, whose columns are named once."""
    return [(table, dict(zip(names.split(), one, strict=True))) for one in values]


V = "VARCHAR(255)"
KEY = f"{V} PRIMARY KEY"

POSTFIXADMIN = Site(
    {
        "domain": f"domain {KEY}, description {V}, aliases INT, mailboxes INT, maxquota BIGINT, quota BIGINT, "
        f"transport {V}, backupmx BOOLEAN, active BOOLEAN, password_expiry INT",
        "alias_domain": f"alias_domain {KEY}, target_domain {V}, active BOOLEAN",
        "mailbox": f"username {KEY}, password {V}, name {V}, maildir {V}, quota BIGINT, local_part {V}, domain {V}, "
        f"active BOOLEAN, smtp_active BOOLEAN, totp_secret {V}",
        "alias": f"address {KEY}, goto TEXT, domain {V}, active BOOLEAN",
        "vacation": f"email {KEY}, subject {V}, body TEXT, activefrom WHEN, activeuntil WHEN, interval_time INT, active BOOLEAN",
        "admin": f"username {KEY}, password {V}, superadmin BOOLEAN, active BOOLEAN",
        "domain_admins": f"username {V}, domain {V}, active BOOLEAN",
        "fetchmail": f"id INT PRIMARY KEY, mailbox {V}",
        "mailbox_app_password": f"id INT PRIMARY KEY, username {V}, password_hash {V}",
    },
    rows(
        "domain",
        "domain description aliases mailboxes maxquota quota transport backupmx active password_expiry",
        ("ALL", "", 0, 0, 0, 0, "", False, True, 0),
        ("one.test", "The first", 50, 0, 100, 2048, "virtual", False, True, 90),
        ("two.test", "", 0, 10, 0, 0, "virtual", False, True, 0),
        ("off.test", "", -1, 0, 0, 0, "virtual", False, False, 0),
        ("backup.test", "", 0, 0, 0, 0, "relay:[mx.test]", True, True, 0),
        ("other.test", "", 0, 0, 0, 0, "virtual", False, True, 0),
    )
    + rows("alias_domain", "alias_domain target_domain active", ("other.test", "one.test", True))
    + rows(
        "mailbox",
        "username password name maildir quota local_part domain active smtp_active totp_secret",
        ("anna@one.test", "{BLF-CRYPT}" + BCRYPT, "Anna O'Hara", "one.test/anna/", 52428800, "anna", "one.test", True, True, "X"),
        ("bert@one.test", BCRYPT, "Bert", "one.test/bert/", 0, "bert", "one.test", True, False, None),
        ("carl@two.test", BCRYPT, "Carl", "two.test/carl/", 0, "carl", "two.test", False, True, None),
        ("dora@two.test", BCRYPT, "Dora", "two.test/dora/", 1024000, "dora", "two.test", True, True, None),
        ("odd@two.test", "no scheme at all", "", "two.test/odd/", 0, "odd", "two.test", True, True, None),
        ("a..b@two.test", BCRYPT, "", "two.test/a..b/", 0, "a..b", "two.test", True, True, None),
        ("lost@nowhere.test", BCRYPT, "", "nowhere.test/lost/", 0, "lost", "nowhere.test", True, True, None),
    )
    + rows(
        "alias",
        "address goto domain active",
        ("anna@one.test", "anna@one.test,anna#one.test@autoreply.test", "one.test", True),
        ("bert@one.test", "anna@one.test, bert@away.example", "one.test", True),
        ("carl@two.test", "carl@two.test", "two.test", True),
        ("dora@two.test", "Dora@two.test,dora@away.example", "two.test", True),
        ("info@one.test", "sales@one.test,anna@one.test", "one.test", True),
        ("sales@one.test", "Bert@one.test", "one.test", True),
        ("old@one.test", "anna@one.test", "one.test", False),
        ("@two.test", "dora@two.test", "two.test", True),
        ("ring@one.test", "ring2@one.test", "one.test", True),
        ("ring2@one.test", "ring@one.test", "one.test", True),
        ("team@one.test", "gone@one.test,anna@one.test", "one.test", True),
        ("dead@one.test", "gone@one.test", "one.test", True),
        ("x@backup.test", "anna@one.test", "backup.test", True),
        ("not an address", "anna@one.test", "one.test", True),
    )
    + rows(
        "vacation",
        "email subject body activefrom activeuntil interval_time active",
        ("anna@one.test", "Away", "I'm away\r\nuntil June", "2026-05-01 00:00:00", "2038-01-18 00:00:00", 200_000, True),
        ("dora@two.test", "Old", "not now", "2020-01-01 00:00:00", "2020-02-01 00:00:00", 0, False),
    )
    + rows("admin", "username password superadmin active", ("root@elsewhere.test", "x", True, True), ("anna@one.test", "x", False, True))
    + rows("domain_admins", "username domain active", ("anna@one.test", "one.test", True), ("root@elsewhere.test", "ALL", True))
    + rows("fetchmail", "id mailbox", (1, "anna@one.test"), (2, "dora@two.test"))
    + rows("mailbox_app_password", "id username password_hash", (1, "anna@one.test", "x")),
)  # fmt: skip

MAILCOW = Site(
    {
        "domain": f"domain {KEY}, description {V}, aliases INT, mailboxes INT, defquota BIGINT, maxquota BIGINT, "
        "quota BIGINT, backupmx INT, relayhost INT, active INT",
        "alias_domain": f"alias_domain {KEY}, target_domain {V}, active INT",
        "mailbox": f"username {KEY}, password {V}, name {V}, quota BIGINT, local_part {V}, domain {V}, attributes TEXT, "
        f"kind {V}, authsource {V}, active INT",
        "alias": f"address {KEY}, goto TEXT, domain {V}, internal INT, public_comment TEXT, active INT",
        "spamalias": f"address {KEY}, goto TEXT, validity INT",
        "sender_acl": f"id INT PRIMARY KEY, logged_in_as {V}, send_as {V}",
        "sieve_filters": f"id INT PRIMARY KEY, username {V}, script_desc {V}, script_name {V}, script_data TEXT, filter_type {V}",
        "app_passwd": f"id INT PRIMARY KEY, mailbox {V}, password {V}",
        "domain_admins": f"username {V}, domain {V}, active INT",
        "domain_wide_footer": f"domain {KEY}, html TEXT, plain TEXT, mbox_exclude TEXT, alias_domain_exclude TEXT, "
        "skip_replies INT",
    },
    rows(
        "domain_wide_footer",
        "domain html plain mbox_exclude alias_domain_exclude skip_replies",
        ("one.test", "<p>One &amp; all</p>", "One & all\r\nsince 1999", "[]", "[]", 1),
        ("two.test", "", "{= from_name =} of Two", "[]", "[]", 0),
        ("none.test", "", None, "[]", "[]", 0),
    )
    + rows(
        "domain",
        "domain description aliases mailboxes defquota maxquota quota backupmx relayhost active",
        ("one.test", "One", 400, 10, 3072, 10240, 10240, 0, 0, 1),
        ("relay.test", "", 400, 10, 3072, 10240, 10240, 1, 0, 1),
    )
    + rows("alias_domain", "alias_domain target_domain active", ("uno.test", "one.test", 1))
    + rows(
        "mailbox",
        "username password name quota local_part domain attributes kind authsource active",
        ("anna@one.test", "{BLF-CRYPT}" + BCRYPT, "Anna", 3221225472, "anna", "one.test", '{"smtp_access": "0", "imap_access": "1", "pop3_access": "0"}', "", "mailcow", 1),
        ("bert@one.test", "{BLF-CRYPT}" + BCRYPT, "Bert", 21474836480, "bert", "one.test", "{}", "", "mailcow", 2),
        ("carl@one.test", "{BLF-CRYPT}" + BCRYPT, "Carl", 0, "carl", "one.test", "not JSON", "", None, 1),
        ("keyc@one.test", "", "K", 0, "keyc", "one.test", "{}", "", "keycloak", 1),
        ("room@one.test", "RESOURCE", "Room", 0, "room", "one.test", "{}", "location", "mailcow", 1),
    )
    + rows(
        "alias",
        "address goto domain internal public_comment active",
        ("anna@one.test", "anna@one.test", "one.test", 0, "", 1),
        ("bert@one.test", "bert@one.test,anna@one.test", "one.test", 0, "", 1),
        ("carl@one.test", "carl@one.test", "one.test", 0, "", 1),
        ("staff@one.test", "anna@one.test,bert@one.test", "one.test", 1, "us", 1),
        ("hole@one.test", "null@localhost", "one.test", 0, "", 1),
        ("learn@one.test", "spam@localhost,anna@one.test", "one.test", 0, "", 1),
    )
    + rows("spamalias", "address goto validity", ("tmp1@one.test", "anna@one.test", 2000000000), ("tmp0@one.test", "anna@one.test", 1000))
    + rows("sender_acl", "id logged_in_as send_as", (1, "anna@one.test", "@one.test"), (2, "anna@one.test", "boss@away.example"), (3, "bert@one.test", "*"))
    + rows("sieve_filters", "id username script_desc script_name script_data filter_type", (1, "anna@one.test", "to Work", "active", "keep;\n", "prefilter"))
    + rows("app_passwd", "id mailbox password", (1, "anna@one.test", "x"), (2, "anna@one.test", "y"))
    + rows("domain_admins", "username domain active", ("boss", "one.test", 1)),
)  # fmt: skip

SSHA512 = "{SSHA512}f+QAGtsGUWMIVTJY0sEDPxf1V9U5shGRjepmUvr77DmrZXh7jjnP4u+GqSr0gcq/I3pkgrvnfPuzCk98TqJNfHNhbHRzYWx0"
IREDMAIL = Site(
    {
        "domain": f"domain {KEY}, description TEXT, aliases BIGINT, mailboxes BIGINT, maillists BIGINT, maxquota BIGINT, "
        f"transport {V}, backupmx SMALLINT, active SMALLINT",
        "alias_domain": f"alias_domain {KEY}, target_domain {V}, active SMALLINT",
        "mailbox": f"username {KEY}, password {V}, name {V}, language {V}, storagebasedirectory {V}, storagenode {V}, "
        f"maildir {V}, quota BIGINT, domain {V}, isadmin SMALLINT, isglobaladmin SMALLINT, enablesmtp SMALLINT, "
        "enableimap SMALLINT, enablepop3 SMALLINT, enabledeliver SMALLINT, allow_nets TEXT, expired WHEN, active SMALLINT",
        "forwardings": f"id INT PRIMARY KEY, address {V}, forwarding {V}, domain {V}, is_maillist SMALLINT, "
        "is_list SMALLINT, is_forwarding SMALLINT, is_alias SMALLINT, active SMALLINT",
        "alias": f"address {KEY}, name {V}, accesspolicy {V}, domain {V}, active SMALLINT",
        "maillists": f"id INT PRIMARY KEY, address {V}, domain {V}, accesspolicy {V}, name {V}, active SMALLINT",
        "domain_admins": f"username {V}, domain {V}, active SMALLINT",
        "moderators": f"id INT PRIMARY KEY, address {V}, moderator {V}",
        "maillist_owners": f"id INT PRIMARY KEY, address {V}, owner {V}",
    },
    rows(
        "domain",
        "domain description aliases mailboxes maillists maxquota transport backupmx active",
        ("one.test", "One", 5, 10, 2, 4096, "dovecot", 0, 1),
    )
    + rows("alias_domain", "alias_domain target_domain active", ("uno.test", "one.test", 1))
    + rows(
        "mailbox",
        "username password name language storagebasedirectory storagenode maildir quota domain isadmin isglobaladmin enablesmtp enableimap enablepop3 enabledeliver allow_nets expired active",
        ("anna@one.test", SSHA512, "Anna", "de_DE", "/var/vmail", "vmail1", "one.test/a/n/n/anna-2026/", 1024, "one.test", 0, 1, 1, 1, 1, 1, None, "9999-12-31 01:01:01", 1),
        ("bert@one.test", SSHA512, "Bert", "", "/var/vmail", "vmail1", "one.test/b/bert/", 0, "one.test", 1, 0, 0, 1, 0, 1, "192.0.2.0/24,127.0.0.1", "9999-12-31 01:01:01", 1),
        ("carl@one.test", SSHA512, "Carl", "", "/var/vmail", "vmail1", "one.test/c/carl/", 0, "one.test", 0, 0, 1, 0, 0, 0, None, "9999-12-31 01:01:01", 1),
        ("over@one.test", SSHA512, "", "", "/var/vmail", "vmail1", "one.test/o/over/", 0, "one.test", 0, 0, 1, 1, 1, 1, None, "2001-01-01 00:00:00", 1),
    )
    + rows(
        "forwardings",
        "id address forwarding domain is_maillist is_list is_forwarding is_alias active",
        (1, "anna@one.test", "anna@one.test", "one.test", 0, 0, 1, 0, 1),
        (2, "anna@one.test", "anna@away.example", "one.test", 0, 0, 1, 0, 1),
        (3, "bert@one.test", "anna@one.test", "one.test", 0, 0, 1, 0, 1),
        (4, "a.nna@one.test", "anna@one.test", "one.test", 0, 0, 0, 1, 1),
        (5, "one.test", "bert@one.test", "one.test", 0, 0, 1, 0, 1),
        (6, "team@one.test", "anna@one.test", "one.test", 0, 1, 0, 0, 1),
        (7, "team@one.test", "bert@one.test", "one.test", 0, 1, 0, 0, 1),
        (8, "board@one.test", "anna@one.test", "one.test", 0, 1, 0, 0, 1),
        (9, "news@one.test", "news@one.test", "one.test", 1, 0, 0, 0, 1),
        (10, "over@one.test", "over@one.test", "one.test", 0, 0, 1, 0, 1),
        (11, "talk@one.test", "carl@one.test", "one.test", 0, 1, 0, 0, 1),
    )
    + rows("alias", "address name accesspolicy domain active", ("team@one.test", "Team", "public", "one.test", 1), ("board@one.test", "Board", "membersonly", "one.test", 1), ("empty@one.test", "", "", "one.test", 1), ("talk@one.test", "", "membersAndModeratorsOnly", "one.test", 1))
    + rows("moderators", "id address moderator", (1, "talk@one.test", "m@away.example"))
    + rows("maillist_owners", "id address owner", (1, "news@one.test", "anna@one.test"))
    + rows("maillists", "id address domain accesspolicy name active", (1, "news@one.test", "one.test", "public", "News", 1))
    + rows("domain_admins", "username domain active", ("bert@one.test", "one.test", 1)),
)  # fmt: skip

SALTED = "a1b2c3" + "2e4d55d9a8e1a1fec0556fe495479ccb45f99e389d7b99cbb41c06c191801899"
MD5 = "4ac6430a17d0215b3052b15c879d48bc"
HMAILSERVER = Site(
    {
        "hm_domains": f"domainid INT PRIMARY KEY, domainname {V}, domainactive INT, domainpostmaster {V}, domainmaxsize INT, "
        f"domainmaxmessagesize INT, domainuseplusaddressing INT, domainplusaddressingchar {V}, "
        "domainenablesignature INT, domainsignatureplaintext TEXT, domainsignaturehtml TEXT, domainmaxnoofaccounts INT, "
        "domainmaxnoofaliases INT, domainmaxnoofdistributionlists INT, domainlimitationsenabled INT, "
        f"domainmaxaccountsize INT, domaindkimselector {V}, domaindkimprivatekeyfile {V}",
        "hm_domain_aliases": f"daid INT PRIMARY KEY, dadomainid INT, daalias {V}",
        "hm_accounts": f"accountid INT PRIMARY KEY, accountdomainid INT, accountadminlevel INT, accountaddress {V}, "
        f"accountpassword {V}, accountactive INT, accountisad INT, accountmaxsize INT, accountvacationmessageon INT, "
        f"accountvacationmessage TEXT, accountvacationsubject {V}, accountpwencryption INT, accountforwardenabled INT, "
        f"accountforwardaddress {V}, accountforwardkeeporiginal INT, accountenablesignature INT, "
        "accountvacationexpires INT, accountvacationexpiredate WHEN, "
        f"accountpersonfirstname {V}, accountpersonlastname {V}",
        "hm_aliases": f"aliasid INT PRIMARY KEY, aliasdomainid INT, aliasname {V}, aliasvalue {V}, aliasactive INT",
        "hm_distributionlists": f"distributionlistid INT PRIMARY KEY, distributionlistdomainid INT, "
        f"distributionlistaddress {V}, distributionlistenabled INT, distributionlistrequireauth INT, "
        f"distributionlistrequireaddress {V}, distributionlistmode INT",
        "hm_distributionlistsrecipients": "distributionlistrecipientid INT PRIMARY KEY, distributionlistrecipientlistid INT, "
        f"distributionlistrecipientaddress {V}",
        "hm_fetchaccounts": f"faid INT PRIMARY KEY, faaccountid INT, faaccountname {V}",
        "hm_rules": f"ruleid INT PRIMARY KEY, ruleaccountid INT, rulename {V}",
        "hm_imapfolders": f"folderid INT PRIMARY KEY, folderaccountid INT, foldername {V}",
    },
    rows(
        "hm_domains",
        "domainid domainname domainactive domainpostmaster domainmaxsize domainmaxmessagesize domainuseplusaddressing domainplusaddressingchar domainenablesignature domainsignatureplaintext domainsignaturehtml domainmaxnoofaccounts domainmaxnoofaliases domainmaxnoofdistributionlists domainlimitationsenabled domainmaxaccountsize domaindkimselector domaindkimprivatekeyfile",
        (1, "one.test", 1, "anna@one.test", 5000, 20480, 1, "-", 1, "Yours\r\nOne", "<p>One</p>", 7, 8, 9, 5, 200, "s1", "C:\\keys\\one.pem"),
        (2, "two.test", 1, "", 0, 0, 0, "+", 0, "unused", "", 7, 8, 9, 0, 0, "", ""),
    )
    + rows("hm_domain_aliases", "daid dadomainid daalias", (1, 1, "uno.test"), (2, 77, "stray.test"))
    + rows(
        "hm_accounts",
        "accountid accountdomainid accountadminlevel accountaddress accountpassword accountactive accountisad accountmaxsize accountvacationmessageon accountvacationmessage accountvacationsubject accountpwencryption accountforwardenabled accountforwardaddress accountforwardkeeporiginal accountenablesignature accountvacationexpires accountvacationexpiredate accountpersonfirstname accountpersonlastname",
        (1, 1, 2, "anna@one.test", SALTED, 1, 0, 100, 1, "away", "Away", 3, 0, "", 0, 0, 1, "2030-01-01 00:00:00", "Anna", "One"),
        (2, 1, 1, "bert@one.test", MD5, 1, 0, 0, 0, "", "", 2, 1, "anna@one.test", 0, 1, 0, "2001-01-01 00:00:00", "", ""),
        (3, 1, 0, "carl@one.test", PASSWORD, 0, 0, 0, 0, "", "", 0, 1, "c@away.example", 1, 0, 0, "2001-01-01 00:00:00", "", ""),
        (4, 1, 0, "fish@one.test", "0123456789abcdef", 1, 0, 0, 0, "", "", 1, 0, "", 0, 0, 0, "2001-01-01 00:00:00", "", ""),
        (5, 1, 0, "ad@one.test", "", 1, 1, 0, 0, "", "", 3, 0, "", 0, 0, 0, "2001-01-01 00:00:00", "", ""),
    )
    + rows("hm_aliases", "aliasid aliasdomainid aliasname aliasvalue aliasactive", (1, 1, "info@one.test", "bert@one.test", 1), (2, 1, "off@one.test", "anna@one.test", 0))
    + rows(
        "hm_distributionlists",
        "distributionlistid distributionlistdomainid distributionlistaddress distributionlistenabled distributionlistrequireauth distributionlistrequireaddress distributionlistmode",
        (1, 1, "all@one.test", 1, 0, "", 0),
        (2, 1, "board@one.test", 1, 0, "", 1),
        (3, 1, "news@one.test", 1, 1, "carl@one.test", 2),
        (4, 1, "shop@one.test", 0, 0, "", 4),
    )
    + rows("hm_distributionlistsrecipients", "distributionlistrecipientid distributionlistrecipientlistid distributionlistrecipientaddress", (1, 1, "anna@one.test"), (2, 1, "bert@one.test"), (3, 1, "out@away.example"), (4, 2, "anna@one.test"), (5, 3, "n@away.example"), (6, 4, "anna@one.test"))
    + rows("hm_fetchaccounts", "faid faaccountid faaccountname", (1, 1, "old"))
    + rows("hm_rules", "ruleid ruleaccountid rulename", (1, 0, "r"), (2, 1, "s"))
    + rows("hm_imapfolders", "folderid folderaccountid foldername", (1, 1, "INBOX"), (2, 0, "Public")),
)  # fmt: skip

ISPMAIL = Site(
    {
        "virtual_domains": f"id INT PRIMARY KEY, name {V}",
        "virtual_users": f"id INT PRIMARY KEY, domain_id INT, email {V}, password {V}, quota BIGINT",
        "virtual_aliases": f"id INT PRIMARY KEY, domain_id INT, source {V}, destination {V}",
    },
    rows("virtual_domains", "id name", (1, "one.test"))
    + rows(
        "virtual_users",
        "id domain_id email password quota",
        (1, 1, "anna@one.test", "{BLF-CRYPT}" + BCRYPT, 1000000),
        (2, 1, "bert@one.test", MD5, 0),
    )
    + rows(
        "virtual_aliases",
        "id domain_id source destination",
        (1, 1, "team@one.test", "anna@one.test"),
        (2, 1, "@one.test", "anna@one.test"),
        (3, 1, "Team@one.test", "t@away.example"),
        (4, 1, "bert@one.test", "anna@one.test"),
        (5, 1, "bert@one.test", "Bert@one.test"),
    ),
)

VPOPMAIL = Site(
    {
        "vpopmail": f"pw_name VARCHAR(64), pw_domain VARCHAR(96), pw_passwd {V}, pw_uid INT, pw_gid INT, pw_gecos {V}, "
        f"pw_dir {V}, pw_shell {V}, pw_clear_passwd {V}, PRIMARY KEY (pw_name, pw_domain)",
        "valias": "alias VARCHAR(64), domain VARCHAR(96), valias_line TEXT",
        "aliasdomains": f"alias {KEY}, domain {V}",
        "limits": f"domain {KEY}, maxpopaccounts INT, maxaliases INT, diskquota BIGINT",
    },
    rows(
        "vpopmail",
        "pw_name pw_domain pw_passwd pw_uid pw_gid pw_gecos pw_dir pw_shell pw_clear_passwd",
        ("postmaster", "one.test", "", 0, 0x1000, "Postmaster", "/home/vpopmail/domains/one.test/postmaster", "NOQUOTA", PASSWORD),
        ("anna", "one.test", "$1$salt$hO1/3cCDozlSOFtxq9bT00", 0, 0x800, "Anna", "/home/vpopmail/domains/one.test/anna", "10485760S,1000C", None),
        ("bert", "one.test", "$1$salt$hO1/3cCDozlSOFtxq9bT00", 0, 0x0A, "Bert", "/home/vpopmail/domains/one.test/bert", "10MB", None),
        ("anna", "two.test", "$1$salt$hO1/3cCDozlSOFtxq9bT00", 0, 0x10, "", "/home/vpopmail/domains/two.test/anna", "", None),
    )
    + rows(
        "valias",
        "alias domain valias_line",
        ("info", "one.test", "&anna@one.test"),
        ("info", "one.test", "bert@one.test"),
        ("info", "two.test", "&anna@two.test"),
        ("prog", "one.test", "|/usr/bin/prog"),
        ("bert", "one.test", "/home/vpopmail/domains/one.test/bert/Maildir/"),
        ("bert", "one.test", "&b@away.example"),
    )
    + rows("aliasdomains", "alias domain", ("uno.test", "one.test"))
    + rows("limits", "domain maxpopaccounts maxaliases diskquota", ("one.test", 20, -1, 100)),
)  # fmt: skip

ALL = {
    "postfixadmin": POSTFIXADMIN,
    "mailcow": MAILCOW,
    "iredmail": IREDMAIL,
    "hmailserver": HMAILSERVER,
    "ispmail": ISPMAIL,
    "vpopmail": VPOPMAIL,
}
