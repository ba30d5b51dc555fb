"""fastmail.backup.restore: a backup is believed in nothing that it could use to write elsewhere, or to spoil UIDs."""

import asyncio
import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastmail.backup import restore, save, sound
from fastmail.backup.vault import Vault, write_rows
from fastmail.directory.interface import Line
from fastmail.directory.list_links import Links
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import LEFT, Domain, List, Member, Passkey, Totp
from fastmail.durable import files
from fastmail.durable.replace import replace_file
from fastmail.model.errors import CannotDo, CorruptData, MailError
from fastmail.store.local.maildir.home import Home
from tests.support.homes import housed, local_store

USER = "user@example.test"
CONTENT = b"Subject: x\n\ny\n"
SECRET = b"Subject: of somebody else\n\n"
Rows = list[dict[str, Any]]


def made(path: Path, change: Callable[[Rows], object] = lambda rows: None) -> Vault:
    """A backup of one account, changed before it is written."""
    vault = Vault(str(path / "vault"))
    with vault.locked():
        place = vault.begin()
        account = {"address": USER, "password": "{PLAIN}x", "scram": "", "quota": [0, 0, 0]}
        whole = {
            "version": 1,
            "domains": ["example.test"],
            "accounts": [account],
            "aliases": [["@example.test", [USER]]],
        }
        replace_file(f"{place}/directory.json", json.dumps(whole).encode())
        digest, _ = vault.keep(CONTENT)
        box = {"uidvalidity": 77, "uidnext": 9, "special": 0, "words": ["todo"], "notes": {"/private/comment": "eA=="}}
        row = {"flags": 1, "keywords": 1, "date": 1_700_000_000, "object": digest, "octets": len(CONTENT)}
        rows: Rows = [
            {"account": USER, "subscribed": ["INBOX", "Work/2026"]},
            {"mailbox": "INBOX", **box},
            {"uid": 3, **row, "pop3": [1, "abc"]},
            {"uid": 8, **row},
            {"mailbox": "Work/2026", **box},
            {"uid": 1, **row},
        ]
        rows = copy.deepcopy(rows)
        change(rows)
        with write_rows(f"{place}/accounts/{USER}.jsonl.gz") as file:
            file.writelines(json.dumps(one) + "\n" for one in rows)
        vault.finish(place)
    return vault


def bring(path: Path, vault: Vault) -> tuple[list[restore.Restored], dict[str, list[int]]]:
    """Restore the account; what came of it, and {mailbox: UIDs}."""

    async def main() -> tuple[list[restore.Restored], dict[str, list[int]]]:
        store = local_store(str(path / "data"))
        await store.start()
        try:
            owner = housed(1, USER, str(path / "mail" / "user"))
            results = await restore.account(vault, store, owner, "", lambda _: None)
            with store.snapshot(owner) as snapshot:
                boxes = {box.name: [uid for uid, _ in snapshot.files(box.key)] for box in snapshot.boxes(1)}
            return results, boxes
        finally:
            await store.close()

    return asyncio.run(main())


def test_a_sound_backup_comes_back(tmp_path: Path) -> None:
    results, boxes = bring(tmp_path, made(tmp_path))
    assert [(one.mailbox, one.messages, one.problems) for one in results] == [("INBOX", 2, []), ("Work/2026", 1, [])]
    assert boxes == {"INBOX": [3, 8], "Work/2026": [1]}
    assert sorted(os.listdir(tmp_path / "mail")) == ["user"]
    with pytest.raises(CannotDo, match="has mail"):
        bring(tmp_path, Vault(str(tmp_path / "vault")))


def at(row: int, name: str, value: object) -> Callable[[Rows], object]:
    return lambda rows: rows[row].__setitem__(name, value)


