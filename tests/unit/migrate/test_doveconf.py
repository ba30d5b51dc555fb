"""fastmail.migrate.doveconf: what becomes of Dovecot's SQL and of its layouts, and that what is proposed is sound."""

from pathlib import Path

import pytest

from fastmail.config.load import parse
from fastmail.migrate import doveconf
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME

OLD = """
ssl_cert = </etc/x.pem
ssl_key = </etc/x.key
mail_location = maildir:~/Maildir:LAYOUT=fs:UTF-8:CONTROL=/var/control/%d/%n:INDEX=/var/index/%u
passdb {{
  driver = sql
  args = {path}
}}
userdb {{
  driver = sql
  args = {path}
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
"""
FILE = """
# a comment
driver = {driver}
connect = {connect}
default_pass_scheme = SHA512-CRYPT
password_query = SELECT username AS user, password \\
  FROM mailbox WHERE username = '%u' AND active = '1'
user_query = "SELECT CONCAT('/srv/vmail/', maildir) AS home, 5000 AS uid FROM mailbox WHERE username = '%u'"
iterate_query = SELECT username AS user FROM mailbox
"""
NEW = """
ssl_server_cert_file = /etc/x.pem
ssl_server_key_file = /etc/x.key
mail_driver = maildir
mail_path = /srv/vmail/%{user | domain}/%{user | username}
mail_index_path = /var/index/%{user}
sql_driver = pgsql
pgsql localhost {
  parameters {
    user = dove
    password = s e c
    dbname = mails
  }
}
passdb sql {
  default_password_scheme = BLF-CRYPT
  query = SELECT password FROM users WHERE userid = '%{user}'
}
userdb sql {
  query = SELECT home FROM users WHERE userid = '%{user | lower}'
  iterate_query = SELECT userid AS user FROM users
}
"""
CONNECTS = [
    ("mysql", "host=db.example.org port=3307 dbname=mails user=dove password=p/w", "mysql://dove:p%2Fw@db.example.org:3307/mails"),
    ("mysql", "host=/run/mysqld/mysqld.sock dbname=m user=d", "mysql://d@localhost/m?unix_socket=/run/mysqld/mysqld.sock"),
    ("pgsql", "host=localhost dbname=m user=d password=x", "postgresql://d:x@localhost/m"),
    ("pgsql", "host=/run/postgresql dbname=m user=d", "postgresql://d@/m?host=/run/postgresql"),
    ("sqlite", "/var/lib/users.sqlite", "sqlite:/var/lib/users.sqlite"),
]  # fmt: skip


@pytest.mark.parametrize(("driver", "connect", "url"), CONNECTS)
def test_queries_in_a_file(tmp_path: Path, driver: str, connect: str, url: str) -> None:
    path = tmp_path / "sql.conf"
    path.write_text(FILE.format(driver=driver, connect=connect))
    made = doveconf.plan(OLD.format(path=path), "example.org")
    config = parse(made.config, str(tmp_path / "fastmail.toml"))
    assert config.directory.sql == url and config.directory.sql_scheme == "SHA512-CRYPT"
    wanted = "SELECT username AS user, password FROM mailbox WHERE username = '%u' AND active = '1'"
    assert config.directory.sql_password_query == wanted
    assert config.directory.sql_user_query.endswith("WHERE username = '%u'") and config.directory.sql_iterate_query
    assert (config.store.layout, config.store.utf8_names) == ("fs", True)
    assert config.store.maildir == "{home}/Maildir" and config.store.homes
    assert config.store.control == "/var/control/{domain}/{user}"
    assert config.store.indexes == "/var/index/{user}@{domain}"
    assert BLOCKS not in {one.state for one in made.findings}


