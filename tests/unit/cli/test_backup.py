"""``fastmail backup`` and ``fastmail restore``: runs are made, listed, read whole and brought back."""

from pathlib import Path

from tests.unit.cli.place import USER, Place


def test_a_backup_is_made_listed_and_brought_back(place: Place, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    place.deliver("one", "two")
    assert "2 messages, 2 new" in place.run("backup", vault)
    place.deliver("three")
    (saved,) = place.rows("backup", vault)
    assert (saved["account"], saved["messages"], saved["new"], saved["problems"]) == (USER, 3, 1, [])
    runs = [row["backup"] for row in place.rows("backup", vault, "--list")]
    assert len(runs) == 2 and place.run("backup", vault, "--verify") == "all is well\n"
    (row,) = place.rows("restore", vault, "--account", USER, "--mailbox", "INBOX", "--message", "2")
    assert row["messages"] == 1 and (place.maildir / ".Restored.INBOX").is_dir()
    place.run("account", "remove", USER, "--delete-mail")
    brought = {row["mailbox"]: row["messages"] for row in place.rows("restore", vault, "--run", runs[0])}
    assert brought["INBOX"] == 2 and len(place.files()) == 2


def test_old_runs_go(place: Place, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    for _ in range(3):
        place.run("backup", vault, "--keep", "2")
    assert len(place.rows("backup", vault, "--list")) == 2


def test_damage_is_named(place: Place, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    place.deliver("one")
    place.run("backup", str(vault))
    (path,) = [path for path in (vault / "objects").rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    assert f"{USER}: INBOX: UID 1: object {path.name} is damaged" in place.run("backup", str(vault), "--verify", code=1)


def test_options_that_do_not_go_together(place: Place, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    for words in (["--mailbox", "INBOX"], ["--account", USER, "--message", "1"], ["--account", USER, "--into", "X"]):
        assert "needs" in place.run("restore", vault, *words, code=2)
    assert f"has no backup; `fastmail backup {vault}` makes one" in place.run("restore", vault, code=1).replace(
        "\n", ""
    )
