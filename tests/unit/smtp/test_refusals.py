"""What the log and the trace say of senders and recipients that were refused before there was a message."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery import history as module
from fastmail.delivery.history import Event, History
from fastmail.telemetry import log
from tests.support.sessions import USER, Bench
from tests.unit.smtp.test_milter import Filter, milter

EHLO = b"EHLO me.test\r\n"
NOBODY = f"nobody@{USER.partition('@')[2]}"
ELSEWHERE = "you@elsewhere.test"


def refused(
    path: Path, lines: list[str], word: str, answers: dict[str, list[bytes]] | None = None
) -> tuple[list[Event], list[bytes]]:
    """(what the trace has of an address, the replies), where a client sends these lines to port 25."""

    async def main() -> tuple[list[Event], list[bytes]]:
        filters = [milter(await Filter(answers).start())] if answers is not None else []
        bench = Bench(str(path), outbound={"milters": filters})
        bench.deliverer.history = history = History(str(path / "trace"), 30.0, 1 << 24)
        client = bench.open("smtp")
        await client.send(EHLO)
        replies = [bytes(await client.send(f"{line}\r\n".encode())) for line in lines]
        client.connection.connection_lost(None)
        await history.close()
        found = [event for life in history.find(word) for event in life]
        await history.close()
        return found, replies

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        (NOBODY, "550 5.1.1 no such user here"),
        (ELSEWHERE, "550 5.7.1 relaying denied: the domain is not of this server"),
    ],
)
def test_a_recipient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipient: str, reply: str) -> None:
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log, "event", lambda name, *_, **fields: lines.append((name, fields)))
    (event,), replies = refused(tmp_path, ["MAIL FROM:<a@b.test>", f"RCPT TO:<{recipient}>"], recipient)
    assert replies[-1] == reply.encode() + b"\r\n"
    assert event.what == "refused" and event.fields["reply"] == reply
    assert event.fields["sender"] == "a@b.test" and event.fields["recipients"] == [recipient]
    assert event.fields["helo"] == "me.test"
    (logged,) = [fields for name, fields in lines if name == "smtp.refused"]
    assert (logged["sender"], logged["recipient"], logged["reply"]) == ("a@b.test", recipient, reply)


def test_found_by_the_sender_too(tmp_path: Path) -> None:
    (event,), _ = refused(tmp_path, ["MAIL FROM:<a@b.test>", f"RCPT TO:<{NOBODY}>"], "a@b.test")
    assert event.fields["recipients"] == [NOBODY]


@pytest.mark.parametrize(
    ("stage", "recipients"), [("M", []), ("R", [USER]), ("T", [USER])], ids=["MAIL", "RCPT", "DATA"]
)
def test_by_a_filter(tmp_path: Path, stage: str, recipients: list[str]) -> None:
    lines = ["MAIL FROM:<a@b.test>", f"RCPT TO:<{USER}>", "DATA"][: "MRT".index(stage) + 1]
    (event,), replies = refused(tmp_path, lines, "a@b.test", {stage: [b"y550 5.7.9 not today\0"]})
    assert replies[-1] == b"550 5.7.9 not today\r\n"
    assert (event.what, event.fields["reply"]) == ("refused", "550 5.7.9 not today")
    assert event.fields["recipients"] == recipients


def test_what_is_taken_is_no_refusal(tmp_path: Path) -> None:
    found, replies = refused(tmp_path, ["MAIL FROM:<a@b.test>", f"RCPT TO:<{USER}>"], "a@b.test")
    assert found == [] and replies[-1].startswith(b"250")


def test_a_flood_pushes_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFUSALS", 3)
    now = [600.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])

    async def main() -> list[str]:
        history = History(str(tmp_path), 30.0, 1 << 24)
        for number in range(10):
            history.note_refusal(f"A{number}", ("a@b.test",), sender="a@b.test")
        now[0] += 60
        history.note_refusal("B", ("a@b.test",), sender="a@b.test")
        await history.close()
        found = [life[0].id for life in history.find("a@b.test")]
        await history.close()
        return found

    assert asyncio.run(main()) == ["B", "A2", "A1", "A0"]
