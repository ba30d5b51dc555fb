"""Mail that is forwarded by way of Postfix: out by an alias, through another MTA, and back to a mailbox here."""

import email
import json
import smtplib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import mtas
from tests.support.hosts import dead_port
from tests.support.server import Server

STRANGER = "some.body@far.test"
MAPS = "hop@post.test=user@example.test, loop@post.test=round@example.test"
EXTRA = f"virtual_alias_domains = post.test\nvirtual_alias_maps = inline:{{ {MAPS} }}\n"
LETTER = f"From: {STRANGER}\r\nTo: chain@example.test\r\nSubject: hello\r\n\r\n.dots\r\nbody \r\n"


def send(server: Server, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as client:
        client.sendmail(STRANGER, [to], LETTER)


def until(done: Callable[[], Any], seconds: float = 40.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


def inbox(server: Server, user: str = "") -> list[bytes]:
    return [path.read_bytes() for path in server.maildir(user).glob("[nc]*/*") if path.parent.name in ("new", "cur")]


def test_a_chain_and_a_circle(tmp_path: Path) -> None:
    server = Server(tmp_path / "s")
    with mtas.postfix(tmp_path / "mta", server.ports["smtp"], extra=EXTRA) as port:
        routes = f'routes = ["post.test smtp:127.0.0.1:{port}", "far.test smtp:127.0.0.1:{dead_port()}"]'
        server.config.write_text(server.config.read_text() + f"\n[relay]\n{routes}\n")
        server.cli("alias", "add", "chain@example.test", "hop@post.test")
        server.cli("alias", "add", "round@example.test", "loop@post.test")
        server.start()
        try:
            send(server, "chain@example.test")
            (content,) = until(lambda: inbox(server))
            message = email.message_from_bytes(content)
            sender = str(message["Return-Path"]).strip("<>")
            assert sender.startswith("SRS0=") and sender.endswith("=far.test=some.body@example.test")
            assert message.get_all("Delivered-To") == [server.user, "chain@example.test"]
            assert message.get_payload() == ".dots\nbody \n" and message["Subject"] == "hello"
            # what comes back to the address that forwarded it is refused there
            send(server, "round@example.test")
            log = tmp_path / "mta" / "log"
            until(lambda: "554 5.4.6" in log.read_text())
            assert len(inbox(server)) == 1
            # a report for the rewritten sender goes on to the sender that there was
            with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as client:
                client.sendmail("", [sender], "From: <>\r\nSubject: not delivered\r\n\r\nsorry\r\n")

            def bounce() -> bool:
                shown = server.cli("queue", "list", "--json").stdout
                return any(STRANGER in json.dumps(row) for row in json.loads(shown))

            until(bounce)
            server.traced(STRANGER, "forwarded")
        finally:
            server.stop()
