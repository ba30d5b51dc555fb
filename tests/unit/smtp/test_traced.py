"""What the trace says of a message that came in: filters' verdicts, mailboxes, TLS."""

import asyncio
from pathlib import Path

import pytest

from fastmail.delivery.envelope import Envelope, note_accepted
from fastmail.delivery.history import Event, History
from tests.support.sessions import USER, Bench
from tests.unit.smtp.test_milter import MESSAGE, Filter, milter

LINES = f"EHLO me.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<{USER}>\r\nDATA\r\n".encode()


def traced(path: Path, answers: dict[str, list[bytes]] | None) -> list[Event]:
    """What is noted of a message that a filter answers so; without one at all for None."""

    async def main() -> list[Event]:
        milters = [milter(await Filter(answers).start())] if answers is not None else []
        bench = Bench(str(path), outbound={"milters": milters})
        bench.deliverer.history = history = History(str(path / "trace"), 30.0, 1 << 24)
        client = bench.open("smtp")
        await client.send(LINES)
        await client.send(MESSAGE)
        client.connection.connection_lost(None)
        await history.close()
        found = [event for life in history.find(USER) for event in life]
        await history.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("answers", "what", "verdict", "mailbox"),
    [
        (None, "accepted", "", "INBOX"),
        ({}, "accepted", "passed", "INBOX"),
        ({"E": [b"hX-New\0yes\0", b"c"]}, "accepted", "changed", "INBOX"),
        ({"E": [b"qlooks bad\0", b"c"]}, "accepted", "quarantined: looks bad", "Junk"),
        ({"E": [b"y550 5.7.9 spam\0"]}, "refused", "refused: 550 5.7.9 spam", ""),
        ({"E": [b"d"]}, "discarded", "discarded", ""),
    ],
)
def test_filters_and_mailboxes(
    tmp_path: Path, answers: dict[str, list[bytes]] | None, what: str, verdict: str, mailbox: str
) -> None:
    (event,) = traced(tmp_path, answers)
    assert event.what == what and event.fields["filters"] == verdict
    assert event.fields["sender"] == "a@b.test" and event.fields["recipients"] == [USER]
    if mailbox:
        (stored,) = event.fields["stored"]
        assert stored.startswith(f"{USER} as UID 1 in ") and stored.rpartition(" in ")[2] in (mailbox, "INBOX")


def test_the_tls_of_a_client(tmp_path: Path) -> None:
    async def main() -> None:
        history = History(str(tmp_path), 30.0, 1 << 24)
        note_accepted(history, "ID1", Envelope("a@b.test", tls="TLSv1.3 TLS_AES_256_GCM_SHA384"), "", 1)
        await history.close()
        ((event,),) = history.find("ID1")
        assert event.fields["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
        await history.close()

    asyncio.run(main())
