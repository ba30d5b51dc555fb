"""STOREs that a client sends one behind the other: which share a commit, and in which order they are answered."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from fastmail.imap import places, store
from fastmail.model.errors import CannotDo
from tests.support.sessions import Bench, Client

FLAG = b"%b UID STORE %b +FLAGS.SILENT (\\Flagged)\r\n"


async def opened(path: Path, **limits: Any) -> tuple[Bench, Client]:
    bench = Bench(str(path), **limits)
    client = bench.open("imap")
    await client.send(b"a LOGIN user@example.test secret\r\n")
    for _ in range(9):
        await client.send(b"a APPEND INBOX {10+}\r\nSubject: x\r\n")
    await client.send(b"a SELECT INBOX\r\n")
    return bench, client


def watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many STOREs each commit has, from here on."""
    sizes: list[int] = []
    commit, alone = store._commit, store._alone

    async def counted(to: Any, selected: Any, jobs: list[Any]) -> Any:
        sizes.append(len(jobs))
        return await commit(to, selected, jobs)

    async def counted_alone(*args: Any) -> None:
        sizes.append(1)
        await alone(*args)

    monkeypatch.setattr(store, "_commit", counted)
    monkeypatch.setattr(store, "_alone", counted_alone)
    return sizes


def tags(answer: bytes) -> list[bytes]:
    return re.findall(rb"^(?!\*)(\S+ \S+)", answer, re.M)


def run(path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, **limits: Any) -> tuple[bytes, list[int]]:
    async def main() -> tuple[bytes, list[int]]:
        _, client = await opened(path, **limits)
        sizes = watch(monkeypatch)
        return await client.send(data), sizes

    return asyncio.run(main())


def test_stores_of_different_messages_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(FLAG % (b"s%d" % uid, b"%d" % uid) for uid in range(1, 6))
    got, sizes = run(tmp_path, monkeypatch, data)
    assert sizes == [5] and tags(got) == [b"s%d OK" % uid for uid in range(1, 6)]


def test_a_store_of_the_same_message_comes_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FLAG % (b"s1", b"1") + FLAG % (b"s2", b"2") + FLAG % (b"s3", b"2:3") + FLAG % (b"s4", b"4")
    got, sizes = run(tmp_path, monkeypatch, data)
    assert sizes == [2, 1, 1] and tags(got) == [b"s1 OK", b"s2 OK", b"s3 OK", b"s4 OK"]


def test_any_other_command_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it looks like one."""
    others = (b"n NOOP\r\n", b"n UID FETCH 1 FLAGS\r\n", b"n UID\r\n", b"\r\n", b"(bad STORE 1 FLAGS ()\r\n")
    for number, other in enumerate(others):
        got, sizes = run(tmp_path / str(number), monkeypatch, FLAG % (b"s1", b"1") + other + FLAG % (b"s2", b"2"))
        assert sizes == [1, 1] and (tags(got)[0], tags(got)[-1]) == (b"s1 OK", b"s2 OK"), other
        monkeypatch.undo()


def test_one_that_is_not_there_as_a_whole_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        _, client = await opened(tmp_path)
        sizes = watch(monkeypatch)
        late = FLAG % (b"s2", b"2")
        assert tags(await client.send(FLAG % (b"s1", b"1") + late[:-4])) == [b"s1 OK"]
        assert tags(await client.send(late[-4:])) == [b"s2 OK"]
        assert sizes == [1, 1]

    asyncio.run(main())


def test_replies_to_bad_ones_keep_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = b"b1 STORE 1 +FLAGS (\r\nb2 store 77 +FLAGS (\\Seen)\r\n"
    got, sizes = run(tmp_path, monkeypatch, FLAG % (b"s1", b"1") + bad + FLAG % (b"s2", b"2"))
    assert sizes == [2] and tags(got) == [b"s1 OK", b"b1 BAD", b"b2 BAD", b"s2 OK"]


def test_a_first_one_that_is_bad_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got, sizes = run(tmp_path, monkeypatch, b"b1 STORE 1 +FLAGS (\r\n" + FLAG % (b"s1", b"1") + FLAG % (b"s2", b"2"))
    assert sizes == [2] and tags(got) == [b"b1 BAD", b"s1 OK", b"s2 OK"]


def test_without_numbers_only_the_uid_form_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        _, client = await opened(tmp_path)
        await client.send(b"e ENABLE UIDONLY\r\n")
        sizes = watch(monkeypatch)
        plain = b"p STORE 2 +FLAGS (\\Seen)\r\n"
        got = await client.send(FLAG % (b"s1", b"1") + plain + FLAG % (b"s2", b"2"))
        assert sizes == [2] and tags(got) == [b"s1 OK", b"p BAD", b"s2 OK"] and b"p BAD [UIDREQUIRED]" in got

    asyncio.run(main())


def test_a_batch_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "TOGETHER", 3)
    bad = b"b STORE 1 +FLAGS (\r\n"
    data = FLAG % (b"s1", b"1") + FLAG % (b"s2", b"2") + bad + FLAG % (b"s3", b"3") + FLAG % (b"s4", b"4")
    got, sizes = run(tmp_path, monkeypatch, data)
    assert sizes == [2, 2] and tags(got) == [b"s1 OK", b"s2 OK", b"b BAD", b"s3 OK", b"s4 OK"]


def test_after_too_many_errors_nothing_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is let go after 50 times ``limits.errors``: what it sent behind the last of them is not begun."""
    data = FLAG % (b"s1", b"1") + b"b STORE 1 +FLAGS (\r\n" * 50 + FLAG % (b"s2", b"2")
    got, sizes = run(tmp_path, monkeypatch, data, errors=1)
    assert b"* BYE too many errors" in got and b"s2" not in got and sum(sizes) <= 1


def test_the_right_that_goes_between_two_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is done in the mailbox that it was for; the second is refused with the mailbox closed."""

    async def main() -> None:
        bench, client = await opened(tmp_path)
        session: Any = client.connection.session
        other = bench.deliverer.account(bench.directory.accounts["other@example.test"])
        asked: list[int] = []

        def refresh(of: Any) -> None:
            asked.append(1)
            if len(asked) == 2:
                of.deselect()
                raise CannotDo("it is closed")

        monkeypatch.setattr(places, "refresh", refresh)
        own, session.account = session.account, other  # the selected mailbox is somebody else's
        got = await client.send(FLAG % (b"s1", b"1") + FLAG % (b"s2", b"2"))
        assert tags(got) == [b"s1 OK", b"s2 NO"] and b"s2 NO [CANNOT] it is closed" in got
        session.account = own
        assert b"\\Flagged" in await client.send(b"e EXAMINE INBOX\r\nf FETCH 1 FLAGS\r\n")

    asyncio.run(main())