def test_queries_in_sections(tmp_path: Path) -> None:
    made = doveconf.plan(NEW, "")
    config = parse(made.config, str(tmp_path / "fastmail.toml"))
    assert config.directory.sql == "postgresql://dove:s%20e%20c@localhost/mails"
    assert config.directory.sql_password_query == "SELECT password FROM users WHERE userid = '%{user}'"
    assert config.directory.sql_user_query == "SELECT home FROM users WHERE userid = '%{user | lower}'"
    assert config.directory.sql_iterate_query == "SELECT userid AS user FROM users"
    assert config.store.indexes == "/var/index/{user}@{domain}"
    assert config.store.maildir == "/srv/vmail/{domain}/{user}" and config.directory.sql_scheme == "BLF-CRYPT"


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    def blocks(text: str) -> list[str]:
        return [one.ours for one in doveconf.plan(text, "x.test").findings if one.state == BLOCKS]

    path = tmp_path / "sql.conf"
    assert any("cannot be read" in said for said in blocks(OLD.format(path=tmp_path / "none")))
    path.write_text("driver = mysql\nconnect = host=x\n")
    assert any("password_query" in said for said in blocks(OLD.format(path=path)))
    path.write_text(FILE.format(driver="mysql", connect="host=x dbname=m").replace("'1'", "'%r'"))
    assert any("%r" in said for said in blocks(OLD.format(path=path)))
    assert blocks("mail_location = maildir:~/Maildir:DIRNAME=here\nmail_home = /srv/%d/%n\n")
    assert blocks("mail_location = maildir:/srv/%n:LAYOUT=index\n")


NAMED = """
mail_location = maildir:/srv/%d/%n
local_name "imap.one.test *.two.test" {
  ssl_cert = </etc/named.pem
  ssl_key = </etc/named.key
}
local 192.0.2.1 {
  protocol imap {
    ssl_cert = </etc/local.pem
  }
  ssl_key = </etc/local.key
}
local_name a..b {
  ssl_cert = </etc/bad.pem
  ssl_key = </etc/bad.key
}
local_name half.test {
  ssl_cert = </etc/half.pem
}
local_name plain.test {
  ssl_min_protocol = TLSv1.2
}
"""


def test_certificates_of_names(tmp_path: Path) -> None:
    made = doveconf.plan("ssl_cert = </etc/x.pem\nssl_key = </etc/x.key\n" + NAMED, "x.test")
    config = parse(made.config, str(tmp_path / "fastmail.toml"))
    assert (config.tls.certificate, config.tls.key) == ("/etc/x.pem", "/etc/x.key")
    assert [(one.certificate, one.key, one.names) for one in config.certificate] == [
        ("/etc/named.pem", "/etc/named.key", ["imap.one.test", "*.two.test"]),
        ("/etc/local.pem", "/etc/local.key", []),
        ("/etc/half.pem", "/etc/x.key", ["half.test"]),
    ]
    said = {one.what: (one.theirs, one.state) for one in made.findings}
    assert said["local_name imap.one.test *.two.test"] == ("/etc/named.pem", SAME)
    assert said["local_name a..b"] == ("a..b", MISSING)
    assert said["local 192.0.2.1 protocol imap"] == ("/etc/local.pem", NOTICED)


def test_certificates_of_names_only(tmp_path: Path) -> None:
    made = doveconf.plan(NAMED, "x.test")
    config = parse(made.config, str(tmp_path / "fastmail.toml"))
    assert (config.tls.certificate, config.tls.key) == ("/etc/named.pem", "/etc/named.key")
    assert [one.certificate for one in config.certificate] == ["/etc/named.pem", "/etc/local.pem"]
    assert ("local_name half.test", MISSING) in [(one.what, one.state) for one in made.findings]


def test_a_key_that_is_not_shown_is_asked_for() -> None:
    """`doveconf -n` has a remark in place of each key."""
    made = doveconf.plan("ssl_cert = </etc/x.pem\nssl_key = # hidden, use -P to show it\n", "x.test")
    assert "hidden" not in made.config
    said = [(one.ours, one.state) for one in made.findings if one.what == "certificate"]
    assert ("run `doveconf -nP`, which shows it", BLOCKS) in said and said[-1][1] == BLOCKS
