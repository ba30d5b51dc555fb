"""fastmail.migrate.passdbs: nobody whom the old server kept out gets in, and the plan says what becomes of each
condition."""

from pathlib import Path

import pytest

from fastmail.cli.accounts import _read_entries
from fastmail.config.load import parse
from fastmail.directory.access import ELSEWHERE, NOT_ALLOWED
from fastmail.migrate import doveconf
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME

USERS = """plain@one.test:{PLAIN}x
barred@one.test:{PLAIN}x::::::nologin reason=Gone
nets@one.test:{PLAIN}x::::::allow_nets=10.0.0.0/8,2001:db8::/32
away@one.test:{PLAIN}x::::::proxy host=10.1.1.1
open@one.test:::::::nopassword
odd@one.test:{NTLM}878D8014606CDA29677A44EFA1353FC7
denied@one.test:{PLAIN}x
bare:STcrUptnxfG4I::::::nodelay userdb_mail=maildir:~/M user=other x_y=1
"""


def made(
    tmp_path: Path, more: str = "", users: str = USERS, before: str = ""
) -> tuple[dict[str, tuple[str, str]], object]:
    (tmp_path / "users").write_text(users)
    (tmp_path / "denied").write_text("# nobody of these\ndenied@one.test\n")
    text = f"{before}\npassdb {{\n driver = passwd-file\n args = username_format=%u {tmp_path}/users\n{more}\n}}\n"
    plan = doveconf.plan(text, "two.test")
    (tmp_path / "accounts").write_text("".join(line + "\n" for line in plan.accounts))
    entries = {address: (nets, nologin) for address, _, nets, nologin in _read_entries(str(tmp_path / "accounts"))}
    return entries, plan


def says(plan: object, what: str) -> dict[str, str]:
    return {one.theirs: one.state for one in plan.findings if one.what == what}  # type: ignore[attr-defined]


def test_conditions_go_with_the_accounts(tmp_path: Path) -> None:
    deny = f"passdb {{\n driver = passwd-file\n deny = yes\n args = {tmp_path}/denied\n}}"
    entries, plan = made(tmp_path, before=deny)
    assert entries == {
        "plain@one.test": ("", ""),
        "barred@one.test": ("", "Gone"),
        "nets@one.test": ("10.0.0.0/8,2001:db8::/32", ""),
        "away@one.test": ("", ELSEWHERE),
        "denied@one.test": ("", NOT_ALLOWED),
        "bare@two.test": ("", ""),
    }
    logins = says(plan, "logins")
    assert logins["nologin: 2 accounts"] == SAME and logins["allow_nets: 1 accounts"] == SAME
    assert logins["proxy: 1 accounts"] == NOTICED and logins["nopassword: 1 accounts"] == NOTICED
    assert logins[f"deny {tmp_path}/denied: 1 users"] == SAME
    extra = says(plan, "extra field")
    assert (
        extra["user: 1 accounts"] == BLOCKS
        and extra["x_y: 1 accounts"] == MISSING
        and extra["host: 1 accounts"] == MISSING
    )
    accounts = says(plan, "accounts")
    assert accounts["1 with schemes not known here"] == BLOCKS and accounts["userdb_mail"] == NOTICED
    assert any("odd@one.test ({NTLM})" in one.ours for one in plan.findings)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (" default_fields = allow_nets=192.0.2.0/24", ("192.0.2.0/24", "")),
        (" override_fields = nologin reason=Closed", ("", "Closed")),
        (" override_fields {\n  allow_nets = 192.0.2.0/24\n }", ("192.0.2.0/24", "")),
    ],
)
def test_fields_for_all(tmp_path: Path, more: str, wanted: tuple[str, str]) -> None:
    entries, _ = made(tmp_path, more, "plain@one.test:{PLAIN}x\n")
    assert entries == {"plain@one.test": wanted}


def test_a_scheme_for_all(tmp_path: Path) -> None:
    text = f"passdb {{\n driver = passwd-file\n args = scheme=plain-md4 {tmp_path}/users\n}}\n"
    (tmp_path / "users").write_text("a@one.test:67d3dafef63ff00603aeef3769cfbf0d\n")
    assert doveconf.plan(text, "").accounts == ["a@one.test:{PLAIN-MD4}67d3dafef63ff00603aeef3769cfbf0d"]


@pytest.mark.parametrize(
    "block",
    [
        "driver = passwd-file\n deny = yes\n args = /none",
        "driver = sql\n deny = yes\n args = /none",
        "driver = pam\n override_fields = allow_nets=10.0.0.0/8",
        "driver = pam\n pass = yes",
        "driver = pam\n result_success = continue",
        "driver = pam\n username_filter = *@one.test",
        "driver = pam\n mechanisms = external",
        "driver = ldap",
    ],
)
def test_what_restricts_and_is_not_here_is_in_the_way(block: str) -> None:
    plan = doveconf.plan(f"passdb {{\n {block}\n}}\n", "x.test")
    found = [one for one in plan.findings if one.what == "logins" or "ldap" in block]
    assert any(one.state == BLOCKS for one in found), plan.findings


