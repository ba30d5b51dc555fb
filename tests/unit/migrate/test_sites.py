"""fastmail.migrate.sites: what the readers make of each site's tables."""

import ipaddress
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmail.auth import schemes
from fastmail.directory import named
from fastmail.directory.database import Unreadable
from fastmail.migrate.sites import asked, hmailserver, vpopmail
from fastmail.migrate.sites.base import opened
from fastmail.migrate.sites.known import SITES
from fastmail.migrate.sites.model import (
    ITS_ANNOUNCERS,
    ITS_MEMBERS,
    MEMBERS_AND_ANNOUNCERS,
    OF_ITS_DOMAIN,
    OF_THE_SERVER,
    BadRow,
    Hint,
    NotTaken,
    Options,
    Record,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteAnswer,
    SiteDomain,
    SiteList,
    SiteScript,
)
from fastmail.model.errors import CannotDo
from tests.support import sites

MIB = 1 << 20
OPTIONS = Options()


def database(path: Path, site: sites.Site) -> str:
    with sqlite3.connect(path) as base:
        for one in site.statements("sqlite"):
            base.execute(one)
    return f"sqlite:{path}"


class Read:
    """What the reader of a site gives."""

    def __init__(self, name: str, url: str, options: Options = OPTIONS) -> None:
        with opened(url) as base:
            self.all: list[Record] = list(SITES[name](base, options))

    @property
    def domains(self) -> dict[str, SiteDomain]:
        return {one.name: one for one in self.all if isinstance(one, SiteDomain)}

    @property
    def accounts(self) -> dict[str, SiteAccount]:
        return {one.address: one for one in self.all if isinstance(one, SiteAccount)}

    @property
    def aliases(self) -> dict[str, SiteAlias]:
        return {one.address.lower(): one for one in self.all if isinstance(one, SiteAlias)}

    @property
    def lists(self) -> dict[str, SiteList]:
        return {one.address: one for one in self.all if isinstance(one, SiteList)}

    @property
    def scripts(self) -> list[SiteScript]:
        return [one for one in self.all if isinstance(one, SiteScript)]

    @property
    def left(self) -> dict[str, int]:
        out: dict[str, int] = {}
        for one in self.all:
            if isinstance(one, NotTaken):
                out[one.what] = out.get(one.what, 0) + one.count
        return out

    @property
    def hints(self) -> dict[str, str]:
        return {one.what: one.place for one in self.all if isinstance(one, Hint)}


@pytest.fixture
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Read:
    return Read(request.param, database(tmp_path / "site", sites.ALL[request.param]))