BAD: dict[str, Callable[[Rows], object]] = {
    "climbing mailbox": at(4, "mailbox", "../../elsewhere"),
    "mailbox that climbs inside": at(4, "mailbox", "a/../../b"),
    "absolute mailbox": at(4, "mailbox", "/elsewhere"),
    "mailbox with an empty level": at(4, "mailbox", "a//b"),
    "mailbox with NUL": at(4, "mailbox", "a\0b"),
    "mailbox with a line end": at(4, "mailbox", "a\nb"),
    "mailbox that is a step": at(4, "mailbox", "."),
    "mailbox with dots": at(4, "mailbox", "Work.2026"),
    "mailbox that is no text": at(4, "mailbox", 5),
    "mailbox with a surrogate": at(4, "mailbox", "a\ud800"),
    "mailbox too long": at(4, "mailbox", "x" * 5000),
    "mailbox twice": at(4, "mailbox", "INBOX"),
    "INBOX in another case": at(4, "mailbox", "inbox"),
    "subscription that climbs": at(0, "subscribed", ["../x"]),
    "subscription with a tab": at(0, "subscribed", ["a\tb\nc"]),
    "another account": at(0, "account", "other@example.test"),
    "UID 0": at(2, "uid", 0),
    "UID below 0": at(2, "uid", -1),
    "UID too high": at(3, "uid", 1 << 32),
    "UIDs that descend": at(3, "uid", 2),
    "UID twice": at(3, "uid", 3),
    "UID that is UIDNEXT": at(3, "uid", 9),
    "UID that is a text": at(2, "uid", "3"),
    "UID that is a truth": at(2, "uid", True),
    "UID that is a fraction": at(2, "uid", 3.5),
    "UIDVALIDITY 0": at(1, "uidvalidity", 0),
    "UIDVALIDITY too high": at(1, "uidvalidity", 1 << 32),
    "UIDVALIDITY that is none": lambda rows: rows[1].pop("uidvalidity"),
    "UIDNEXT 0": at(1, "uidnext", 0),
    "UIDNEXT too high": at(1, "uidnext", 1 << 32),
    "flags that are none": at(2, "flags", 1 << 9),
    "keyword without a name": at(2, "keywords", 4),
    "keyword with a blank": at(1, "words", ["a b"]),
    "keyword with a line end": at(1, "words", ["a\n9 b"]),
    "too many keywords": at(1, "words", [f"w{n}" for n in range(65)]),
    "date below 0": at(2, "date", -5),
    "date that climbs": at(2, "date", "../../x"),
    "size below 0": at(2, "octets", -2),
    "size that is a text": at(2, "octets", "x"),
    "object that climbs": at(2, "object", "../../../etc/passwd"),
    "absolute object": at(2, "object", "/etc/passwd"),
    "object with a line end": lambda rows: rows[2].__setitem__("object", rows[2]["object"] + "\n"),
    "object that is no text": at(2, "object", 7),
    "UIDL with a blank": at(2, "pop3", [1, "a b"]),
    "UIDL with a line end": at(2, "pop3", [1, "a\n5 :x"]),
    "place that is no number": at(2, "pop3", ["1", "a"]),
    "note that is no base64": at(1, "notes", {"/private/comment": "*"}),
    "notes that are a list": at(1, "notes", []),
    "special that is none": at(1, "special", 99),
    "message before a mailbox": lambda rows: rows.insert(1, rows[2]),
    "row of another kind": lambda rows: rows.append({"what": 1}),
    "row that is a list": lambda rows: rows.append([1]),  # type: ignore[arg-type]
    "no rows": lambda rows: rows.clear(),
}


@pytest.mark.parametrize("what", BAD)
def test_a_backup_that_is_no_sound_one_is_refused_whole(tmp_path: Path, what: str) -> None:
    vault = made(tmp_path, BAD[what])
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CorruptData, match="Nothing was restored") as found:
        bring(tmp_path, vault)
    assert "--run" in str(found.value)
    assert not (tmp_path / "mail").exists() and {*os.listdir(tmp_path)} - {"data"} == set(before)

    async def one() -> None:
        store = local_store(str(tmp_path / "data"))
        await store.start()
        try:
            owner = housed(1, USER, str(tmp_path / "mail" / "user"))
            with pytest.raises(MailError):
                await restore.mailbox(vault, store, owner, "", "INBOX", 0, "Restored/INBOX")
        finally:
            await store.close()

    asyncio.run(one())
    with pytest.raises(CorruptData):
        restore.check(vault, "", "", Home(""))


@pytest.mark.parametrize("part", ["accounts", "directory.json", "object", "objects"])
def test_links_in_a_backup_are_not_followed(tmp_path: Path, part: str) -> None:
    vault = made(tmp_path)
    run = tmp_path / "vault" / "runs" / vault.runs()[0]
    objects = tmp_path / "vault" / "objects"
    place = {
        "accounts": run / "accounts" / f"{USER}.jsonl.gz",
        "directory.json": run / "directory.json",
        "object": next(one for one in objects.rglob("*") if one.is_file()),
        "objects": objects,
    }[part]
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    if part == "directory.json":
        with pytest.raises(CorruptData):
            restore.check(vault, "", "", Home(""))
    elif part == "accounts":
        with pytest.raises(CorruptData):
            bring(tmp_path, vault)
        assert not (tmp_path / "mail").exists()
    else:
        results, _ = bring(tmp_path, vault)
        assert [one.messages for one in results] == [0, 0] and len(results[0].problems) == 2


