"""Keys that mail is signed with, in a backup and out of it: to their own places only."""

from pathlib import Path

from msgspec.structs import replace

from fastmail.backup import keys
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import REVOKED, Domain
from tests.support.signing import keyed


def made(path: Path) -> Domain:
    place = MemoryDirectory()
    place.add_domain("example.test")
    keyed(place, path, selector="a", kind="ed25519")
    keyed(place, path, selector="b", kind="ed25519", state=REVOKED)
    found = place.domain("example.test")
    assert found is not None
    return found


def test_they_come_back(tmp_path: Path) -> None:
    domain = made(tmp_path / "old")
    saved = keys.texts([domain], str(tmp_path / "old"))
    assert list(saved) == ["dkim/example.test/a.pem"] and saved["dkim/example.test/a.pem"].startswith("-----BEGIN")
    assert keys.restored(domain, saved, str(tmp_path / "new")) == domain
    for place in ("old", "new"):
        assert (tmp_path / place / "dkim/example.test/a.pem").read_text() == saved["dkim/example.test/a.pem"]
    assert (tmp_path / "new/dkim/example.test/a.pem").stat().st_mode & 0o777 == 0o600


def test_what_does_not_come_back_is_named_by_no_row(tmp_path: Path) -> None:
    domain = made(tmp_path / "old")
    (tmp_path / "old/dkim/example.test/a.pem").unlink()
    assert keys.texts([domain], str(tmp_path / "old")) == {}
    assert [one.selector for one in keys.restored(domain, {}, str(tmp_path / "new")).dkim] == ["b"]
    there = tmp_path / "new/dkim/example.test/a.pem"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    assert [one.selector for one in keys.restored(domain, {domain.dkim[0].file: "x"}, str(tmp_path / "new")).dkim] == [
        "b"
    ]
    assert there.read_text() == "mine"


def test_a_backup_names_no_place(tmp_path: Path) -> None:
    domain = made(tmp_path / "old")
    for change in ({"file": "dkim/../../evil.pem"}, {"selector": "../../evil"}, {"file": "/etc/evil.pem"}):
        bad = replace(domain, dkim=(replace(domain.dkim[0], **change),))
        assert keys.restored(bad, {bad.dkim[0].file: "x"}, str(tmp_path / "new")).dkim == ()
    assert not (tmp_path / "new").exists()