def only(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("read", [name], indirect=True)


@pytest.mark.parametrize("read", list(sites.ALL), indirect=True)
def test_domains_come_before_accounts_and_those_before_aliases(read: Read) -> None:
    order = (SiteDomain, SiteAccount, SiteAlias, SiteList)
    places = [min(2, order.index(type(one))) for one in read.all if isinstance(one, order)]
    assert places == sorted(places) and set(places) == {0, 1, 2}


@pytest.mark.parametrize("read", list(sites.ALL), indirect=True)
def test_passwords_are_right(read: Read) -> None:
    kept = [one for one in read.accounts.values() if one.password]
    assert kept and all(schemes.known(one.password) for one in kept)
    for one in kept:
        assert schemes.verify(one.password, sites.PASSWORD.encode()) and not schemes.verify(one.password, b"other")
    assert all(one.why for one in read.accounts.values() if not one.password)


@only("postfixadmin")
def test_postfixadmin(read: Read) -> None:
    domains = read.domains
    assert [one.name for one in read.all if isinstance(one, RelayDomain)] == ["backup.test"]
    assert domains.keys() == {"one.test", "two.test", "off.test", "other.test"}
    assert domains["one.test"] == SiteDomain(
        "one.test", description="The first", most_aliases=50, most_octets=2048 * MIB, most_storage=100 * MIB
    )
    assert not domains["off.test"].enabled and domains["other.test"].alias_of == "one.test"
    anna, bert, carl, dora = (
        read.accounts[f"{name}.test"] for name in ("anna@one", "bert@one", "carl@two", "dora@two")
    )
    begins = int(datetime(2026, 5, 1, tzinfo=UTC).timestamp())
    assert anna.answer == SiteAnswer("Away", "I'm away\nuntil June", begins, 0, True, 3)
    first, last = (int(datetime(2020, month, 1, tzinfo=UTC).timestamp()) for month in (1, 2))
    not_now = SiteAnswer("Old", "not now", first, last, enabled=False)
    assert (anna.forward, anna.keeps, anna.quota, anna.name) == ((), True, 52428800, "Anna O'Hara")
    assert (anna.role, anna.administers) == ("domain", ("one.test",)) and anna.sends
    assert (bert.forward, bert.keeps) == (("anna@one.test", "bert@away.example"), False) and bert.sends is False
    assert not carl.enabled and carl.forward == () and carl.keeps
    assert (dora.forward, dora.keeps, dora.answer) == (("dora@away.example",), True, not_now)
    assert read.accounts["odd@two.test"].password == ""
    aliases = read.aliases
    assert "anna@one.test" not in aliases and aliases["@two.test"].targets == ("dora@two.test",)
    assert aliases["info@one.test"].targets == ("sales@one.test", "anna@one.test")
    assert not aliases["old@one.test"].enabled
    assert read.left == {
        "domains that may have no accounts, aliases or quotas": 1,
        "domains whose passwords expire": 1,
        "second factors (TOTP) of mailboxes": 1,
        "administrators without a mailbox": 1,
        "app passwords": 1,
        "mail that is fetched elsewhere": 2,
    }
    assert read.hints["mail"].startswith("one.test/anna/") and "Sieve scripts" in read.hints


def test_postfixadmin_of_long_ago(tmp_path: Path) -> None:
    """Without columns and tables that came later, and with a scheme that passwords do not say."""
    v = sites.V
    site = sites.Site(
        {
            "domain": f"domain {v}, active INT",
            "mailbox": f"username {v}, password {v}, active INT",
            "alias": f"address {v}, goto TEXT, active INT",
        },
        sites.rows("domain", "domain active", ("one.test", 1))
        + sites.rows("mailbox", "username password active", ("anna@one.test", sites.PASSWORD, 1)),
    )
    url = database(tmp_path / "old", site)
    anna = Read("postfixadmin", url, Options("plain")).accounts["anna@one.test"]
    assert anna.password == "{PLAIN}" + sites.PASSWORD
    assert (anna.quota, anna.sends, anna.answer, anna.forward, anna.keeps) == (None, None, None, (), True)
    assert "--scheme" in Read("postfixadmin", url).accounts["anna@one.test"].why


@only("mailcow")
def test_mailcow(read: Read) -> None:
    domains = read.domains
    assert domains["one.test"].quota == 3072 * MIB and domains["one.test"].most_storage == 10240 * MIB
    assert domains["uno.test"].alias_of == "one.test" and "relay.test" not in domains
    assert (
        domains["one.test"].footer == "One & all\nsince 1999"
        and domains["one.test"].footer_html == "<p>One &amp; all</p>"
    )
    anna, bert, carl, keyc = (read.accounts[f"{name}@one.test"] for name in ("anna", "bert", "carl", "keyc"))
    assert anna.sends is False and anna.logs_in and anna.senders == ("@one.test", "boss@away.example")
    assert (anna.forward, anna.keeps, anna.quota) == ((), True, 3 << 30)
    assert bert.enabled and bert.logs_in is False and (bert.forward, bert.keeps) == (("anna@one.test",), True)
    assert carl.sends and carl.quota == 0
    assert keyc.password == "" and "keycloak" in keyc.why and "room@one.test" not in read.accounts
    assert read.aliases["staff@one.test"] == SiteAlias(
        "staff@one.test", ("anna@one.test", "bert@one.test"), internal=True, note="us"
    )
    assert read.aliases["learn@one.test"].targets == ("anna@one.test",) and "hole@one.test" not in read.aliases
    assert read.aliases["tmp1@one.test"].expires == 2_000_000_000
    assert read.left == {
        "accounts that may send as anybody": 1,
        "accounts without IMAP, or without POP3": 1,
        "administrators without a mailbox": 1,
        "aliases to null, spam or ham@localhost": 2,
        "app passwords": 2,
        "exceptions from footers": 1,
        "footers with placeholders": 1,
        "resources (rooms, things, groups)": 1,
    }
    assert read.scripts == [SiteScript("anna@one.test", "prefilter 1 to Work", "keep;\n", True, "prefilter")]


@only("iredmail")
def test_iredmail(read: Read) -> None:
    assert read.domains["one.test"].most_octets == 4096 * MIB and read.domains["one.test"].most_lists == 2
    assert read.domains["uno.test"].alias_of == "one.test"
    anna, bert, carl, over = (read.accounts[f"{name}@one.test"] for name in ("anna", "bert", "carl", "over"))
    assert (anna.forward, anna.keeps, anna.quota) == (("anna@away.example",), True, 1024 * MIB)
    assert (anna.role, anna.language) == ("server", "de_DE")
    assert (bert.forward, bert.keeps, bert.sends) == (("anna@one.test",), False, False)
    assert bert.nets == ("192.0.2.0/24", "127.0.0.1") and (bert.role, bert.administers) == ("domain", ("one.test",))
    assert carl.logs_in is False and carl.receives is False and carl.keeps
    assert not over.enabled and over.forward == ()
    assert {name: one.targets for name, one in read.aliases.items()} == {
        "a.nna@one.test": ("anna@one.test",),
        "@one.test": ("bert@one.test",),
        "team@one.test": ("anna@one.test", "bert@one.test"),
        "empty@one.test": (),
    }
    assert read.aliases["team@one.test"].note == "Team"
    board, talk, news = (read.lists[f"{name}@one.test"] for name in ("board", "talk", "news"))
    assert (board.members, board.writers, board.name) == (("anna@one.test",), ITS_MEMBERS, "Board")
    assert (talk.members, talk.writers) == (("carl@one.test",), MEMBERS_AND_ANNOUNCERS)
    assert talk.announcers == ("m@away.example",)
    assert news == SiteList("news@one.test", None, name="News", owners=("anna@one.test",))
    assert read.left == {"accounts without IMAP, or without POP3": 1}
    assert read.hints["mail"].startswith("/var/vmail/vmail1/one.test/a/n/n/anna-2026/Maildir")


def test_iredmail_before_forwardings(tmp_path: Path) -> None:
    v = sites.V
    site = sites.Site(
        {
            "domain": f"domain {v}, active INT",
            "mailbox": f"username {v}, password {v}, quota INT, active INT",
            "alias": f"address {v}, goto TEXT, name {v}, accesspolicy {v}, active INT",
        },
        sites.rows("domain", "domain active", ("one.test", 1))
        + sites.rows("mailbox", "username password quota active", ("anna@one.test", sites.SSHA512, 5, 1))
        + sites.rows(
            "alias",
            "address goto name accesspolicy active",
            ("anna@one.test", "anna@one.test,a@away.example", "", "", 1),
            ("one.test", "anna@one.test", "", "", 1),
            ("team@one.test", "anna@one.test", "Team", "domain", 1),
        ),
    )
    read = Read("iredmail", database(tmp_path / "old", site))
    anna = read.accounts["anna@one.test"]
    assert (anna.forward, anna.keeps, anna.quota) == (("a@away.example",), True, 5 * MIB)
    assert read.aliases["@one.test"].targets == ("anna@one.test",)
    assert read.lists["team@one.test"].writers == OF_ITS_DOMAIN


@only("hmailserver")
def test_hmailserver(read: Read) -> None:
    assert read.domains["one.test"] == SiteDomain(
        "one.test",
        separators="-",
        message_size=20480 << 10,
        footer="Yours\nOne",
        footer_html="<p>One</p>",
        most_accounts=7,
        most_lists=9,
        most_octets=5000 * MIB,
        most_storage=200 * MIB,
    )
    assert read.domains["two.test"] == SiteDomain("two.test", separators="")
    assert read.domains["uno.test"].alias_of == "one.test"
    assert [one.name for one in read.all if isinstance(one, BadRow)] == ["stray.test"]
    anna, bert, carl = (read.accounts[f"{name}@one.test"] for name in ("anna", "bert", "carl"))
    assert anna.password.startswith("{HMAIL-SHA256}") and anna.role == "server" and anna.name == "Anna One"
    assert anna.answer == SiteAnswer("Away", "away", 0, int(datetime(2030, 1, 1, tzinfo=UTC).timestamp()))
    assert (bert.forward, bert.keeps, bert.role) == (("anna@one.test",), False, "domain")
    assert not carl.enabled and (carl.forward, carl.keeps) == (("c@away.example",), True)
    assert "Blowfish" in read.accounts["fish@one.test"].why and "Directory" in read.accounts["ad@one.test"].why
    assert read.aliases["@one.test"].targets == ("anna@one.test",) and not read.aliases["off@one.test"].enabled
    assert read.lists["all@one.test"].members == ("anna@one.test", "bert@one.test", "out@away.example")
    assert read.lists["board@one.test"].writers == ITS_MEMBERS
    news, shop = read.lists["news@one.test"], read.lists["shop@one.test"]
    assert (news.writers, news.announcers, news.logins_only) == (ITS_ANNOUNCERS, ("carl@one.test",), True)
    assert (shop.writers, shop.announcers, shop.enabled) == (OF_THE_SERVER, (), False)
    assert read.left == {
        "DKIM keys of domains": 1,
        "external accounts": 1,
        "public folders": 1,
        "rules": 2,
        "signatures of accounts": 1,
    }


@pytest.mark.parametrize(
    ("value", "kind", "scheme"),
    [
        ("secret", hmailserver.CLEAR, "{PLAIN}"),
        ("0" * 32, hmailserver.MD5, "{PLAIN-MD5}"),
        ("0" * 70, hmailserver.SALTED, "{HMAIL-SHA256}"),
        ("0" * 69, hmailserver.SALTED, ""),
        ("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$x", hmailserver.ARGON2, "{ARGON2ID}"),
        ("x", hmailserver.ARGON2, ""),
        ("x", hmailserver.PBKDF2, ""),
        ("x", 17, ""),
        ("", hmailserver.CLEAR, ""),
    ],
)
def test_passwords_of_hmailserver(value: str, kind: int, scheme: str) -> None:
    kept, why = hmailserver.password(value, kind)
    assert kept.startswith(scheme) and bool(kept) == bool(scheme) and bool(why) != bool(kept)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0a9f8ad8bf896b501dde74f08efd7e4c", "6FC6F69152AD"),  # of an hmailserver.ini that was published
        ("0A9F8AD8BF896B501DDE74F08EFD7E4C", "6FC6F69152AD"),
        ("0a9f8ad8bf896b501dde74f08efd7e4d", ""),
        ("0a9f8ad8bf896b501dde74f08efd7e", ""),
        ("0a9f8ad8bf896b50", "6FC6F691"),
        ("no digits", ""),
        ("", ""),
    ],
)
def test_passwords_in_blowfish(value: str, text: str) -> None:
    assert hmailserver.unfished(value) == text
    kept, why = hmailserver.password(value, hmailserver.BLOWFISH)
    assert kept == (f"{{PLAIN}}{text}" if text else "") and bool(why) != bool(text)