def test_an_object_of_another_size_is_told(tmp_path: Path) -> None:
    results, _ = bring(tmp_path, made(tmp_path, at(2, "octets", 5)))
    assert results[0].messages == 1 and "not 5" in results[0].problems[0]


def test_a_restore_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = made(tmp_path)
    calls = []

    def fails(digest: str) -> bytes:
        calls.append(digest)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return CONTENT

    monkeypatch.setattr(vault, "read", fails)
    with pytest.raises(OSError, match="No space"):
        bring(tmp_path, vault)
    assert len(calls) == 3 and os.listdir(tmp_path / "mail") == []
    monkeypatch.undo()

    real = files.sync_file_system

    def broken(path: bytes) -> None:
        if path.endswith(b"user.restoring"):
            assert os.listdir(path)
            raise OSError(5, "Input/output error")
        real(path)

    monkeypatch.setattr(files, "sync_file_system", broken)
    with pytest.raises(OSError, match="Input/output error"):
        bring(tmp_path, vault)
    assert os.listdir(tmp_path / "mail") == []
    monkeypatch.undo()
    (tmp_path / "mail" / "user.restoring" / "cur").mkdir(parents=True)  # of one that was killed
    (tmp_path / "mail" / "user.restoring" / "cur" / "left").write_text("x")
    assert bring(tmp_path, vault)[1]["INBOX"] == [3, 8]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("accounts", [{"address": "../../x@example.test", "quota": [0, 0, 0]}]),
        ("accounts", [{"address": "a/b@example.test", "quota": [0, 0, 0]}]),
        ("accounts", [{"address": USER, "quota": [0, 0]}]),
        ("accounts", [{"address": USER, "quota": [0, 0, 0], "password": 5}]),
        ("accounts", {}),
        ("domains", ["../x"]),
        ("domains", [5]),
        ("aliases", [["a@example.test", "b@example.test"]]),
        ("aliases", [["@../x", [USER]]]),
        ("aliases", [[USER, [7]]]),
        ("settings", {"lists": [{"address": "../x@example.test"}]}),
        ("settings", {"lists": [{"address": 5}]}),
        ("settings", {"members": {"crew@example.test": [{"address": "nobody"}]}}),
        ("settings", {"link_keys": [[1, "c2hvcnQ="]]}),
        ("settings", {"link_keys": [[-1, "A" * 43 + "="]]}),
        ("settings", {"link_keys": [["x", 5]]}),
    ],
)
def test_a_directory_that_is_none_is_refused(name: str, value: object) -> None:
    account = {"address": USER, "password": "x", "scram": "", "quota": [0, 0, 0]}
    whole = {"version": 1, "domains": ["example.test"], "accounts": [account], "aliases": []}
    sound.check_directory(whole)
    with pytest.raises(CorruptData, match="directory.json"):
        sound.check_directory(whole | {name: value})


def test_mailing_lists_come_back_with_their_members(tmp_path: Path) -> None:
    place = LocalDirectory(str(tmp_path / "one"))
    place.add_domain("example.test")
    place.add_accounts([(USER, "{PLAIN}x")])
    place.put_list(List("crew@example.test", owners=(USER,), tag="[c]"))
    place.put_members("crew@example.test", [Member("a@far.test", "A"), Member("b@far.test", state="suspended")])
    place.put_members("crew@example.test", [Member("gone@far.test", source=True)])
    place.remove_member("crew@example.test", "gone@far.test")
    place.add_alias("all@example.test", ["crew@example.test"])
    Links(place).prepare()
    token = Links(place).token("crew@example.test", "a@far.test")
    vault = Vault(str(tmp_path / "vault"))
    with vault.locked():
        begun = vault.begin()
        replace_file(f"{begun}/directory.json", json.dumps(save.directory_rows(place, str(tmp_path / "one"))).encode())
        run = vault.finish(begun)
    again = LocalDirectory(str(tmp_path / "two"))
    restore.directory(vault, again, run)
    assert again.mailing_list("crew@example.test") == place.mailing_list("crew@example.test")
    assert list(again.each_member("crew@example.test")) == list(place.each_member("crew@example.test"))
    left = [one for one in again.each_member("crew@example.test", left=True) if one.state == LEFT]
    assert [one.address for one in left] == ["gone@far.test"], "who left stays away, although a source names it"
    assert again.destinations("all@example.test").lists
    assert Links(again).read(token) == ("crew@example.test", "a@far.test"), "links in mail that members have count"
    restore.directory(vault, again, run)
    place.close()
    again.close()


