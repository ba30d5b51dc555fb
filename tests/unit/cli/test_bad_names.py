"""Every parameter of every command with names that nobody should have: each is taken where it is right, and otherwise
an error in words; never a traceback, nothing of it that moves a terminal's cursor, no path outside of the server's
directory, and a directory of accounts that is as sound as before.

The commands are those of the table, so a new one is tried by itself. What it needs beside the parameter that is tried
has to be in ``RIGHT``.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from fastmail.cli.main import app
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from tests.support.bad_names import SHAPES, taken, trouble
from tests.support.examples import FEW
from tests.unit.cli.place import USER, Place

# What is right for a parameter, by its name, or by the words of the command and its name.
RIGHT = {
    "account": USER,
    "accounts": "/dev/null",
    "address": USER,
    "addresses": USER,
    "code": "123456",
    "destination": "example.org",
    "domain": "example.test",
    "file": "/dev/null",
    "host": "127.0.0.1",
    "ids": "1K3M5P7R9T2V4",
    "ident": "abcd",
    "key": "abcd",
    "members": USER,
    "message": "/dev/null",
    "name": "example.test",
    "network": "192.0.2.1",
    "new": "new@example.test",
    "old": USER,
    "path": "vault",
    "selector": "s",
    "settings": "description=x",
    "source": "maildir",
    "targets": USER,
    "to": "maildir",
    "account set settings": "name=x",
    "alias set settings": "note=x",
    "alias rename old": "alias@example.test",
    "app-password set settings": "name=x",
    "app-password add name": "phone",
    "domain rename old": "example.test",
    "domain rename new": "new.test",
    "group add name": "group@example.test",
    "group set name": "group@example.test",
    "list add settings": f"owners={USER}",
    "list add address": "new-list@example.test",
    "list import address": "team@example.test",
    "list member add address": "team@example.test",
    "list member remove address": "team@example.test",
    "list member resume address": "team@example.test",
    "list member suspend address": "team@example.test",
    "list rename old": "team@example.test",
    "list set address": "team@example.test",
    "migrate accounts source": "ispmail",
    "migrate compare new": "127.0.0.1:1",
    "migrate compare old": "127.0.0.1:1",
    "quickstart directory": "made",
}
# Files and directories: any name that the system has is right for them, and there may be something of that name then.
PATHS = {
    *("accounts", "conf", "file", "files", "key_file", "mail", "maildirs", "message", "out", "path", "directory"),
    *("dkim add key", "import imap accounts"),
}
# These open the whole server, and read their parameters with the same functions: each gets a part of the names.
LONG = {
    "backup",
    "restore",
    "dkim",
    "index",
    "content",
    "queue",
    "import",
    "export",
    "learn",
    "quarantine",
    "quickstart",
}
LEFT_OUT = {
    "bench": "starts servers and loads them",
    "serve": "is the server",
    "migrate shadow": "starts a server",
}
CODES = {0, 1, 2, 67, 75, 78}  # cli.common
Call = tuple[list[str], Any]


def commands() -> Iterator[Call]:
    """The words of each command that has texts among its parameters, and the command."""
    group: Any = get_command(app)
    todo: list[Call] = [([name], group.get_command(None, name)) for name in group.list_commands(None)]
    while todo:
        words, found = todo.pop()
        below = getattr(found, "commands", None)
        if below is not None:
            todo += [([*words, name], one) for name, one in below.items()]
        elif texts(found) and " ".join(words) not in LEFT_OUT:
            yield words, found


def texts(found: Any) -> list[Any]:
    """The parameters of a command that take a text, but for the configuration's path."""
    return [one for one in found.params if one.type.name == "str" and one.name != "config"]


def named(table: Any, words: list[str], name: str) -> str:
    """What ``table`` calls a parameter; empty where it does not have it."""
    own = f"{' '.join(words)} {name}"
    return own if own in table else name if name in table else ""


