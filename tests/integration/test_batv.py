"""Tagged envelope senders (BATV): on what leaves, on the reports that come back, and on what only looks like one."""

from pathlib import Path

import pytest

from fastmail.directory.batv import Batv
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import REFUSE, TAG, Domain
from tests.integration.test_relay import World, run, world
from tests.support.sessions import USER

REPORT = b'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n\r\n--x--\r\n'
READ = REPORT.replace(b"delivery-status", b'\r\n "Disposition-Notification"')
BOUNCE = b"From: MAILER-DAEMON@far.test\r\nSubject: no such user\r\n\r\nsorry\r\n"


def wanted(w: World, wish: str) -> None:
    """From now on the domain of the user wants this."""
    directory = MemoryDirectory()
    directory.add_domain(Domain("example.test", batv=wish))
    w.bench.deliverer.batv = Batv(directory)


async def report(w: World, to: str, content: bytes, sender: str = "", host: str = "192.0.2.9") -> bytes:
    """The last reply to a message from a stranger."""
    client = w.bench.open("smtp", host)
    said = await client.send(f"EHLO far.test\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{to}>\r\nDATA\r\n".encode())
    return await client.send(content + b".\r\n") if b"354" in said else said.splitlines()[-2]


@pytest.mark.parametrize("wish", [TAG, REFUSE])
def test_what_leaves_has_a_tag_and_reports_come_back(tmp_path: Path, wish: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            wanted(w, wish)
            w.run()
            await w.send("you@far.test")
            await w.drained()
            sender = w.sink.taken[0].mail.partition("<")[2].partition(">")[0]
            assert sender.startswith("prvs=0") and sender.endswith(f"={USER}")
            for content in (REPORT, BOUNCE):
                assert (await report(w, sender, content)).startswith(b"250")
            assert len(await w.inbox()) == 2
            forged = sender.replace(USER, "other@example.test")
            assert (await report(w, forged, REPORT)).startswith(b"550 5.1.1")

    run(scenario)


@pytest.mark.parametrize(
    ("to", "content", "sender", "taken"),
    [
        (USER, REPORT, "", False),
        (USER, BOUNCE, "", False),
        (USER, READ, "", True),
        (USER, BOUNCE, "you@far.test", True),
        ("postmaster@example.test", BOUNCE, "", True),
    ],
)
def test_a_report_without_a_tag(tmp_path: Path, to: str, content: bytes, sender: str, taken: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            for wish, good in ((REFUSE, taken), (TAG, True), ("", True)):
                wanted(w, wish)
                said = await report(w, to, content, sender)
                assert said.startswith(b"250" if good else b"550 5.7.1 a report about a message"), (wish, said)

    run(scenario)


def test_what_stays_untagged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            wanted(w, "")
            w.run()
            await w.send("you@far.test")
            await w.drained()
            assert w.sink.taken[0].mail.startswith(f"MAIL FROM:<{USER}>")

    run(scenario)
