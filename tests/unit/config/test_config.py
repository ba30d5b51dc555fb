"""Configuration: everything wrong is told with file, line and what was meant."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from fastmail.config.load import load, parse
from fastmail.config.settings import SECTIONS, TABLES, Config
from fastmail.config.written import dump, reference
from fastmail.model.errors import ConfigError


def test_the_reference_is_a_configuration_that_changes_nothing() -> None:
    text = reference()
    assert (
        set(tomllib.loads(text)) == {item.name for item in fields(Config)} - {"path", "base", *TABLES} == set(SECTIONS)
    )
    assert parse(text, "/x/fastmail.toml") == parse("", "/x/fastmail.toml")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[sever]\n", "f.toml:1: unknown section [sever]; did you mean server?"),
        ("[server]\n\nhostnam = 'x'\n", "f.toml:3: unknown key hostnam in [server]; did you mean hostname?"),
        ("[limits]\nrecipients = 'x'\n", "f.toml:2: recipients must be a whole number, not 'x'"),
        ("[limits]\nmessage_size = '3 parsecs'\n", "f.toml:2: message_size must be a size"),
        ("[limits]\nidle_timeout = -1\n", "must not be negative"),
        ("[limits]\nidle_timeout = '3 weeks'\n", "must be a time"),
        ("[auth]\nplaintext_without_tls = 'yes'\n", 'must be true, false or "loopback"'),
        ("[tls]\nminimum_version = '1.1'\n", "must be one of 1.2, 1.3"),
        ("[server]\nhostname = mx\n", "f.toml:2: Invalid value, in column 12; a text stands in quotes"),
        ("[server\n", "f.toml:1: Expected ']'"),
        ("[server]\nhostname = 'a'\nhostname = 'b'\n", "f.toml:3: Cannot overwrite a value, in column 15"),
        ("[listen]\nsmtp = ['25']\n", "must be a list of"),
        ("[listen]\nsmtp = ['[::1]:25', '[::1]:25']\n", "f.toml:2: smtp: '[::1]:25' is named already, by smtp"),
        ("[listen]\nsmtp = [':25']\nimap = [':25']\n", "f.toml:3: imap: ':25' is named already, by smtp"),
        ("[listen]\nlmtp = ['unix:/x']\npop3 = ['unix:/x']\n", "f.toml:3: pop3: 'unix:/x' is named already, by lmtp"),
        (
            "[listen]\nimap = ['127.0.0.1:80']\n[web]\nplain = true\nlisten = ['127.0.0.1:80']\n",
            "f.toml:5: [web] listen: '127.0.0.1:80' is named already, by imap",
        ),
        ("[listen]\nsmtp = ['x:99999']\n", "port above 65535"),
        ("[listen]\nimaps = [':993']\n", "imaps needs [tls] certificate and key"),
        ("[tls]\ncertificate = 'x'\n", "go together"),
        ("[web]\nlisten = [':443']\n", "f.toml:2: listen needs [tls] certificate and key, or plain = true"),
        ("[web]\nurl = 'https://x.test'\n", "f.toml:2: url needs listen, or links would lead nowhere"),
        ("[web]\nlisten = ['x']\n", "must be a list of"),
        ("[web]\nplain = true\nlisten = ['192.0.2.1:80']\n", "f.toml:3: plain HTTP is for loopback addresses"),
        ("[web]\nplain = true\nlisten = [':80']\n", "plain HTTP is for loopback addresses"),
        *[
            (f"[web]\nplain = true\nlisten = ['unix:/x']\nurl = '{url}'\n", f"f.toml:4: url {why}")
            for url, why in (
                ("http://x.test", "must be an https:// URL"),
                ("https://x.test/a b", "must be an https:// URL"),
                ("https://x.test/?a", "must have a host"),
                ("https://x.test/#a", "must have a host"),
                ("https://me@x.test", "must have a host"),
                ("https://x.test/>,<", "must have a host"),
                ("https://x.test/\u00e4", "must have a host"),
                ("https://", "must be an https:// URL"),
                ("https:///x", ""),
                ("https://x..test", "'x..test' is not a host name"),
                ("https://x.test:99999", "Port out of range"),
                ("https://" + "x" * 200, "must be an https:// URL of at most 200"),
            )
        ],
        ("[store]\nmaildir = '{home}'\n", "needs [store] homes"),
        ("[store]\nmaildir = '{house}'\n", "{domain}, {user} and {home} only"),
        ("[store]\nshared = 'dovecot'\ncontent = 'segments'\n", 'content = "maildir"'),
        ("[store]\nmaildir = 'x'\n", "needs {user}"),
        ("[store]\nshards = 0\n", "1 to 64"),
        ("[store]\nanyone = 'all'\n", "must be one of list, subscribed, off"),
        ("[auth]\nheader_senders = 'warn'\n", "f.toml:2: header_senders must be refuse, log or off"),
        ("[auth]\n\nsend_as = ['me@x.test']\n", 'f.toml:3: send_as: "LOGIN ADDRESS..." is expected'),
        ("[auth]\nsend_as = ['me *']\n", '"LOGIN ADDRESS..." is expected'),
        ("[policy]\nallow = ['x@y.test']\nblock = ['x.test']\n", "f.toml:3: block: 'x.test' is no address, @domain"),
        ("[policy]\nblocked = 'drop'\n", "f.toml:2: blocked must be refuse or junk"),
        ("x = [\n", "f.toml:"),
        *[
            (f"[server]\nhostname = {name!r}\n", "f.toml:2: hostname ")
            for name in (
                "",
                " ",
                "mx example.org",
                "mx.example.org\\r\\nX",
                "-mx.example.org",
                "mx..org",
                "\U0001f4a9.org",
                "a" * 300,
            )
        ],
        *[
            (f"[relay]\ndns_servers = [{name!r}]\n", "f.toml:2: dns_servers must be")
            for name in (
                "localhost",
                "dns.example.org:53",
                "127.0.0.1:0",
                "127.0.0.1:99999",
                "127.0.0.1:x",
                "127.0.0.1:",
                "",
                "1.2.3",
                "[::1",
                "[127.0.0.1]:53",
                "[::1]53",
                "[::1]:",
                "::1:x",
                "127.0.0.1\\n",
                "[localhost]:53",
                "\u0661.1.1.1",
            )
        ],
        *[
            (f"[listen]\nimap = [{name!r}]\n", "f.toml:2: imap must be a list of")
            for name in (
                "127.0.0.1:65536",
                "127.0.0.1:0",
                "127.0.0.1",
                "h o:143",
                "[::1]",
                "::1:143:x",
                "unix:",
                "unix:/" + "x" * 200,
                "127.0.0.1:\u0661\u0664",
                "256.0.0.1:143",
                "-h:143",
                "[h]:143",
            )
        ],
        ("[listen]\nimap = [143]\n", "must be a list of"),
        ("[filters]\nsmtp = [':11332']\n", "has no host"),
        ("[relay]\nport = 65536\n", "f.toml:2: port"),
        ("[relay]\nport = 0\n", "f.toml:2: port"),
        ("[relay]\nsource_ipv4 = '::1'\n", "f.toml:2: source_ipv4 '::1' is not an IPv4 address"),
        ("[relay]\nsource_ipv4 = 'mx.example.org'\n", "is not an IP address"),
        ("[relay]\nsource_ipv6 = '10.0.0.1'\n", "f.toml:2: source_ipv6 '10.0.0.1' is not an IPv6 address"),
        ("[relay]\nroutes = ['* smtp:relay.test:70000']\n", "is a port above 65535"),
        ("[relay]\nroutes = ['* smtp:re^lay.test']\n", "is not a host name"),
        ("[relay]\nroutes = ['* smtp:10.0.0.256']\n", "neither a host name nor an IP address"),
        ("[auth]\ndefault_domain = 'a b'\n", "f.toml:2: default_domain"),
        ("[policy]\nreports_address = 'nobody'\n", "f.toml:2: reports_address: 'nobody' is not an address"),
        ("[policy]\nfeedback_id = 'a:b'\n", "f.toml:2: feedback_id must be 5 to 15 letters and digits"),
        ("[policy]\nreports_from = 'a@b c'\n", "f.toml:2: reports_from: "),
        ("[policy]\nreports_from = '\u00e4@b.test'\n", "f.toml:2: reports_from must be ASCII"),
    ],
)
def test_what_is_wrong_is_told(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml")
    assert wanted in str(caught.value)


def test_what_is_no_place_may_be_named_twice() -> None:
    parse("[listen]\nproxy_protocol = ['10.0.0.0/8']\nxclient = ['10.0.0.0/8']\n")


def test_values_and_paths() -> None:
    config = parse(
        '[server]\ndata_dir = "d"\n[limits]\nmessage_size = "25 MiB"\nidle_timeout = "30m"\n', "/etc/f/x.toml"
    )
    assert (config.server.data_dir, config.server.run_dir) == ("/etc/f/d", "/etc/f/d/run")
    assert (config.limits.message_size, config.limits.idle_timeout) == (25 << 20, 1800.0)
    with pytest.raises(ConfigError, match="quickstart"):
        load("/does/not/exist.toml")


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ('routes = ["example.org"]', 'f.toml:2: [relay] routes: "example.org": PATTERN NEXTHOP is expected'),
        ('routes = ["example.org ftp:x"]', "the next hop is mx, smtp:HOST"),
        ('routes = ["example.org smtp:x tls=maybe"]', "tls=maybe is not one of tls=none|may|encrypt|verify"),
        ('routes = ["* smtp:x password_file=/nowhere"]', "cannot read the password file"),
        ('tls_policies = ["example.org strong"]', "one of none, may, encrypt, verify"),
        ('networks = ["10.0.0.0/99"]', "10.0.0.0/99"),
        ('retry = ["soon"]', 'must be a time such as 90 or "30m", not "soon"'),
        ('tls = "always"', "tls must be none, may, encrypt or verify"),
    ],
)
def test_relay_settings_say_what_is_wrong(lines: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[relay]\n{lines}\n", "f.toml")
    assert wanted in str(caught.value)


def test_names_and_addresses_have_one_form() -> None:
    config = parse(
        "[server]\nhostname = 'MX.Fa\u00df.example.'\n[auth]\ndefault_domain = 'Fa\u00df.example'\n"
        "[relay]\ndns_servers = ['127.0.0.1', '::1', '[::1]:5353', '127.0.0.1:54']\nsource_ipv6 = '2001:DB8:0::1'\n"
        "[listen]\nsmtp = [':25', '[::]:25', 'LocalHost:2525', 'unix:/run/x']\n"
    )
    assert (config.server.hostname, config.auth.default_domain) == ("mx.xn--fa-hia.example", "xn--fa-hia.example")
    assert config.relay.dns_servers == ["127.0.0.1:53", "[::1]:53", "[::1]:5353", "127.0.0.1:54"]
    assert config.relay.source_ipv6 == "2001:db8::1"
    assert config.listen.smtp == [":25", "[::]:25", "localhost:2525", "unix:/run/x"]


def test_a_mark_in_front_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fastmail.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\r\nhostname = 'mx.example.org'\r\n")
    assert load(str(path)).server.hostname == "mx.example.org"


SCANNER = "[[scanner]]\nkind = 'clamav'\naddress = 'LocalHost:3310'\n"
RSPAMD = "[[scanner]]\nkind = 'rspamd'\naddress = 'localhost:11333'\n"


def test_scanners_are_sections_of_their_own() -> None:
    text = SCANNER + "\n[[scanner]]\nkind = 'rspamd'\naddress = 'unix:/run/rspamd'\nname = 'two'\nlargest = '1 MiB'\n"
    one, two = parse(text + "on = ['submission']\ntimeout = '1m'\n").scanner
    assert (one.kind, one.address, one.on, one.when_away) == ("clamav", "localhost:3310", ["smtp"], "accept")
    assert (two.name, two.largest, two.timeout, two.on) == ("two", 1 << 20, 60.0, ["submission"])
    again = parse(dump(parse(text)))
    assert again.scanner == parse(text).scanner
    assert "# [[scanner]]" in reference() and parse(reference()).scanner == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[scanner]\nkind = 'clamav'\n", "f.toml:1: there may be several of scanner: write [[scanner]]"),
        (SCANNER + "kinds = 'x'\n", "f.toml:4: unknown key kinds in [[scanner]]; did you mean kind?"),
        (SCANNER + SCANNER, "f.toml:4: two scanners are called 'clamav': give them a name each"),
        (SCANNER + SCANNER + "name = 'X y'\n", "f.toml:7: name 'X y' must be of a-z, 0-9 and hyphens"),
        (
            SCANNER + "\n[[scanner]]\naddress = 'x:1'\nkind = 'norton'\n",
            "f.toml:7: kind must be one of clamav, spamassassin, rspamd",
        ),
        ("[[scanner]]\nkind = 'clamav'\n", "f.toml:1: address must be"),
        ("[[scanner]]\nkind = 'clamav'\naddress = 'x:99999'\n", "f.toml:3: address must be"),
        (SCANNER + "on = ['imap']\n", "f.toml:4: on must be a list of smtp and submission"),
        (SCANNER + "on = []\n", "on must be a list of"),
        (SCANNER + "when_away = 'drop'\n", "f.toml:4: when_away must be one of accept, defer, refuse"),
        (SCANNER + "virus = 'keep'\n", "f.toml:4: virus must be one of refuse, junk"),
        (SCANNER + "timeout = 0\n", "f.toml:4: timeout must be above 0"),
        (SCANNER + "connections = 0\n", "f.toml:4: connections must be at least 1"),
        (SCANNER + "weight = -1\n", "f.toml:4: weight must not be negative"),
        (SCANNER + "learn_address = 'x:1'\n", "f.toml:4: clamav cannot learn: leave learn_address out"),
        (RSPAMD + "learn_address = 'x'\n", "f.toml:4: learn_address must be"),
        (RSPAMD + "learn_password_file = 'x'\n", "f.toml:4: learn_password_file is for the learn_address of rspamd"),
        (SCANNER + "per_user = true\n", "f.toml:4: clamav knows no users: leave per_user out"),
    ],
)
def test_what_is_wrong_with_a_scanner_is_told(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://Lists.Example.TEST/", "https://lists.example.test"),
        ("HTTPS://x.test:443", "https://x.test"),
        ("https://x.test:8443/a/b//", "https://x.test:8443/a/b"),
        ("https://m\u00fcller.test", "https://xn--mller-kva.test"),
        ("https://[2001:DB8::1]:2443", "https://[2001:db8::1]:2443"),
        ("https://192.0.2.1", "https://192.0.2.1"),
    ],
)
def test_the_address_of_the_web_server_has_one_form(url: str, wanted: str) -> None:
    text = f"[web]\nplain = true\nlisten = ['127.0.0.1:80', '[::1]:80', 'localhost:80', 'unix:/x']\nurl = '{url}'\n"
    config = parse(text, "/x/fastmail.toml")
    assert config.web.url == wanted and len(config.web.listen) == 4


SOURCE = "[[source]]\nname = 'office'\npasswd_file = 'users'\n"
LDAP = "[[source]]\nname = 'x'\nldap = 'ldap://x'\nldap_base = 'dc=x'\n"


def test_sources_are_sections_of_their_own() -> None:
    text = (
        SOURCE
        + "\n[[source]]\nname = 'shop'\nsql = 'sqlite:shop.sqlite'\nsql_accounts = 'SELECT 1'\ndomain = 'Shop.Test'\n"
    )
    config = parse(text, "/etc/f.toml")
    one, two = config.source
    assert (one.passwd_file, two.sql, two.domain) == ("/etc/users", "sqlite:/etc/shop.sqlite", "shop.test")
    assert config.source_names == {"office", "shop"}
    assert parse("[directory]\npasswd_file = 'x'\n" + text).source_names == {"", "office", "shop"}
    assert parse(dump(config)).source == config.source
    lines = reference().splitlines()
    begins = lines.index("# [[source]]")
    assert parse(reference()).source == [] and '# name = ""' in lines[begins : begins + 8]


SQL = "[[source]]\nname = 'x'\nsql = 'sqlite:x'\nsql_password_query = 'SELECT 1'\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (SOURCE + SOURCE, "f.toml:5: two sources are called 'office': give them a name each"),
        (SOURCE.replace("office", "local"), "f.toml:2: name 'local' must be of a-z, 0-9 and hyphens"),
        (SOURCE.replace("office", "Of fice"), "f.toml:2: name 'Of fice' must be"),
        ("[[source]]\npasswd_file = 'users'\n", "f.toml:1: name '' must be"),
        ("[[source]]\nname = 'office'\n", "f.toml:2: source office needs one of passwd_file, sql and ldap"),
        (SOURCE + "ldap = 'ldap://x'\n", "f.toml:3: source office: passwd_file and ldap: give one of them"),
        (
            SOURCE + "sql_lists = 'SELECT 1'\n",
            "f.toml:4: source office: sql_lists is for sql, which is not set: mailing",
        ),
        (SQL + "sql_accounts = 'SELECT 1'\n", "f.toml:5: source x: sql_accounts and sql_password_query: give one of"),
        (SQL + "sql_members = 'SELECT 1'\n", "f.toml:5: source x: sql_members needs sql_lists"),
        (SOURCE + "domain = 'a b'\n", "f.toml:4: domain "),
        (SOURCE + "sql_accouts = ''\n", "f.toml:4: unknown key sql_accouts in [[source]]; did you mean sql_accounts?"),
        ("[[source]]\nname = 'x'\nsql = 'oracle://x'\n", "source x: sql must be"),
        (LDAP + "ldap_fields = ['name']\n", "f.toml:5: source x: ldap_fields: 'name': \"field=attribute\" is expected"),
        (LDAP + "ldap_fields = ['role=title']\n", "f.toml:5: ldap_fields: role is no field for a [[source]]"),
        ("[directory]\nldap_nested_groups = 'deep'\n", "must be one of no, follow, chain"),
        ("[auth]\nmaster_user_separator = '*'\n", "f.toml:2: master_user_separator needs master_users = true"),
        (
            "[auth]\nmaster_users = true\nmaster_user_separator = '**'\n",
            "f.toml:3: master_user_separator must be one of",
        ),
        (
            "[auth]\nmaster_users = true\nmaster_user_separator = '@'\n",
            "f.toml:3: master_user_separator must be one of",
        ),
    ],
)
def test_what_is_wrong_with_a_source_is_told(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml")
    assert wanted in str(caught.value)


def test_strangers_are_left_alone_at_first() -> None:
    from fastmail.app.derived import policy_settings, stranger_rules

    made = parse("")
    assert not stranger_rules(made).any
    assert (policy_settings(made).helo, policy_settings(made).sender, list(policy_settings(made).link_lists)) == (
        "off",
        "off",
        [],
    )
    made = parse(
        "[strangers]\nbanner_wait = '2s'\nhello = 'refuse'\nsender_domain = 'score'\nrates = ['connections client 600']\n"
        "[policy]\nlink_lists = ['multi.surbl.org=127.0.0.&8*4 org ip']\n"
    )
    assert stranger_rules(made).wait == 2.0 and stranger_rules(made).rates[0].most == 600
    assert policy_settings(made).helo == "refuse" and policy_settings(made).link_lists[0].org


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[strangers]\n\nrates = ['mails 5']\n", "f.toml:3: 'mails 5' is no rate: write WHAT BY MOST"),
        (
            "[policy]\nspf = false\n[strangers]\nrates = ['messages client 5', 'messages sender 5']\n",
            "f.toml:4: 'messages sender 5' needs [policy] spf",
        ),
        ("[strangers]\nhello = 'drop'\n", "f.toml:2: hello must be one of off, score, refuse, not 'drop'"),
        ("[strangers]\nguessers = 'off'\n", "f.toml:2: guessers must be one of score, refuse, ban"),
        ("[strangers]\ntarpit = '5m'\n", "f.toml:2: tarpit must not be above 30 seconds"),
        ("[strangers]\nbanner_wait = '5m'\n", "f.toml:2: banner_wait must not be above 60 seconds"),
        ("[policy]\nlink_lists = ['x y']\n", "f.toml:2: 'x y' is no list: write ZONE=CODES*WEIGHT"),
    ],
)
def test_what_is_wrong_with_strangers_is_told(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml")
    assert wanted in str(caught.value)
