"""Configuration: everything wrong is told with file, line and what was meant."""

import tomllib
from dataclasses import fields

import pytest

from fastmail.config.load import load, parse
from fastmail.config.settings import SECTIONS, Config, reference
from fastmail.model.errors import ConfigError


def test_the_reference_is_a_configuration_that_changes_nothing() -> None:
    text = reference()
    assert set(tomllib.loads(text)) == {item.name for item in fields(Config)} - {"path", "base"} == set(SECTIONS)
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
        ("[listen]\nsmtp = ['25']\n", "must be a list of"),
        ("[listen]\nsmtp = ['x:99999']\n", "port above 65535"),
        ("[listen]\nimaps = [':993']\n", "imaps needs [tls] certificate and key"),
        ("[tls]\ncertificate = 'x'\n", "go together"),
        ("[store]\nmaildir = '{home}'\n", "needs [store] homes"),
        ("[store]\nmaildir = '{house}'\n", "{domain}, {user} and {home} only"),
        ("[store]\nshared = 'dovecot'\ncontent = 'segments'\n", 'content = "maildir"'),
        ("[store]\nmaildir = 'x'\n", "needs {user}"),
        ("[store]\nshards = 0\n", "1 to 64"),
        ("x = [\n", "f.toml:"),
    ],
)
def test_what_is_wrong_is_told(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.toml")
    assert wanted in str(caught.value)


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
        ('routes = ["example.org smtp:x tls=maybe"]', "tls=maybe is none of tls=none|may|encrypt|verify"),
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
