"""What is listed: never cut, quick for many rows, cut down by --match and --limit; exit codes."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastmail.cli.common import chosen, show
from fastmail.cli.main import app
from fastmail.directory.local import LocalDirectory


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "fastmail.toml"
    path.write_text('[server]\ndata_dir = "data"\n')
    place = LocalDirectory(str(tmp_path / "data"))
    place.add_domain("d.test")
    place.add_accounts([(f"user{n}@d.test", "{PLAIN}x") for n in range(30)])
    place.add_alias("team@d.test", ["user1@d.test", "user2@d.test"])
    place.close()
    return str(path)


def run(config: str, *words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [*words, "-c", config], input=stdin)


def test_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"a": "x" * 300, "b": "y" * 300, "c": 1}, {"a": "\u6f22", "b": ["p", "q"], "c": 22}], False)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "a" + " " * 301 + "b" + " " * 301 + "c",
        "x" * 300 + "  " + "y" * 300 + "  1",
        "\u6f22" + " " * 300 + "p, q" + " " * 298 + "22",
    ]


def test_a_stranger_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"a": "\x1b[2J\r\nx\u202ey\x9b", "b": "[bold]"}], False)
    assert capsys.readouterr().out == "a           b\n?[2J??x?y?  [bold]\n"


def test_match_and_limit() -> None:
    rows = [{"a": f"User{n}@d.test", "n": n} for n in range(30)]
    assert len(list(chosen(rows))) == 30
    assert [row["n"] for row in chosen(rows, "user2")] == [2, *range(20, 30)]
    assert [row["n"] for row in chosen(rows, "USER?@*", 3)] == [0, 1, 2]
    assert [row["n"] for row in chosen(rows, "7")] == [7, 17, 27]
    assert list(chosen(rows, "er2?")) == [] and list(chosen([{"a": ["x", "why"]}], "WHY")) == [{"a": ["x", "why"]}]

    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield {"a": 1}

    assert len(list(chosen(endless(), limit=5))) == 5


def test_lists_of_commands(config: str) -> None:
    shown = run(config, "account", "list", "--match", "user1?@*", "--limit", "3")
    assert shown.exit_code == 0 and shown.stdout.split()[::4][1:] == ["user10@d.test", "user11@d.test", "user12@d.test"]
    assert [row["alias"] for row in json.loads(run(config, "alias", "list", "--json", "--match", "user2").stdout)]
    assert run(config, "alias", "list", "--match", "nobody").stdout == "none\n"
    assert run(config, "domain", "list", "--limit", "1").stdout == (
        "domain  state  alias_of  accounts  aliases\nd.test  on     -         30        1\n"
    )
    assert run(config, "bans", "list", "--match", "x").stdout == "none\n"
    assert run(config, "account", "list", "--limit", "-1").exit_code == 2


def test_all_is_well_is_said_once(config: str) -> None:
    assert run(config, "check").stdout == "all is well\n"
    assert run(config, "content", "check").stdout == "all is well\n"
    assert json.loads(run(config, "check", "--json").stdout) == []


@pytest.mark.slow
def test_twenty_thousand_accounts(tmp_path: Path) -> None:
    path = tmp_path / "fastmail.toml"
    path.write_text('[server]\ndata_dir = "data"\n')
    place = LocalDirectory(str(tmp_path / "data"))
    place.add_domain("d.test")
    place.add_accounts([(f"user{n}@d.test", "{PLAIN}x") for n in range(20_000)])
    place.close()
    begun = time.process_time()
    shown = run(str(path), "account", "list")
    assert shown.stdout.count("\n") == 20_001
    assert time.process_time() - begun < 2.5  # 5 s with a table that measures every cell


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("account", "add", "no address"), 2),
        (("account", "add", "x@-d.test"), 2),
        (("account", "passwd", "a@b@c"), 2),
        (("account", "passwd", "nobody@d.test"), 67),
        (("account", "quota", "nobody@d.test"), 67),
        (("account", "quota", "@"), 2),
        (("account", "remove", "nobody@d.test"), 67),
        (("account", "add", "user1@d.test"), 1),
        (("account", "add", "user1@elsewhere.test"), 1),
        (("domain", "add", "d..test"), 2),
        (("domain", "add", "d.test"), 1),
        (("domain", "remove", "-"), 2),
        (("alias", "add", "x@d.test", "y"), 2),
        (("alias", "add", "x", "user1@d.test"), 2),
        (("alias", "add", "x@d.test", "nobody@d.test"), 67),
        (("alias", "remove", "nobody@d.test"), 67),
        (("index", "check", "nobody@d.test"), 67),
        (("index", "check", "nobody"), 2),
        (("index", "rebuild", "nobody@d.test"), 67),
        (("index", "fulltext", "nobody@d.test"), 67),
        (("content", "convert", "--to", "segments", "nobody@d.test"), 67),
        (("content", "convert", "--to", "segments", "no body"), 2),
        (("export", "mbox", "nobody@d.test", "out"), 67),
        (("export", "mbox", "nobody", "out"), 2),
    ],
)
def test_exit_codes(config: str, words: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(config).parent)
    done = run(config, *words, stdin="secret\n")
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
