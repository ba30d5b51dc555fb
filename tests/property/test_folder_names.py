"""What lies on disk as folders and what IMAP lists of it: each listed name can be opened, is there already for CREATE,
and is a mailbox of its own; whatever the directories are called that another program made.

The layouts: Maildir++ and fs, names in modified UTF-7 and in UTF-8, "/" and "." between levels.
"""

import asyncio
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastmail.app.homes import Homes
from tests.support.examples import FEW
from tests.support.homes import local_store
from tests.support.sessions import USER, Bench

INBOXES = [b"INBOX", b"Inbox", b"inbox", b"iNbOx", "\u0131nbox".encode(), b"&ATE-nbox"]
LEVELS = [
    *INBOXES, b"Work", b"work", b"~", b"~name", b"a~b", b".", b"..", b".hid", b"d.ot", b" ", b" a ", b"cur", b"new", b"tmp", b"Shared", b"team",
    b"Other Users", b"other@example.test", b"&", b"&-", b"&bad", b"&AOQ-", b"&AGE-", b"&AC4-", b"&AC8-", b"&AAE-", b"&AIA-", b"&2AA-", b"&Jjo-x&AOQ-",
    "\u00e4".encode(), "a\u0308".encode(), b"\xe9", b"\xff\xfe", b"\x01", b"\n", b"\x7f", b'"', b"\\", b"*", b"%", b"x" * 240, b"y" * 251, b"z" * 254,
    "\u00fc".encode() * 120, b"(", b"{3}", b"",
]  # fmt: skip
NAMES = st.lists(st.sampled_from(LEVELS) | st.binary(max_size=6).map(lambda raw: raw.replace(b"\0", b"").replace(b"/", b"")), min_size=1, max_size=4)  # fmt: skip


def directory(root: Path, levels: list[bytes], fs: bool) -> bytes:
    inner = b"/".join(levels) if fs else b"." + b".".join(levels)
    return os.fsencode(root) + b"/" + inner


def make(root: Path, folders: list[list[bytes]], fs: bool) -> None:
    """Whatever of them the file system takes, each with a message of its own."""
    for sub in ("cur", "new", "tmp"):
        (root / sub).mkdir(parents=True)
    for number, levels in enumerate(folders):
        place = os.path.normpath(directory(root, levels, fs))
        if not place.startswith(os.fsencode(root) + b"/"):
            continue
        with suppress(OSError):
            for sub in (b"/cur", b"/new", b"/tmp"):
                os.makedirs(place + sub, exist_ok=True)
            with open(place + b"/cur/%d.mark:2,S" % number, "wb") as file:
                file.write(b"Subject: %d\n\n" % number)


def listed(answer: bytes) -> list[bytes]:
    """Names in LIST responses that can be selected."""
    names = []
    for match in re.finditer(rb'\* LIST \(([^)]*)\) "." ("(?:[^"\\\r\n]|\\.)*"|[^"\r\n]*)\r\n', answer):
        if b"\\NonExistent" not in match[1] and b"\\Noselect" not in match[1]:
            names.append(match[2])
    assert len(re.findall(rb"(?m)^\* LIST", answer)) == len(re.findall(rb'\* LIST \([^)]*\) "." ', answer))
    return names


async def look(top: str, folders: list[list[bytes]], fs: bool, utf8: bool, separator: str) -> list[bytes]:
    """List, open and try to make each mailbox; the names."""
    root = Path(top) / "mail/example.test/user"
    make(root, folders, fs)
    store = local_store(top + "/index")
    bench = Bench(top, store)
    homes = Homes(bench.directory, top + "/mail/{domain}/{user}", layout="fs" if fs else "maildir++", utf8=utf8)
    store.account_paths.home = homes.home
    await bench.store.start()
    service = bench.imap
    service.separator, service.dotted = separator, fs and separator == "/"
    service.account = bench.deliverer.account
    service.shared = ("team@example.test",)
    client = bench.open("imap")
    await client.send(f"a LOGIN {USER} secret\r\n".encode())
    try:
        names = listed(await client.send(b'b LIST "" * RETURN (CHILDREN)\r\n', 2_000_000))
        assert len(set(names)) == len(names) and names.count(b"INBOX") == 1
        assert sum(name.strip(b'"').upper() == b"INBOX" for name in names) == 1
        marks = []
        for name in names:
            answer = await client.send(b"c EXAMINE " + name + b"\r\n")
            assert b"c OK" in answer, (name, answer)
            if b"\r\n* 0 EXISTS" not in b"\r\n" + answer:
                found = re.search(rb"Subject: (\d+)", await client.send(b"d FETCH 1 BODY.PEEK[]\r\n"))
                assert found is not None, name
                marks.append(found[1])
            answer = await client.send(b"e CREATE " + name + b"\r\n")
            assert b"e NO" in answer and (b"ALREADYEXISTS" in answer or name == b"INBOX"), (name, answer)
        assert len(set(marks)) == len(marks)  # none is another one
        return names
    finally:
        await bench.store.close()


@pytest.mark.parametrize(
    ("fs", "utf8", "separator"),
    [(False, False, "/"), (False, True, "."), (True, False, "/"), (True, True, "/"), (True, False, ".")],
)
@settings(max_examples=4 if FEW else 12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([[b"INBOX"], [b"Inbox"], [b"inbox"], [b"inbox", b"Sub"], [b"~name"], [b"x" * 241], [b"y" * 250]])
@example([[b"inbox", b"Sub"], [b"INBOX", b"Sub"], [b"Inbox", b"Sub", b"x"], [b"Shared", b"team"], [b"Shared"]])
@example([[b"Other Users", b"other@example.test", b"x"], [b"a.b", b"c"], [b"&AAE-"], ["\u0131nbox".encode()]])
@example([[b"l" * 200] * 4 + [b"one"], [b"l" * 200] * 4 + [b"two"], ["\u00fc".encode() * 100] * 5])
@given(st.lists(NAMES, max_size=12))
def test_what_is_listed_can_be_opened(fs: bool, utf8: bool, separator: str, folders: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as top:
        asyncio.run(look(top, folders, fs, utf8, separator))


@pytest.mark.parametrize("fs", [False, True])
def test_names_that_are_not_given_here_are_served(fs: bool) -> None:
    folders = [[b"~name"], [b"y" * 250], [b"inbox", b"Sub"], [b"Work"], [b"Inbox"]]
    with tempfile.TemporaryDirectory() as top:
        names = asyncio.run(look(top, folders, fs, False, "/"))
        assert set(names) == {b"INBOX", b"INBOX/Sub", b"Work", b"~name", b"y" * 250}


def test_links_are_no_mailboxes() -> None:
    with tempfile.TemporaryDirectory() as top:
        root = Path(top) / "mail/example.test/user"
        for name in (".loop", ".same"):
            (root / name).mkdir(parents=True)
        (root / ".loop" / "cur").symlink_to(root / ".loop" / "cur")
        (root / ".same" / "cur").symlink_to(root / "cur")
        (root / ".whole").symlink_to(root)
        names = asyncio.run(look(top, [[b"Work"]], False, False, "/"))
        assert set(names) == {b"INBOX", b"Work"}
