"""``quickstart``, ``serve``, ``check-config`` and ``config-reference``, without a server that runs."""

import errno
import json
import os
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastmail.app import supervisor
from fastmail.cli.common import actor
from fastmail.cli.main import app
from fastmail.config.settings import SECTIONS
from tests.unit.cli.place import Place


def test_a_configuration_that_is_right_is_told_as_such(place: Place) -> None:
    said = place.run("check-config")
    assert f"{place.config} is right" in said and "smtp=127.0.0.1:2525" in said


def test_scripts_read_what_a_configuration_says(place: Place) -> None:
    said = json.loads(place.run("check-config", "--json"))
    assert said["path"] == str(place.config) and said["hostname"] and said["notes"] == []
    assert said["listen"]["smtp"] == ["127.0.0.1:2525"] and "web" not in said["listen"]
    place.config.write_text(place.config.read_text() + '[web]\nlisten = ["127.0.0.1:2443"]\n')
    said = json.loads(place.run("check-config", "--json"))
    assert said["listen"]["web"] == ["127.0.0.1:2443"] and "[web] has no url" in said["notes"][0]


def test_one_that_is_wrong_is_not_served(place: Place) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace("[server]", '[server]\ncolour = "red"'))
    for words in (("check-config",), ("serve",)):
        assert "colour" in place.run(*words, code=78)
    place.config.write_text(text.replace('certificate = "cert.pem"', 'certificate = "fastmail.toml"'))
    place.run("check-config", code=78)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 75), (errno.EDQUOT, 75), (errno.EACCES, 78)])
def test_a_full_disk_is_no_fault_of_the_configuration(
    place: Place, number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, content: bytes) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(supervisor, "replace_file", refuse)
    mask = os.umask(0o077)
    try:
        said = place.run("serve", code=code)
    finally:
        os.umask(mask)
    assert os.strerror(number) in said and str(place.base / "data") in said
    assert ("try again later" in said) == (code == 75)


@pytest.mark.parametrize(
    ("section", "line", "why"),
    [
        ("[server]", 'user = "no-such"', "has no user 'no-such'; `useradd"),
        ("[server]", 'user = "root"\ngroup = "no-such"', "has no group 'no-such'"),
        ("[server]", 'user = "4000000000"', "has no user '4000000000'"),
        ("[server]", f'user = "{1 << 70}"', "has no user '"),
        ("[listen]", 'unix_users = ["no-such"]', "has no user 'no-such'"),
    ],
)
def test_users_have_to_be_there(place: Place, section: str, line: str, why: str) -> None:
    place.config.write_text(place.config.read_text().replace(section, f"{section}\n{line}"))
    assert why in place.run("check-config", code=78)


def test_a_user_may_be_named_by_number(place: Place) -> None:
    """As in a configuration of Dovecot, from which `migrate plan` takes it."""
    place.config.write_text(place.config.read_text().replace("[server]", '[server]\nuser = "0"'))
    assert "is right" in place.run("check-config")


def test_a_certificate_that_is_not_there_is_named_in_words(place: Place) -> None:
    place.config.write_text(place.config.read_text().replace('"cert.pem"', '"none.pem"'))
    said = place.run("check-config", code=78)
    assert said.count("none.pem: No such file or directory") == 1 and "Errno" not in said


@pytest.mark.parametrize(("name", "told"), [("mail", True), ("mail.example.test", False)])
def test_a_host_name_that_others_refuse_is_told(tmp_path: Path, name: str, told: bool) -> None:
    words = ["quickstart", str(tmp_path / "new"), "you@example.test", "--hostname", name, "--password-stdin"]
    for ports, expected in (([], False), (["--standard-ports"], told)):
        done = CliRunner().invoke(app, [*words, *ports], input="x\n")
        assert done.exit_code == 0 and ("called mail: set [server] hostname" in done.stdout) == expected
        (tmp_path / "new" / "fastmail.toml").unlink()


def test_quickstart_overwrites_nothing(place: Place) -> None:
    before = place.config.read_bytes()
    words = ["quickstart", str(place.base), "you@example.test", "--password-stdin"]
    again = CliRunner().invoke(app, words, input="x\n")
    assert again.exit_code == 78 and "is already there" in again.output and place.config.read_bytes() == before


def test_the_audit_log_says_who_set_it_up(tmp_path: Path) -> None:
    words = ["quickstart", str(tmp_path / "new"), "you@example.test", "--generate"]
    assert CliRunner().invoke(app, words).exit_code == 0
    done = CliRunner().invoke(app, ["audit", "--json", "-c", str(tmp_path / "new" / "fastmail.toml")])
    assert {row["who"] for row in json.loads(done.stdout)} == {actor()}


def test_every_setting_is_in_the_reference() -> None:
    text = CliRunner().invoke(app, ["config-reference"]).stdout
    for name in SECTIONS:
        assert f"[{name}]" in text
    # as it stands it is a configuration: what it shows are comments and defaults
    tomllib.loads(text)
