"""R27: two servers that send mail to each other without end: it stops at the hop limit, and one report comes of it."""

import json
import smtplib
import time
from pathlib import Path

import pytest

from tests.support.ports import free_ports
from tests.support.server import Server

HOPS = 50  # Received fields above which a message is refused
BEFORE = 40  # of them that it has when it comes


def messages(*servers: Server) -> list[bytes]:
    return [
        path.read_bytes()
        for server in servers
        for path in server.maildir().rglob("*")
        if path.parent.name in ("new", "cur")
    ]


def waiting(*servers: Server) -> int:
    return sum(len(json.loads(server.cli("queue", "list", "--json").stdout)) for server in servers)


@pytest.mark.parametrize("sender", ["user@example.test", ""])
def test_r27_two_servers_that_send_to_each_other(tmp_path: Path, sender: str) -> None:
    """Each thinks that the other has the mailbox. A null sender hears of nothing."""
    ports = free_ports(2)
    servers = []
    for at, name in enumerate(("a", "b")):
        extra = (
            f'\n[relay]\nroutes = ["loop.test smtp:127.0.0.1:{ports[1 - at]} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
            'retry = ["1s"]\n'
        )
        server = Server(tmp_path / name, extra, workers=1)
        text = server.config.read_text()
        text = text.replace(f"127.0.0.1:{server.ports['smtp']}", f"127.0.0.1:{ports[at]}")
        server.config.write_text(text.replace("mx.example.test", f"{name}.example.test"))
        server.ports["smtp"] = ports[at]
        servers.append(server)
    try:
        for server in servers:
            server.start()
        passed = "Received: from somewhere by elsewhere; Mon, 1 Jan 2024 00:00:00 +0000\r\n" * BEFORE
        with smtplib.SMTP("127.0.0.1", ports[0], timeout=20) as smtp:
            smtp.sendmail(sender, ["you@loop.test"], f"{passed}Subject: round and round\r\n\r\nx\r\n")
        deadline = time.monotonic() + 60
        while waiting(*servers) or (sender and not messages(*servers)):
            assert time.monotonic() < deadline, [server.log.read_text()[-1500:] for server in servers]
            time.sleep(0.5)
        found = messages(*servers)
        if not sender:
            assert found == []
            return
        (report,) = found
        assert b"5.4.6" in report and b"round and round" in report
        assert HOPS <= report.count(b"Received:") <= HOPS + 3
    finally:
        for server in servers:
            server.stop()