def test_master_users_are_no_accounts(tmp_path: Path) -> None:
    entries, plan = made(tmp_path, " master = yes", before="auth_master_user_separator = *")
    assert entries == {} and len(says(plan, "master users")) == 2
    assert says(plan, "master users")["*"] == NOTICED
    static = doveconf.plan("passdb {\n driver = static\n args = nopassword=y\n}\n", "x.test")
    assert says(static, "accounts") == {"static nopassword=y": NOTICED}


def test_conditions_of_queries(tmp_path: Path) -> None:
    (tmp_path / "sql.conf").write_text(
        "driver = sqlite\nconnect = /x.db\n"
        "password_query = SELECT password, nets AS allow_nets, 'Y' AS proxy FROM users WHERE name = '%u'\n"
    )
    plan = doveconf.plan(f"passdb {{\n driver = sql\n args = {tmp_path}/sql.conf\n}}\n", "x.test")
    assert says(plan, "logins") == {"sql: proxy": NOTICED, "sql: allow_nets": SAME}


def test_ldap(tmp_path: Path) -> None:
    (tmp_path / "ldap.conf").write_text(
        "uris = ldaps://dir.one.test\ndn = cn=dove,dc=one\ndnpass = secret\nbase = ou=people,dc=one\n"
        "pass_filter = (&(objectClass=person)(mail=%u))\n"
        "pass_attrs = mail=user,userPassword=password,hosts=allow_nets,locked=nologin,back=host\n"
    )
    plan = doveconf.plan(f"passdb {{\n driver = ldap\n args = {tmp_path}/ldap.conf\n}}\n", "one.test")
    for line in (
        'ldap = "ldaps://dir.one.test"',
        'ldap_filter = "(&(objectClass=person)(mail=*))"',
        'ldap_address = "mail"',
        'ldap_nets = "hosts"',
        'ldap_nologin = "locked"',
        'ldap_proxy = "back"',
    ):
        assert line in plan.config, plan.config
    assert says(plan, "logins") == {"ldap: allow_nets": SAME, "ldap: nologin": SAME, "ldap: host": SAME}


def test_ldap_that_is_bound_as_the_user(tmp_path: Path) -> None:
    path = tmp_path / "ldap.conf"
    path.write_text(
        "hosts = dir.one.test\nauth_bind = yes\nbase = ou=people,dc=one\npass_filter = (uid=%n)\n"
        "auth_bind_userdn = uid=%n,ou=people,dc=one\n"
    )
    tls = "ssl_cert = </etc/x.pem\nssl_key = </etc/x.key\n"
    plan = doveconf.plan(f"{tls}passdb {{\n driver = ldap\n args = {path}\n}}\n", "one.test")
    found = parse(plan.config, str(tmp_path / "fastmail.toml")).directory
    assert (found.ldap, found.ldap_bind_as_user, found.ldap_address) == ("ldap://dir.one.test", True, "uid")
    assert "ldap_password " not in plan.config
    assert {one.theirs: one.state for one in plan.findings if one.what == "accounts"} == {
        "ldap auth_bind": SAME,
        "ldap auth_bind_userdn": NOTICED,
        "ldap ldap://dir.one.test": SAME,
    }


def test_a_directory_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "dovecot.conf").write_text(
        "# all\nprotocols = imap # only\n!include conf.d/*.conf\n!include_try local.conf\n!include_try none.conf\n"
    )
    (tmp_path / "conf.d" / "10.conf").write_text(
        "mail_location = \\\n  maildir:/srv/%d/%n\nnamespace inbox {\n inbox = yes\n}\n"
    )
    (tmp_path / "conf.d" / "20.conf").write_text("namespace inbox {\n separator = .\n prefix = INBOX.\n}\n")
    (tmp_path / "local.conf").write_text("hostname = mx.one.test\n")
    plan = doveconf.plan(doveconf.load(str(tmp_path)), "one.test")
    assert 'maildir = "/srv/{domain}/{user}"' in plan.config and 'prefix = "INBOX."' in plan.config
    assert 'hostname = "mx.one.test"' in plan.config and "pop3" not in plan.config
    (tmp_path / "local.conf").write_text("!include dovecot.conf\n")
    with pytest.raises(doveconf.CannotDo, match="include each other"):
        doveconf.load(str(tmp_path))
    (tmp_path / "dovecot.conf").write_text("!include gone.conf\n")
    with pytest.raises(doveconf.CannotDo, match=r"gone\.conf"):
        doveconf.load(str(tmp_path))
