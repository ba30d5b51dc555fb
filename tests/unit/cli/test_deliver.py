"""``fastmail deliver``: what other MTAs say of the sender, one exit code for several recipients, text without a header."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastmail.app.quickstart import quickstart
from fastmail.cli import deliver
from fastmail.cli.main import app
from fastmail.config.load import load
from fastmail.delivery.envelope import Outcome
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import Address
from fastmail.model.errors import BadAddress
from fastmail.model.quota import Quota


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("<>", ""),
        (" <> ", ""),
        ("MAILER-DAEMON", ""),
        ("mailer-daemon", ""),
        ("<MAILER-DAEMON>", ""),
        ("root", "root@mx.test"),
        ("<root>", "root@mx.test"),
        ("<a@b.test>", "a@b.test"),
        ('"a b"@c.test', '"a b"@c.test'),
        ("MAILER-DAEMON@b.test", "MAILER-DAEMON@b.test"),
    ],
)
def test_the_sender_as_mtas_say_it(text: str, path: str) -> None:
    assert deliver.reverse_path(text, "mx.test") == path


@pytest.mark.parametrize("text", ["a b", "a@", "@b.test", "<a@b.test", "a@b.test,c@d.test", "jos\udce9"])
def test_what_is_no_sender(text: str) -> None:
    with pytest.raises(BadAddress):
        deliver.reverse_path(text, "mx.test")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    quickstart(str(tmp_path), Address.parse("me@example.test"), "mx.test", "secret-secret", False)
    directory = LocalDirectory(str(tmp_path / "data"))
    directory.remove_alias("postmaster@example.test")
    for name in ("other", "third"):
        directory.add_accounts([(f"{name}@example.test", "{PLAIN}x")])
    directory.close()
    return tmp_path


def run(place: Path, content: bytes, *to: str, sender: str = "") -> list[Outcome]:
    settings = load(str(place / "fastmail.toml"))
    return asyncio.run(deliver._deliver(settings, list(to), sender, content))


def kept(place: Path, name: str) -> list[bytes]:
    return [path.read_bytes() for path in (place / "data/mail/example.test" / name / "new").glob("*")]


def test_text_without_a_header(place: Path) -> None:
    (outcome,) = run(place, b"Paper jam in tray 2\nsecond line\n", "me@example.test", sender="root")
    assert outcome.ok
    (content,) = kept(place, "me")
    assert content.startswith(b"Return-Path: <root@mx.test>\n")
    assert content.endswith(b"\n\nPaper jam in tray 2\nsecond line\n")


@pytest.mark.parametrize("address", ["postmaster", "Postmaster@example.test"])
def test_the_postmaster(place: Path, address: str) -> None:
    (outcome,) = run(place, b"Subject: x\n\n", address)
    assert outcome.ok and len(kept(place, "me")) == 1


def test_all_or_none_where_it_will_be_tried_again(place: Path) -> None:
    (place / "data/mail/example.test/other").mkdir(parents=True)
    (place / "data/mail/example.test/other/new").write_bytes(b"")  # a file where a directory has to be
    for _ in range(2):
        outcomes = run(place, b"Subject: x\n\n", "me@example.test", "other@example.test", "third@example.test")
        assert {outcome.code for outcome in outcomes} == {451}
    assert kept(place, "me") == kept(place, "third") == []


def test_a_disk_that_fails_gives_no_message_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MTA keeps the message for exit code 75, and returns it to its sender for most others."""

    async def full(*args: object) -> list[Outcome]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/staging")

    monkeypatch.setattr(deliver, "_deliver", full)
    done = CliRunner().invoke(app, ["deliver", "me@example.test", "-c", str(place / "fastmail.toml")], input="A: b\n\n")
    assert done.exit_code == 75 and "data/staging: No space left on device" in done.output


def test_one_who_can_never_have_it_does_not_stop_the_others(place: Path) -> None:
    directory = LocalDirectory(str(place / "data"))
    directory.set_quota("other@example.test", Quota(10, 0, 0))
    directory.close()
    to = ["me@example.test", "other@example.test", "nobody@example.test", "third@example.test"]
    assert [outcome.code for outcome in run(place, b"Subject: x\n\n", *to)] == [250, 552, 550, 250]
    assert len(kept(place, "me")) == len(kept(place, "third")) == 1