def v4(text: str) -> int:
    return int(ipaddress.ip_address(text))


def v6(text: str) -> tuple[int, int]:
    """As a database has it: two halves, signed."""
    whole = int(ipaddress.ip_address(text))
    return tuple(half - (1 << 64) if half >> 63 else half for half in (whole >> 64, whole % (1 << 64)))  # type: ignore[return-value]


def test_white_lists_and_ranges_of_hmailserver(tmp_path: Path) -> None:
    every, b = (0, None, v4("255.255.255.255"), None), "BIGINT"
    white = sites.rows(
        "hm_whitelist",
        "whiteid whiteloweripaddress1 whiteloweripaddress2 whiteupperipaddress1 whiteupperipaddress2 whiteemailaddress whitedescription",
        (1, *every, "*@friend.test", ""),
        (2, *every, "Joe@Mail.test", "joe"),
        (3, *every, "*@*.big.test", ""),
        (4, v4("192.0.2.0"), None, v4("192.0.2.255"), None, "*", "office"),
        (5, v4("198.51.100.7"), None, v4("198.51.100.7"), None, "*@x.test", "both"),
        (6, *every, "joe*@x.test", "pattern"),
        (7, *every, "*", "everybody"),
    )  # fmt: skip
    low, high = v6("fe80:1::"), v6("fe80:1::ffff")
    ranges = sites.rows(
        "hm_securityranges",
        "rangeid rangelowerip1 rangelowerip2 rangeupperip1 rangeupperip2 rangeoptions rangename rangeexpires",
        (1, v4("127.0.0.1"), None, v4("127.0.0.1"), None, 71627, "My computer", 0),
        (2, *every, 96203, "Internet", 0),
        (3, v4("203.0.113.4"), None, v4("203.0.113.5"), None, 64, "never", 0),
        (4, v4("203.0.113.9"), None, v4("203.0.113.9"), None, 0, "Auto-ban: x", 1),
        (5, low[0], low[1], high[0], high[1], 1 + 64, "branch", 0),
        (6, v4("10.0.0.1"), None, v4("10.255.255.254"), None, 1, "many networks", 0),
    )
    site = sites.Site(
        {
            **sites.HMAILSERVER.tables,
            "hm_whitelist": f"whiteid INT PRIMARY KEY, whiteloweripaddress1 {b}, whiteloweripaddress2 {b}, "
            f"whiteupperipaddress1 {b}, whiteupperipaddress2 {b}, whiteemailaddress {sites.V}, whitedescription {sites.V}",
            "hm_securityranges": f"rangeid INT PRIMARY KEY, rangelowerip1 {b}, rangelowerip2 {b}, rangeupperip1 {b}, "
            f"rangeupperip2 {b}, rangeoptions INT, rangename {sites.V}, rangeexpires INT",
        },
        sites.HMAILSERVER.rows + white + ranges,
    )
    read = Read("hmailserver", database(tmp_path / "old", site))
    one = read.domains["one.test"]
    assert one.allow == ("@friend.test", "joe@mail.test", ".big.test", "192.0.2.0/24", "fe80:1::/112")
    assert one.block == ("203.0.113.4/31",) and read.domains["two.test"].allow == one.allow
    assert read.domains["uno.test"].allow == (), "another name of a domain has no lists of its own"
    assert read.left["white list"] == 3 and read.left["IP ranges: who may relay and log in"] == 6
    given, left = asked.domain(one)
    assert given["allow"] == list(one.allow) and given["block"] == ["203.0.113.4/31"] and left == []
    bad = replace(one, allow=("nonsense", *(f"a{n}@x.test" for n in range(named.MOST + 1))))
    given, left = asked.domain(bad)
    assert len(given["allow"]) == named.MOST and len(left) == 2 and "nonsense" in left[0]