def test_second_factors_and_accounts_of_a_source_come_back(tmp_path: Path) -> None:
    place = LocalDirectory(str(tmp_path / "one"))
    place.sources = frozenset(["office"])
    place.add_domain("example.test")
    place.add_domain(Domain("office.test", source="office"))
    place.bring([Line("anna@office.test", "{PLAIN}a", nets="192.0.2.0/24")], [])
    place.replace_groups({"team@office.test": ["anna@office.test"]}, "office")
    place.add_accounts([(one, "{PLAIN}x") for one in (USER, "former@example.test")])
    codes, key = Totp(b"secret" * 4, confirmed=5, step=7, recovery=(b"r" * 32,)), Passkey(b"id", b"key", "phone")
    for address in (USER, "former@example.test"):
        place.change_account(address, lambda old: msgspec.structs.replace(old, role="server"))
        place.change_totp(address, "enable", lambda _: codes)
        place.add_passkey(address, key)
    place.change_account("former@example.test", lambda old: msgspec.structs.replace(old, role=""))
    # what it forwards to is added after it, so it gets its settings in a second round
    place.add_alias("zoe@example.test", ["x@far.test"])
    place.change_account(USER, lambda old: msgspec.structs.replace(old, forward=("zoe@example.test",)))
    vault = Vault(str(tmp_path / "vault"))
    with vault.locked():
        begun = vault.begin()
        replace_file(f"{begun}/directory.json", json.dumps(save.directory_rows(place, str(tmp_path / "one"))).encode())
        run = vault.finish(begun)
    again = LocalDirectory(str(tmp_path / "two"))
    again.sources = place.sources
    restore.directory(vault, again, run)
    known = again.account(USER)
    assert known is not None and known.role == "server" and known.forward == ("zoe@example.test",)
    assert again.totp(known.id) == codes and again.passkeys(known.id) == [key] and again.has_second_factor(known.id)
    former = again.account("former@example.test")
    assert former is not None and not former.role and not again.has_second_factor(former.id)
    anna = again.account("anna@office.test")
    assert anna is not None and anna.enabled and (anna.password, anna.nets) == ("{PLAIN}a", "192.0.2.0/24")
    assert again.is_uncertain("office.test")
    assert again.replace_groups({"team@office.test": []}, "office") == 1, "the source still keeps its groups"
    place.close()
    again.close()


@pytest.mark.parametrize("step", range(1, 8))
def test_a_directory_comes_back_whole_or_not_at_all(tmp_path: Path, step: int) -> None:
    """Killed at every kind of change; then it is done again."""
    place = LocalDirectory(str(tmp_path / "one"))
    for name in ("example.test", "two.test"):
        place.add_domain(name)
    place.add_accounts([(USER, "{PLAIN}x"), ("b@two.test", "{PLAIN}y")])
    place.change_account(USER, lambda old: msgspec.structs.replace(old, forward=("b@two.test",), notes="mine"))
    place.add_alias("all@two.test", [USER])
    place.put_list(List("crew@two.test", owners=(USER,)), [Member("a@far.test")])
    vault = Vault(str(tmp_path / "vault"))
    with vault.locked():
        begun = vault.begin()
        replace_file(f"{begun}/directory.json", json.dumps(save.directory_rows(place, str(tmp_path / "one"))).encode())
        run = vault.finish(begun)
    pid = os.fork()
    if pid == 0:
        left, note = [step], LocalDirectory._note

        def counted(*given: Any) -> None:
            note(*given)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        LocalDirectory._note = counted  # type: ignore[assignment,method-assign]
        try:
            restore.directory(vault, LocalDirectory(str(tmp_path / "two")), run)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    again = LocalDirectory(str(tmp_path / "two"))
    assert not again.domains() and not again.accounts()
    restore.directory(vault, again, run)
    assert [(one.address, one.forward, one.notes) for one in again.accounts()] == [
        (one.address, one.forward, one.notes) for one in place.accounts()
    ]
    assert again.aliases() == place.aliases() and again.count_members("crew@two.test") == 1
    again.close()
    place.close()