def line(place: Place, words: list[str], found: Any, tried: Any, name: str) -> list[str]:
    """The words of a call with ``name`` for one of the parameters, and what is right for others that are needed."""
    options, rest = [], []
    before = True  # is this one in front of the parameter that is tried, so that it cannot be left out?
    for one in found.params:
        value = name if one is tried else ""
        if one is not tried and (
            one.required or (before and one.param_type_name == "argument" and is_last(found, tried))
        ):
            value = RIGHT[named(RIGHT, words, one.name)]
        before = before and one is not tried
        if one is not tried and not value:
            continue
        if one.param_type_name == "argument":
            rest.append(value)
        else:
            options += [one.opts[0], value]
    if any(one.name == "config" for one in found.params):
        options += ["-c", str(place.config)]
    return [*words, *options, "--", *rest]


def is_last(found: Any, tried: Any) -> bool:
    """True for an argument: what stands in front of it has to be there."""
    return any(one is tried and one.param_type_name == "argument" for one in found.params)


def chosen(words: list[str], tried: Any, number: int) -> list[str]:
    """The names that are tried: for the first parameter one of each kind, for each other one a part of them, and for
    commands that take long less; in `make check` one, another one for each parameter."""
    index = number + sum(map(ord, "".join(words)))  # not hash(), which differs from process to process
    names = list(SHAPES)
    if named(PATHS, words, tried.name):  # no command line has a NUL (execve(2)), and nothing is to be made in /
        names = [one for one in SHAPES if "\0" not in one and not os.path.isabs(one)]
    if FEW:
        return [names[index % len(names)]]
    return names[index % 4 :: 4] if words[0] in LONG else names[index % 2 :: 2] if number else names


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With what commands need to be there."""
    place = Place(tmp_path_factory.mktemp("made") / "server")
    place.run("list", "add", "team@example.test", f"owners={USER}")
    place.run("alias", "add", "alias@example.test", USER)
    place.run("group", "add", "group@example.test", USER)
    return place


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory where commands are called."""
    made = tmp_path / "elsewhere" / "deep"
    made.mkdir(parents=True)
    monkeypatch.chdir(made)
    monkeypatch.setattr("socket.getaddrinfo", _no_names)
    return made


def _no_names(host: Any, *rest: Any, **more: Any) -> Any:
    """Nobody out there is asked; what is no name fails as it does."""
    str(host).encode("idna")
    raise OSError(-2, "Name or service not known")


@pytest.mark.parametrize(("words", "found"), [pytest.param(*one, id=" ".join(one[0])) for one in commands()])
def test_names_that_nobody_should_have(
    words: list[str], found: Any, made: Place, tmp_path: Path, elsewhere: Path
) -> None:
    place = Place(tmp_path / "server", made)
    around = seen(place.base.parent)
    writes = False
    for number, tried in enumerate(texts(found)):
        writes = writes or bool(named(PATHS, words, tried.name))
        for name in chosen(words, tried, number):
            said = words, tried.name, name
            done = CliRunner().invoke(app, line(place, words, found, tried, name), input="secret\n")
            gc.collect()  # as the end of its process: what it left open is closed
            gc.freeze()  # what is left lives on
            assert done.exception is None or isinstance(done.exception, SystemExit), (said, done.exception)
            assert done.exit_code in CODES and "Traceback" not in done.output, (said, done.output)
            assert not trouble(done.output), (said, trouble(done.output))
            if done.exit_code:
                assert done.output.strip(), said
    assert writes or seen(place.base.parent) == around, words
    is_sound(place)


def seen(top: Path) -> set[str]:
    """All paths but those of the server's data."""
    return {str(one.relative_to(top)) for one in top.rglob("*") if "data" not in one.relative_to(top).parts}


def is_sound(place: Place) -> None:
    """The rows can be read and have names that may be; directories of mail are those of accounts."""
    directory = LocalDirectory(str(place.base / "data"))
    try:
        assert directory.faults() == []
        for record in directory.each_account():
            assert account_address(record.address).key == record.address
        named_here = [one.address for one in directory.each_alias()] + [one.address for one in directory.each_list()]
        assert all(one.isprintable() for one in named_here + [one.name for one in directory.each_group()])
        homes = {one.placed or one.address for one in directory.each_account()}
    finally:
        directory.close()
    mail = place.base / "data" / "mail"
    for one in mail.glob("*/*"):
        assert f"{one.name}@{one.parent.name}" in homes, one
    assert not [
        one for one in os.listdir(place.base) if one not in ("data", "fastmail.toml", "cert.pem", "key.pem", "vault")
    ]