@only("ispmail")
def test_ispmail(read: Read) -> None:
    anna, bert = read.accounts["anna@one.test"], read.accounts["bert@one.test"]
    assert (anna.quota, anna.forward, anna.keeps) == (1_000_000, (), True)
    assert (bert.quota, bert.forward, bert.keeps) == (0, ("anna@one.test",), True)
    assert bert.password == "{PLAIN-MD5}" + sites.MD5
    assert {name: set(one.targets) for name, one in read.aliases.items()} == {
        "team@one.test": {"anna@one.test", "t@away.example"},
        "@one.test": {"anna@one.test"},
    }


@only("vpopmail")
def test_vpopmail(read: Read) -> None:
    domains = read.domains
    assert (domains["one.test"].most_accounts, domains["one.test"].most_aliases) == (20, 0)
    assert domains["one.test"].most_octets == 100 * MIB and domains["uno.test"].alias_of == "one.test"
    accounts = read.accounts
    assert accounts.keys() == {"postmaster@one.test", "anna@one.test", "bert@one.test", "anna@two.test"}
    assert accounts["postmaster@one.test"].password == "{PLAIN}" + sites.PASSWORD
    assert accounts["postmaster@one.test"].role == "domain"
    anna, bert = accounts["anna@one.test"], accounts["bert@one.test"]
    assert anna.sends is False and anna.receives and (anna.quota, anna.quota_messages) == (10 * MIB, 1000)
    assert bert.logs_in is False and bert.sends and (bert.forward, bert.keeps) == (("b@away.example",), True)
    assert accounts["anna@two.test"].receives is False and accounts["anna@two.test"].quota is None
    assert read.aliases["info@one.test"].targets == ("anna@one.test", "bert@one.test")
    assert read.aliases.keys() == {"info@one.test", "info@two.test"}
    assert read.left == {"programs that aliases hand mail to": 1}


