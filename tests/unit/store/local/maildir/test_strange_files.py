"""What lies in new/ and cur/ and is no message: links, directories, pipes, sockets, hidden files."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fastmail._core.uidset import UidSet
from tests.support.homes import housed, local_store


def test_only_files_are_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "mail"
    for sub in ("cur", "new", "tmp"):
        (root / sub).mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("Subject: of somebody else\n\n")
    for sub, info in (("new", ""), ("cur", ":2,S")):
        (root / sub / f"1700000001.M1P1.mail{sub}{info}").write_text("Subject: mail\n\n")
        (root / sub / f"1700000002.link{sub}{info}").symlink_to(secret)
        (root / sub / f"1700000003.lost{sub}{info}").symlink_to(tmp_path / "none")
        (root / sub / f"1700000004.loop{sub}{info}").symlink_to(root / sub / f"1700000004.loop{sub}{info}")
        (root / sub / f"1700000005.directory{sub}{info}").mkdir()
        (root / sub / f"1700000005.directory{sub}{info}" / "x").write_text("Subject: inside\n\n")
        (root / sub / f"1700000006.linked{sub}{info}").symlink_to(root, target_is_directory=True)
        os.mkfifo(root / sub / f"1700000007.pipe{sub}{info}")
        (root / sub / f".hidden{sub}").write_text("Subject: hidden\n\n")
        (root / sub / f":2,S{sub}").write_text("Subject: no base\n\n")
        with socket.socket(socket.AF_UNIX) as listener:
            monkeypatch.chdir(root / sub)
            listener.bind(f"1700000008.socket{sub}{info}")
    monkeypatch.chdir(tmp_path)

    async def work() -> None:
        store = local_store(str(tmp_path / "index"))
        await store.start()
        account = housed(1, "user@example.test", str(root))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        for _ in range(2):
            await store.sync(account, key)
            with store.snapshot(account) as snapshot:
                names = sorted(name[1:].partition(b":")[0] for _, name in snapshot.files(key))
            assert names == [b"1700000001.M1P1.mailcur", b"1700000001.M1P1.mailnew"]
        for uid in (1, 2):
            assert await store.content(account, key, uid) == b"Subject: mail\n\n"
        (root / "cur" / "1700000001.M1P1.mailcur:2,S").unlink()
        (root / "cur" / "1700000001.M1P1.mailcur:2,S").symlink_to(secret)  # a message that becomes a link
        for uid in (1, 2):
            try:
                text = await store.content(account, key, uid)
            except Exception:
                text = None
            assert text in (None, b"Subject: mail\n\n")
        await store.expunge(account, key, UidSet.of([1, 2]), 0)
        await store.close()

    asyncio.run(work())
    assert secret.read_text() == "Subject: of somebody else\n\n"
    assert len(list((root / "cur").iterdir())) >= 8