MAILBOXES = (*SHAPES, "INBOX/..", "~root", "a/./b", "a//b", ".hidden", "a.b", "&!", "ẞ" * 200, "%", "a\x85b")


def test_names_of_mailboxes(place: Place, elsewhere: Path) -> None:
    """What takes one makes it below the account's Maildir, or refuses it in words."""
    place.deliver("one")
    place.run("backup", "vault")
    Path("mbox").write_text("From x\nSubject: y\n\nbody\n")
    around = seen(place.base.parent)
    of_account = ["--account", USER]
    for number, name in enumerate(MAILBOXES):
        calls = (
            ["restore", "vault", *of_account, "--mailbox", "INBOX", "--into", name],
            ["restore", "vault", *of_account, "--mailbox", name],
            ["restore", "vault", *of_account, "--mailbox", "INBOX", "--run", name],
            ["learn", "spam", *of_account, "--mailbox", name],
            ["import", "mbox", "mbox", USER, "--into", name],
        )
        for words in taken(calls, number):
            done = place.call(*words)
            assert done.exit_code in CODES and not trouble(done.output), (words, done.output)
            assert done.output.startswith("error: ") or not done.exit_code, (words, done.output)
    assert seen(place.base.parent) == around
    is_sound(place)


PROGRAM = [sys.executable, "-c", "from fastmail.cli.main import main; main()"]


PASSWORD = ["account", "add", "new@example.test", "--password-stdin"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "words", "given", "code", "says"),
    [
        ("C", ["account", "show", b"\xff\x1b[31m@example.test"], b"", 2, b"is not an address"),
        ("C", ["trace", b"\xff"], b"", 1, b"nothing is known of ?"),
        ("C.UTF-8", PASSWORD, b"p\xffword\n", 1, b"is not UTF-8 text"),
        ("C", PASSWORD, b"p\xffword\n", 1, b"is not UTF-8 text"),
        ("C", ["account", "import", "-"], b"new@example.test:p\xffword\n", 1, b"is not UTF-8 text"),
        ("C", ["apply", "-", "--yes"], b"# \xff\n", 1, b"cannot read -"),
        ("C", ["migrate", "plan", "--conf", "-"], b"\xff\n", 1, b"is not UTF-8 text"),
        ("C", [b"\x1b[31mred"], b"", 2, b"No such command"),
        ("C", ["account", b"--\x1b[31mred"], b"", 2, b"No such option"),
    ],
    ids=lambda one: " ".join(map(str, one)) if isinstance(one, list) else "",
)
def test_octets_that_are_no_text(
    place: Place, locale: str, words: list[bytes | str], given: bytes, code: int, says: bytes
) -> None:
    """On the command line and on standard input of a process, which Python reads in another way in each locale."""
    env = os.environ | {"FASTMAIL_CONFIG": str(place.config), "LC_ALL": locale, "COLUMNS": "200"}
    done = subprocess.run([*PROGRAM, *words], input=given, capture_output=True, env=env, check=False)
    assert done.returncode == code and says in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr and b"\x1b[31m" not in done.stderr and not done.stdout


def test_a_terminal_without_unicode(place: Place) -> None:
    place.run("domain", "add", "faß.example")
    env = os.environ | {"FASTMAIL_CONFIG": str(place.config), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*PROGRAM, "domain", "list"], capture_output=True, env=env, check=True)
    assert b"fa\\xdf.example" in done.stdout


@pytest.mark.slow
def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    """LMDB and the configuration take UTF-8 only."""
    made = os.path.join(os.fsencode(tmp_path), b"\xff")
    words = ["quickstart", made, "me@example.test", "--generate"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, check=False)
    assert done.returncode == 78 and b"not UTF-8" in done.stderr and not os.path.exists(made)
    os.mkdir(made)
    config = os.path.join(made, b"fastmail.toml")
    with open(config, "w") as file:
        file.write('[server]\ndata_dir = "data"\n')
    done = subprocess.run([*PROGRAM, "domain", "list", "-c", config], capture_output=True, check=False)
    assert done.returncode == 78 and b"not UTF-8" in done.stderr
