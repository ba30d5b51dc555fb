"""Tagged envelope senders at a server that runs: what leaves, a report that comes back, and one about another's mail."""

import smtplib
from pathlib import Path

from fastmail.bench.load import unverified
from tests.journey.test_forwards import inbox, until
from tests.journey.test_lists import FarHost
from tests.support.server import Server

REPORT = "From: MAILER-DAEMON@far.test\r\nSubject: no such user\r\n\r\nsorry\r\n"


def report(server: Server, to: str) -> bytes:
    """The reply to a report without a sender."""
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=40) as client:
        try:
            client.sendmail("", [to], REPORT)
        except smtplib.SMTPDataError as error:
            return b"%d" % error.smtp_code
    return b"250"


def test_reports_about_our_mail_and_about_others(tmp_path: Path) -> None:
    far = FarHost()
    far.start()
    assert far.ready.wait(20)
    server = Server(tmp_path / "s", f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{far.sink.port}"]\n')
    server.cli("domain", "set", "example.test", "batv=refuse")
    server.start()
    try:
        with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=40) as client:
            client.starttls(context=unverified())
            client.login(server.user, server.password)
            client.sendmail(server.user, ["you@far.test"], f"From: <{server.user}>\r\nSubject: x\r\n\r\nbody\r\n")
        sender = far.took(0).mail.partition("<")[2].partition(">")[0]
        assert sender.startswith("prvs=0") and sender.endswith(f"={server.user}")
        assert report(server, sender) == b"250"
        until(lambda: any(b"no such user" in text for text in inbox(server)))
        assert report(server, server.user) == b"550"
        server.cli("domain", "set", "example.test", "batv=tag")
        assert report(server, server.user) == b"250"
    finally:
        server.stop()
        far.close()