def test_vpopmail_with_a_table_for_each_domain(tmp_path: Path) -> None:
    columns = f"pw_name {sites.V}, pw_passwd {sites.V}, pw_gid INT, pw_shell {sites.V}"
    site = sites.Site(
        {"one_test": columns},
        sites.rows("one_test", "pw_name pw_passwd pw_gid pw_shell", ("anna", "{PLAIN}x", 0, "NOQUOTA")),
    )
    url = database(tmp_path / "one", site)
    read = Read("vpopmail", url, Options(domain="one.test"))
    assert read.domains.keys() == {"one.test"} and read.accounts["anna@one.test"].quota == 0
    for domain, say in (("", "name one by --domain"), ("two.test", "name one by"), ("o'ne.test", "is not a domain")):
        with pytest.raises(CannotDo, match=say):
            Read("vpopmail", url, Options(domain=domain))


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ("NOQUOTA", (0, None)),
        ("", (None, None)),
        ("1000000", (1_000_000, None)),
        ("10K", (10240, None)),
        ("1000000S,100C", (1_000_000, 100)),
        ("nonsense", (None, None)),
        ("9" * 18, (1 << 52, None)),
    ],
)
def test_quotas_of_vpopmail(value: str, limits: tuple[int | None, int | None]) -> None:
    assert vpopmail.quota(value) == limits


