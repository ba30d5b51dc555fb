"""Who logged in and what a client says of itself are in the log at its usual level, whatever a client sends."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import Bench


def test_logins_and_clients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        imap, pop3 = bench.open("imap"), bench.open("pop3")
        await imap.send(b'a ID ("name" "Some Mail" "version" "7.1" "os" NIL)\r\n')
        await imap.send(b"x LOGIN user@example.test wrong\r\n")
        await imap.send(b"b LOGIN user@example.test secret\r\nc ID NIL\r\n")
        await pop3.send(b"USER other@example.test\r\nPASS wrong\r\n")
        await pop3.send(b"USER other@example.test\r\nPASS secret\r\n")

    asyncio.run(main())
    lines = capsys.readouterr().err.splitlines()
    (client,) = [line for line in lines if "event=imap.id" in line]
    assert "level=info" in client and 'client="name=Some Mail version=7.1"' in client and "peer=127.0.0.1" in client
    imap, pop3 = [line for line in lines if "event=login.failed " in line]
    assert "level=warning" in imap and "protocol=imap login=user@example.test peer=127.0.0.1" in imap
    assert "level=warning" in pop3 and "protocol=pop3 login=other@example.test peer=127.0.0.1" in pop3
    imap, pop3 = [line for line in lines if "event=login " in line]
    assert "level=info" in imap and "protocol=imap account=user@example.test peer=127.0.0.1" in imap
    assert "level=info" in pop3 and "protocol=pop3 account=other@example.test" in pop3


def test_what_a_client_says_is_bounded_and_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path)).open("imap")
        long = b"v" * 3000
        evil = b"x\r\ntime=now event=login account=root\x1b[2J\xff"
        got = await client.send(b'a ID ("name" "%b" "%b" "y" "os" {%d+}\r\n%b)\r\n' % (long, long, len(evil), evil))
        assert got.endswith(b"a OK ID completed\r\n")
        for n in range(100):
            await client.send(b'a ID ("n" "%d")\r\n' % n)

    asyncio.run(main())
    lines = [line for line in capsys.readouterr().err.splitlines() if "imap.id" in line]
    assert len(lines) == 5, "not as many as it sends"
    first = lines[0]
    assert len(first) < 400 and "name=" + "v" * 60 + " " in first and "v" * 61 not in first
    assert "os=x??time" in first and "\x1b" not in first
