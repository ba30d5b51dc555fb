"""Fields that only this server may set, in mail that is not judged (RFC 8601 5, RFC 7208 9.1)."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from tests.support.sessions import USER, Bench

LOGIN = base64.b64encode(f"\0{USER}\0secret".encode())
OURS = (
    b"Authentication-Results: MX.example.test; dmarc=pass header.from=bank.test\n"
    b"Received-SPF: pass (fine) receiver=mx.example.test\n"
)
MARKS = b"X-Spam-Flag: NO\nX-Spam-Status: No, score=-9\nX-Virus-Status: Clean\nX-Fastmail-Seen: yes\n"
OTHERS = b"Authentication-Results: other.test; dmarc=pass\nReceived-SPF: pass receiver=other.test\n"
REST = (
    b"From: " + USER.encode() + b"\nSubject: x\nDate: Tue, 24 Nov 2026 10:11:12 +0100\nMessage-ID: <1@example.test>\n"
)
NEAR = [networks.parse("192.0.2.0/24")]


def delivered(path: Path, protocol: str, host: str, **more: Any) -> bytes:
    """What stands in front of From in the mailbox, but for our trace fields."""

    async def main() -> bytes:
        policy = Receiver(MemoryResolver({}), Settings("mx.example.test"))
        bench = Bench(str(path), outbound={"policy": policy, **more})
        client = bench.open(protocol, host)
        await client.send(b"LHLO x\r\n" if protocol == "lmtp" else b"EHLO me.test\r\n")
        if protocol == "submission":
            await client.send(b"AUTH PLAIN " + LOGIN + b"\r\n")
        await client.send(f"MAIL FROM:<{USER}>\r\nRCPT TO:<other@example.test>\r\nDATA\r\n".encode())
        content = OURS + MARKS + OTHERS + REST + b"\nhello\n"
        assert (await client.send(content.replace(b"\n", b"\r\n") + b".\r\n")).startswith(b"250")
        account = bench.deliverer.account(bench.directory.accounts["other@example.test"])
        await bench.store.open(account)
        content = bench.store.boxes[bench.store.find(account, "INBOX")].messages[0].content  # type: ignore[attr-defined]
        head, _, tail = content.partition(b"From: ")
        assert tail.startswith(REST.partition(b"From: ")[2])
        lines = head.splitlines(True)
        first = next(at for at, line in enumerate(lines) if line in OURS + MARKS + OTHERS)
        return b"".join(lines[first:])

    return asyncio.run(main())


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1"])
def test_a_login_shows_no_results_of_ours(tmp_path: Path, host: str) -> None:
    assert delivered(tmp_path, "submission", host) == OTHERS


def test_a_gateway_keeps_its_marks_and_shows_no_results_of_ours(tmp_path: Path) -> None:
    assert delivered(tmp_path, "smtp", "192.0.2.1", exempt=NEAR) == MARKS + OTHERS


def test_what_comes_from_this_machine_or_from_a_server_in_front_stays(tmp_path: Path) -> None:
    """A filter beside this server may hand back what it got; a server in front may have the same name."""
    assert delivered(tmp_path / "1", "smtp", "127.0.0.1") == OURS + MARKS + OTHERS
    assert delivered(tmp_path / "2", "lmtp", "192.0.2.1") == OURS + MARKS + OTHERS
