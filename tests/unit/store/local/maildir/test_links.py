"""Links and pipes that somebody plants in a Maildir: nobody's files but its own are read or changed, and nothing waits.

Each test runs with openat2 and, in a process that has none, without it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.durable import dotlock
from fastmail.migrate import found as migrate_found
from fastmail.migrate import incoming
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.dovecot import control_files, hand_back
from fastmail.store.local.maildir.folders import control_directory, folder, look
from fastmail.store.local.store import LocalStore
from tests.support import without_openat2
from tests.support.homes import home_of, housed, local_store

pytestmark = pytest.mark.parametrize("way", ["openat2", "ENOSYS"])
SECRET = b"Subject: of somebody else\n\n"
OWN = b"Subject: own\n\n"
CONTROL = {
    "subscriptions": b"secret\nsecond\n",
    "courierimapsubscribed": b"INBOX.secret\n",
    "dovecot-uidlist": b"3 V1600000000 N77\n55 :1700000001.secret\n",
    "courierimapuiddb": b"1 1600000000 77\n55 1700000001.secret\n",
    "dovecot-keywords": b"0 secret\n",
    "dovecot-uidvalidity": b"5f5e1000",
    "dovecot-acl": b"anyone lrswipkxtea\n",
    "maildirsize": b"1000S,10C\n",
    "courierpop3dsizelist": b"/2 5 1600000000\n1700000001.secret 30 4:1600000000\n",
}


def maildir(path: Path, content: bytes) -> Path:
    for sub in ("cur", "new", "tmp"):
        (path / sub).mkdir(parents=True)
    (path / "cur" / "1700000001.secret:2,S").write_bytes(content)
    return path


def message(text: bytes = OWN) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000)


def contents(path: Path) -> dict[str, bytes | str]:
    """All that is there, and what it is."""
    out: dict[str, bytes | str] = {}
    for top, directories, names in os.walk(path):
        for name in [*directories, *names]:
            one = Path(top) / name
            known: bytes | str = os.readlink(one) if one.is_symlink() else ""
            out[str(one.relative_to(path))] = known or (one.read_bytes() if one.is_file() else "")
    return out


def serve(way: str, path: Path, work: Callable[[LocalStore, Account], Awaitable[None]], shared: bool = False) -> None:
    """Do the work with a store over ``path``/mine, in a process of its own; nothing of ``path``/other changes."""

    async def main() -> None:
        store = local_store(str(path / "data"), shared=shared)
        await store.start()
        try:
            await work(store, housed(1, "me@example.test", str(path / "mine")))
        finally:
            await store.close()

    before = contents(path / "other")
    without_openat2.run(way, lambda: asyncio.run(main()))
    assert contents(path / "other") == before


async def texts(store: LocalStore, account: Account, name: str) -> list[bytes]:
    """What a mailbox has, as a session would read it."""
    key = store.find(account, name)
    if key is None:
        return []
    await store.sync(account, key)
    with store.snapshot(account) as snapshot:
        uids = [uid for uid, _ in snapshot.files(key)]
        ready = [snapshot.content(key, uid) for uid in uids]
    await store.fetch_ahead(account, key, UidSet.of(uids))
    found = [await store.content(account, key, uid) for uid in uids]
    out = [bytes(one) for one in found if one is not None]
    assert all(bytes(one) in out for one in ready if one is not None)
    return out


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_control_files_that_are_no_files_are_not_read(way: str, tmp_path: Path, kind: str) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    for name, data in CONTROL.items():
        (other / name).write_bytes(data)
        if kind == "link":
            (mine / name).symlink_to(other / name)
        elif kind == "pipe":
            os.mkfifo(mine / name)
        else:
            (mine / name).mkdir()
    (other / "courierimapkeywords").mkdir()
    (other / "courierimapkeywords" / ":list").write_bytes(b"secret\n\n1700000001.secret:0\n")
    (mine / "courierimapkeywords").symlink_to(other / "courierimapkeywords")
    for name in ("dovecot.index", "dovecot.index.log", "dovecot.index.log.2"):
        os.mkfifo(mine / name)

    async def work(store: LocalStore, account: Account) -> None:
        place = folder(home_of(account), "INBOX")
        assert not control_files.read_control(place, place)
        assert control_files.read_subscriptions(home_of(account)) in (None, [])
        assert control_files.last_uidvalidity(home_of(account)) == 0 and control_files.guid_of(place) == b""
        assert control_files.read_acl(place, account.address) == ({}, []) and control_files.read_limits(place) == (0, 0)
        assert control_files.uidnext_of_damaged(place, 1600000000) == 1
        assert (await store.listing(account)).subscribed.isdisjoint({"secret", "second"})
        key = store.find(account, "INBOX")
        assert key is not None
        await store.sync(account, key)
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and box.uidvalidity != 1600000000 and box.uidnext == 2
            assert snapshot.keywords(key) == []

    serve(way, tmp_path, work)


def test_a_shared_list_that_is_a_link_is_written_anew(way: str, tmp_path: Path) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    for name in ("dovecot-uidlist", "dovecot-keywords", "subscriptions", "dovecot-uidvalidity"):
        (other / name).write_bytes(CONTROL[name])
        (mine / name).symlink_to(other / name)

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        assert await texts(store, account, "INBOX") == [OWN]
        key = store.find(account, "INBOX")
        assert key is not None
        await store.append(
            account, key, [NewMessage((OWN,), mime.scan(OWN), len(OWN) + 2, 1_700_000_000, 1, (b"own",))]
        )
        await store.subscribe(account, "Own", True)
        assert (await store.listing(account)).subscribed == {"Own"}
        for name in ("dovecot-uidlist", "dovecot-keywords", "subscriptions"):
            assert not (mine / name).is_symlink() and b"secret\n" not in (mine / name).read_bytes().split(b" :")[0]

    serve(way, tmp_path, work, shared=True)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_that_is_no_file_goes(way: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    (other / "held").write_text(f"{os.getpid()}:{dotlock.HOST}")
    lock = mine / "dovecot-uidlist.lock"
    lock.symlink_to(other / "held") if kind == "link" else os.mkfifo(lock)
    monkeypatch.setattr(dotlock, "UNSAID", 0.0)

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        assert await texts(store, account, "INBOX") == [OWN]
        assert not lock.exists()

    serve(way, tmp_path, work, shared=True)


@pytest.mark.parametrize("part", ["new", "cur", "both", "folder"])
def test_a_folder_that_leads_to_another_users_shows_nothing(way: str, tmp_path: Path, part: str) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    (other / "new" / "1700000002.secret").write_bytes(SECRET)

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        await store.create(account, "Trap")
        place = mine / ".Trap"
        if part == "folder":
            for sub in ("cur", "new", "tmp"):
                (place / sub).rmdir()
            (place / "maildirfolder").unlink()
            place.rmdir()
            place.symlink_to(other)
        for sub in {"new": ["new"], "cur": ["cur"], "both": ["new", "cur"], "folder": []}[part]:
            (place / sub).rmdir()
            (place / sub).symlink_to(other / sub)
        seen: list[bytes] = []
        key = store.find(account, "Trap")
        assert key is not None
        store.watch(account, key, lambda: None)
        try:
            seen = await texts(store, account, "Trap")
        except MailError:
            pass  # it cannot be looked at, which is said
        assert SECRET not in seen
        inbox = store.find(account, "INBOX")
        assert inbox is not None
        for one in (
            lambda: store.append(account, key, [message()]),
            lambda: store.deliver([Delivery(account, key, message())]),
            lambda: store.copy(account, inbox, UidSet.of([1]), key),
            lambda: store.sync(account, key),
            lambda: store.rename(account, "Trap", "Other"),
            lambda: store.delete(account, "Other"),
        ):
            try:
                await one()
            except (MailError, OSError):
                continue
        assert not await texts(store, account, "Other") and await texts(store, account, "INBOX") == [OWN]

    serve(way, tmp_path, work)


def test_messages_whose_folder_becomes_a_link_are_not_another_users(way: str, tmp_path: Path) -> None:
    """The index knows files by name; the same names lie where the link leads."""
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        assert await texts(store, account, "INBOX") == [OWN]
        key = store.find(account, "INBOX")
        assert key is not None
        (mine / "cur").rename(mine / "kept")
        (mine / "cur").symlink_to(other / "cur")
        with store.snapshot(account) as snapshot:
            assert snapshot.content(key, 1) is None
        for one in (
            lambda: store.content(account, key, 1),
            lambda: store.store(account, key, UidSet.of([1]), 1, 2, []),
            lambda: store.copy(account, key, UidSet.of([1]), key),
            lambda: store.expunge(account, key, UidSet.of([1]), 0),
        ):
            try:
                answer = await one()
            except (MailError, OSError):
                continue
            assert answer != SECRET
        await asyncio.sleep(0.6)  # housekeeping renames and removes by what the index says

    serve(way, tmp_path, work)


def test_what_is_written_for_another_server_stays_here(way: str, tmp_path: Path) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    names = ["dovecot-uidlist", "dovecot-keywords", "subscriptions", "courierimapuiddb", "courierpop3dsizelist"]
    for name in [*names, "courierimapsubscribed", "maildirsize", "dovecot-acl", "dovecot-uidvalidity.00000001"]:
        (other / name).write_bytes(b"other")
        (mine / name).symlink_to(other / name)
    (other / "courierimapkeywords").mkdir()
    (other / "courierimapkeywords" / ":list").write_bytes(b"other")
    (mine / "courierimapkeywords").symlink_to(other / "courierimapkeywords")

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        for to in (hand_back.DOVECOT, hand_back.COURIER):
            try:
                await hand_back.hand_back(store, account, to)
            except OSError:
                continue  # where a directory of theirs is a link it cannot be done, and that is said
        assert (mine / "dovecot-uidlist").read_bytes().startswith(b"3 V") and not (mine / "subscriptions").is_symlink()

    serve(way, tmp_path, work)


def test_an_import_of_links(way: str, tmp_path: Path) -> None:
    maildir(tmp_path / "mine", OWN)
    other, source = maildir(tmp_path / "other", SECRET), maildir(tmp_path / "source", OWN)
    (tmp_path / "named").symlink_to(source)  # what the operator names may be a link
    (source / "cur" / "1700000002.link:2,").symlink_to(other / "cur" / "1700000001.secret:2,S")
    os.mkfifo(source / "new" / "1700000003.pipe")
    (source / ".Linked").symlink_to(other)
    (source / ".Half").mkdir()
    (source / ".Half" / "new").mkdir()
    (source / ".Half" / "cur").symlink_to(other / "cur")
    half = maildir(source / ".New", OWN)
    (half / "new").rmdir()
    (half / "new").symlink_to(other / "cur")

    async def work(store: LocalStore, account: Account) -> None:
        await store.open(account)
        results = await incoming.from_maildir(store, account, str(tmp_path / "named"), "Got", lambda _: None)
        for name in ("Got", "Got/Linked", "Got/Half", "Got/New"):
            assert SECRET not in await texts(store, account, name), name
        assert await texts(store, account, "Got") == [OWN]
        said = "\n".join(text for one in results for text in one.problems)
        for name in (".Linked is a link", "1700000002.link", "1700000003.pipe", ".New/new"):
            assert name in said, said

    serve(way, tmp_path, work)


def test_a_look_before_a_migration(way: str, tmp_path: Path) -> None:
    mine, other = maildir(tmp_path / "mine", OWN), maildir(tmp_path / "other", SECRET)
    os.mkfifo(mine / "cur" / "1700000009.pipe:2,")
    (mine / ".Linked").symlink_to(other)

    def work() -> None:
        seen = migrate_found.look(str(mine))
        assert (seen.mailboxes, seen.messages) == (1, 2) and seen.packed["unreadable"] == 1

    without_openat2.run(way, work)


def test_the_maildir_itself_may_be_a_link(way: str, tmp_path: Path) -> None:
    """That is the administrator's: the Maildir, a directory above it, and the tree of control files."""
    real = maildir(tmp_path / "disk" / "real", OWN)
    (tmp_path / "other").mkdir()
    (tmp_path / "mine").symlink_to("disk/real")
    (tmp_path / "control").symlink_to("disk")

    async def work(store: LocalStore, account: Account) -> None:
        account = housed(1, account.address, home_of(account).root, control=str(tmp_path / "control" / "tree"))
        await store.open(account)
        await store.create(account, "A/B")
        await store.create(account, "Old")
        key = store.find(account, "A/B")
        assert key is not None
        await store.append(account, key, [message()])
        await store.rename(account, "A/B", "C")
        await store.delete(account, "Old")
        assert await texts(store, account, "C") == [OWN] and await texts(store, account, "INBOX") == [OWN]
        found = look(home_of(account))
        assert found is not None and "C" in found.ages and "Old" not in found.ages
        assert len(os.listdir(real / ".C" / "new")) + len(os.listdir(real / ".C" / "cur")) == 1
        await hand_back.hand_back(store, account)
        assert os.path.exists(os.path.join(control_directory(home_of(account), "INBOX"), "dovecot-uidlist"))
        assert (tmp_path / "disk" / "tree" / "subscriptions").exists()

    serve(way, tmp_path, work)