@pytest.mark.parametrize("name", list(SITES))
def test_another_database_is_told(name: str, tmp_path: Path) -> None:
    url = database(tmp_path / "other", sites.Site({"other": "x INT"}))
    with pytest.raises(CannotDo, match="the database has no table"):
        Read(name, url)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for url in ("", "oracle://x/y", "sqlite"):
        with pytest.raises(CannotDo, match="--dsn is postgresql"), opened(url):
            pass
    with pytest.raises(CannotDo, match="nowhere: there is no such file"), opened(f"sqlite:{tmp_path}/nowhere"):
        pass
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(Unreadable, match="not a database"), opened(f"sqlite:{tmp_path}/text") as base:
        list(base.rows("SELECT 1 FROM sqlite_master"))
    for url in ("postgresql://x:secret@127.0.0.1:1/y", "mysql://x:secret@127.0.0.1:1/y"):
        with pytest.raises(Unreadable) as error, opened(url):
            pass
        assert "secret" not in str(error.value)


class _Tds:
    """What is asked of python-tds: a connection and cursors, over SQLite."""

    Error = sqlite3.Error

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: dict[str, object] = {}

    def connect(self, **how: object) -> sqlite3.Connection:
        self.asked = how
        base = sqlite3.connect(self.path, isolation_level=None)
        base.execute("ATTACH ':memory:' AS information_schema")
        base.execute("CREATE TABLE information_schema.columns (table_name TEXT, column_name TEXT)")
        tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            found: Sequence[tuple[str]] = base.execute(f"SELECT name FROM pragma_table_info('{name}')").fetchall()
            pairs = [(name, column) for (column,) in found]
            base.executemany("INSERT INTO information_schema.columns VALUES (?, ?)", pairs)
        return base


def test_sql_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is imported for this alone; what it is asked is what any SQL database can answer."""
    monkeypatch.setitem(sys.modules, "pytds", None)
    with pytest.raises(Unreadable, match=r"pip install 'fastmail\[mssql\]'"), opened("mssql://u:p@host/hm"):
        pass
    database(tmp_path / "hm", sites.HMAILSERVER)
    driver = _Tds(tmp_path / "hm")
    monkeypatch.setitem(sys.modules, "pytds", driver)
    read = Read("hmailserver", "mssql://us%40er:p%3Aw@host:1444/hm")
    assert "anna@one.test" in read.accounts and "all@one.test" in read.lists
    asked = driver.asked
    assert (asked["dsn"], asked["port"], asked["database"]) == ("host", 1444, "hm")
    assert (asked["user"], asked["password"]) == ("us@er", "p:w")
