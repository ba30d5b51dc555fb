"""Mail filters: what they are told, what they may change, and what happens when they are away."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.smtp import milter as program
from fastmail.smtp.milter import Milter
from tests.support.notes import Noting
from tests.support.sessions import USER, Bench

MESSAGE = b"Subject: hello\r\nX-Old: one\r\nX-Old: two\r\n\r\nfirst line\r\n..second\r\n.\r\n"


class Filter:
    """A milter that answers from ``answers``: command letter -> packets (letter and data); else it goes on."""

    def __init__(self, answers: dict[str, list[bytes]], protocol: int = 0) -> None:
        self.answers = answers
        self.protocol = protocol
        self.heard: list[tuple[str, bytes]] = []
        self.judge: Callable[[bytes], bytes] | None = None  # of a recipient
        self.port = 0

    async def start(self) -> "Filter":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                packet = await reader.readexactly(length)
                command, data = chr(packet[0]), packet[1:]
                self.heard.append((command, data))
                if command == "Q":
                    break
                if command == "D":
                    continue
                if command == "A":
                    continue
                if command == "R" and self.judge is not None:
                    answer = self.judge(data)
                    writer.write(struct.pack(">I", len(answer)) + answer)
                    continue
                default = [b"O" + struct.pack(">III", 6, 0x7F, self.protocol)] if command == "O" else [b"c"]
                for answer in self.answers.get(command, default):
                    writer.write(struct.pack(">I", len(answer)) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def ended(self) -> None:
        """Until the conversation is over; nobody waits for the filter to hear its end."""
        for _ in range(200):
            if self.heard and self.heard[-1][0] == "Q":
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the filter never heard the end")

    def said(self, command: str) -> list[bytes]:
        return [data for one, data in self.heard if one == command]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def deliver(
    path: Path, milters: list[Milter], *rcpts: str, kind: str = "smtp", message: bytes = MESSAGE
) -> tuple[bytes, list[bytes]]:
    """(the reply to the message, or the first that refuses; messages of the user's INBOX and Junk)."""
    bench = Bench(str(path), outbound={"milters": milters})
    client = bench.open(kind)
    hello = b"LHLO" if kind == "lmtp" else b"EHLO"
    to = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in rcpts or [USER])
    reply = await client.send(hello + b" me.test\r\nMAIL FROM:<a@b.test> SIZE=100\r\n" + to + b"DATA\r\n")
    if reply.endswith(b"354 end with CRLF . CRLF\r\n"):
        reply = await client.send(message)
    else:
        reply = next(line + b"\r\n" for line in reply.splitlines() if line[:1] in b"45")
    client.connection.connection_lost(None)
    boxes = bench.store.boxes.values()  # type: ignore[attr-defined]
    return reply, [bytes(m.content) for box in boxes for m in box.messages]


def milter(one: Filter, **options: Any) -> Milter:
    return Milter(f"127.0.0.1:{one.port}", **{"timeout": 2.0, **options})


def test_what_a_filter_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}).start()
        reply, kept = await deliver(tmp_path, [milter(one)])
        assert reply.startswith(b"250") and len(kept) == 1
        await one.ended()
        assert [command for command, _ in one.heard if command != "D"] == list("OCHMRTLLLNBEQ")
        assert one.said("C") == [b"[127.0.0.1]\x004\x00\x00127.0.0.1\x00"]
        assert one.said("H") == [b"me.test\x00"]
        assert one.said("M") == [b"<a@b.test>\x00SIZE=100\x00"] and one.said("R") == [b"<user@example.test>\x00"]
        assert one.said("L") == [b"Subject\x00hello\x00", b"X-Old\x00one\x00", b"X-Old\x00two\x00"]
        assert one.said("B") == [b"first line\r\n.second\r\n"]
        assert b"j\x00mx.example.test\x00" in one.said("D")[0]

    run(scenario)


@pytest.mark.parametrize(
    ("stage", "answer", "reply"),
    [
        ("E", b"r", b"550 5.7.1 "),
        ("E", b"t", b"451 4.7.1 "),
        ("E", b"y550 5.7.9 spam, we think\x00", b"550 5.7.9 spam, we think"),
        ("E", b"y451 greylisted\x00", b"451 4.7.1 greylisted"),
        ("E", b"y550 5.7.9 100%% spam, 5% ham\x00", b"550 5.7.9 100% spam, 5% ham\r\n"),
        ("E", b"y550 5.7.9 %%%%\x00", b"550 5.7.9 %%\r\n"),
        ("R", b"y550-5.7.9 spam,\r\n550-5.7.9 we\r\n550 5.7.9 think\x00", b"550 5.7.9 spam, we think\r\n"),
        ("B", b"r", b"550 5.7.1 "),
        ("L", b"y554 5.7.1 bad\r\nheader\x00", b"554 5.7.1 bad header"),
        ("E", b"d", b"250 2.0.0 "),
        ("M", b"d", b"250 2.0.0 "),
        ("R", b"d", b"250 2.0.0 "),
    ],
)
def test_verdicts(tmp_path: Path, stage: str, answer: bytes, reply: bytes) -> None:
    async def scenario() -> None:
        one = await Filter({stage: [answer]}).start()
        got, kept = await deliver(tmp_path, [milter(one)])
        assert got.startswith(reply) and got.count(b"\r\n") == 1
        assert kept == []

    run(scenario)


STAGES = [
    ("C", b"", b"554 5.7.1 ", b""),
    ("H", b"EHLO me.test\r\n", b"550 5.7.1 ", b"MAIL FROM:<a@b.test>\r\n"),
    ("M", b"MAIL FROM:<a@b.test>\r\n", b"550 5.7.1 ", b"RCPT TO:<user@example.test>\r\n"),
    ("R", b"RCPT TO:<user@example.test>\r\n", b"550 5.7.1 ", b"DATA\r\n"),
    ("T", b"DATA\r\n", b"550 5.7.1 ", b"DATA\r\n"),
]
DIALOGUE = {
    b"EHLO me.test\r\n": b"250",
    b"MAIL FROM:<a@b.test>\r\n": b"250 2.1.0",
    b"RCPT TO:<user@example.test>\r\n": b"250 2.1.5",
    b"DATA\r\n": b"354",
}


@pytest.mark.parametrize(("stage", "command", "reply", "after"), STAGES)
def test_a_filter_is_asked_at_every_stage(
    tmp_path: Path, stage: str, command: bytes, reply: bytes, after: bytes
) -> None:
    """The command that a filter refuses gets its refusal, at once; and the session goes on without it."""

    async def scenario() -> None:
        one = await Filter({stage: [b"r"]}).start()
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        await client.settle()
        if not command:
            assert client.transport.data.startswith(reply) and client.transport.closed
            return
        assert client.transport.data.startswith(b"220 ")
        for line, good in DIALOGUE.items():
            got = await client.send(line)
            if line == command:
                assert got.startswith(reply) and got.count(b"\r\n") == 1
                break
            assert got.startswith(good)
        assert (await client.send(after)).startswith((b"503 5.5.1", b"554 5.5.1"))
        one.answers.clear()
        for line, good in DIALOGUE.items():
            assert (await client.send(line)).startswith(good) or line == b"MAIL FROM:<a@b.test>\r\n"
        assert (await client.send(MESSAGE)).startswith(b"250 2.0.0")

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "greeting"), [(b"t", b"421 4.7.1"), (b"y450 4.7.2 slow down\x00", b"421 4.7.2 slow down")]
)
def test_a_connection_may_be_put_off(tmp_path: Path, answer: bytes, greeting: bytes) -> None:
    async def scenario() -> None:
        one = await Filter({"C": [answer]}).start()
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        await client.settle()
        assert client.transport.data.startswith(greeting) and client.transport.closed

    run(scenario)


def test_one_recipient_may_be_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}).start()

        def judge(data: bytes) -> bytes:
            return b"y550 5.7.8 not for him\x00" if b"other" in data else b"c"

        one.judge = judge
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        got = await client.send(
            b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nRCPT TO:<other@example.test>\r\nDATA\r\n"
        )
        assert got.splitlines()[-3:] == [
            b"250 2.1.5 recipient ok",
            b"550 5.7.8 not for him",
            b"354 end with CRLF . CRLF",
        ]
        assert (await client.send(MESSAGE)).startswith(b"250 2.0.0")

    run(scenario)


def test_a_session_is_one_conversation(tmp_path: Path) -> None:
    """Several messages, RSET between them: the filter hears of the connection once, and of what was given up."""

    async def scenario() -> None:
        one = await Filter({}).start()
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        mail = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\n"
        await client.send(b"EHLO me.test\r\n" + mail + b"RSET\r\n" + mail + b"DATA\r\n")
        assert (await client.send(MESSAGE)).startswith(b"250")
        await client.send(mail + b"DATA\r\n")
        assert (await client.send(MESSAGE)).startswith(b"250")
        await client.send(b"QUIT\r\n")
        client.connection.connection_lost(None)
        await one.ended()
        commands = "".join(command for command, _ in one.heard if command != "D")
        assert commands == "OCH" + "MRA" + "MRTLLLNBE" + "MRTLLLNBE" + "Q"

    run(scenario)


def test_chunks_are_shown_as_a_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({"T": [b"r"]}).start()
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        await client.send(b"EHLO me.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\n")
        got = await client.send(b"BDAT 9\r\nA: b\r\n\r\nxBDAT 3 LAST\r\ny\r\n")
        assert got.startswith(b"250 2.0.0 chunk") and got.splitlines()[-1].startswith(b"550 5.7.1")

    run(scenario)


def test_a_filter_that_was_away_is_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({"M": []}).start()
        client = Bench(str(tmp_path), outbound={"milters": [milter(one, timeout=0.2)]}).open("smtp")
        await client.send(b"EHLO me.test\r\n")
        assert (await client.send(b"MAIL FROM:<a@b.test>\r\n")).startswith(b"451 4.7.1")
        one.answers.clear()
        assert (await client.send(b"MAIL FROM:<a@b.test>\r\n")).startswith(b"250")
        assert one.said("H") == [b"me.test\x00"] * 2

    run(scenario)


def test_a_filter_that_dies_lets_nothing_pass(tmp_path: Path) -> None:
    """Between two recipients: from there on everything of this message is answered for it."""

    async def scenario() -> None:
        one = await Filter({}).start()
        one.judge = lambda data: b"c" if b"user" in data else b"?"
        client = Bench(str(tmp_path), outbound={"milters": [milter(one)]}).open("smtp")
        got = await client.send(
            b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nRCPT TO:<other@example.test>\r\n"
            b"RCPT TO:<user@any.test>\r\nDATA\r\n"
        )
        assert [line[:9] for line in got.splitlines()[-4:]] == [b"250 2.1.5"] + [b"451 4.7.1"] * 3

    run(scenario)


def test_a_large_message_is_changed(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({"E": [b"hX-Seen\x00yes\x00", b"c"]}).start()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(one)]})
        client = bench.open("smtp")
        await client.send(b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        body = b"x" * 70 + b"\r\n"
        assert (await client.send(b"Subject: big\r\n\r\n" + body * 10000 + b".\r\n")).startswith(b"250")
        (kept,) = [bytes(m.content) for box in bench.store.boxes.values() for m in box.messages]  # type: ignore[attr-defined]
        assert b"Subject: big\nX-Seen: yes\n\n" in kept and kept.count(b"x\n") == 10000
        assert b"".join(one.said("B")) == body * 10000

    run(scenario)


def test_changes_are_made_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await Filter(
            {
                "E": [
                    b"hX-Spam\x00no\x00",
                    b"i" + struct.pack(">I", 0) + b"DKIM-Signature\x00v=1;\n\tb=abc\x00",
                    b"m" + struct.pack(">I", 2) + b"x-old\x00TWO\x00",
                    b"m" + struct.pack(">I", 1) + b"X-Old\x00\x00",
                    b"p",
                    b"bnew body\r\n",
                    b"bmore\r\n",
                    b"c",
                ]
            }
        ).start()
        second = await Filter({}).start()
        reply, (kept,) = await deliver(tmp_path, [milter(first), milter(second)])
        assert reply.startswith(b"250")
        header, _, body = kept.partition(b"\n\n")
        assert body == b"new body\nmore\n"
        assert header.endswith(b"DKIM-Signature: v=1;\n\tb=abc\nSubject: hello\nx-old: TWO\nX-Spam: no")
        assert second.said("L")[0] == b"DKIM-Signature\x00v=1;\n\tb=abc\x00"

    run(scenario)


UNTOUCHED = [
    b"Paper jam in tray 2\r\nsecond line\r\n",
    b"Paper jam in tray 2\r\n\r\nX-Old: no field\r\n",
    b"Sub ject: x\r\nX-Old: 1\r\n\r\nbody\r\n",
    b"Subject: x\r\nno field at all\r\nX-Old : 1\r\n folded\r\n\r\nbody\r\n\r\nX-Old: 2\r\n",
    b"From a@b.test Mon Nov  2 10:00:00 2026\r\nSubject: x\r\n\r\nbody\r\n",
    b"\xc3\xbc: x\r\nTo: me\r\n\r\n\r\n\r\nbody\r\n",
    b"Subject: only a header\r\n",
    b"\r\nonly a body\r\n",
    b"\r\n",
]
EDITS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (b"hX-New\x00one\x00", lambda kept: kept.replace(b"X-New: one\n", b"", 1)),
    (b"i" + struct.pack(">I", 0) + b"X-New\x00one\x00", lambda kept: kept.replace(b"X-New: one\n", b"", 1)),
    (b"m" + struct.pack(">I", 1) + b"Nobody\x00\x00", lambda kept: kept),
    (b"q\x00", lambda kept: kept),
]


@pytest.mark.parametrize("content", UNTOUCHED, ids=range(len(UNTOUCHED)))
@pytest.mark.parametrize(("edit", "back"), EDITS, ids=range(len(EDITS)))
def test_a_change_touches_nothing_else(
    tmp_path: Path, content: bytes, edit: bytes, back: Callable[[bytes], bytes]
) -> None:
    """What is kept is, but for the change, what is kept without a filter."""

    async def scenario() -> None:
        one = await Filter({"E": [edit, b"c"]}).start()
        kept = [(await deliver(tmp_path, milters, message=content + b".\r\n"))[1][0] for milters in ([], [milter(one)])]
        without, changed = (text[text.index(b"+0000\n") + 6 :] for text in kept)
        assert back(changed) == without and without.endswith(content.replace(b"\r\n", b"\n"))
        assert (edit[:1] in b"hi") == (changed != without)
        header = (b"\n" + changed).partition(b"\n\n")[0] + b"\n"
        assert edit[:1] not in b"hi" or b"X-New: one\n" in header

    run(scenario)


def test_only_fields_are_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}).start()
        text = b"From a@b.test Mon Nov  2 10:00:00 2026\r\nSub ject: x\r\nTo : me\r\n\tyou\r\nbroken\r\nCc:\r\n\r\nbody\r\n.\r\n"
        await deliver(tmp_path, [milter(one)], message=text)
        assert one.said("L") == [b"To\x00me\n\tyou\x00", b"Cc\x00\x00"] and one.said("B") == [b"body\r\n"]
        one.heard.clear()
        await deliver(tmp_path, [milter(one)], message=b"Paper jam in tray 2\r\nsecond line\r\n.\r\n")
        assert one.said("L") == [] and one.said("B") == [b"Paper jam in tray 2\r\nsecond line\r\n"]

    run(scenario)


@pytest.mark.parametrize("address", [b"<jos\xe9@example.test>", b"<a b@example.test>", b"<a@b.test> SIZE=1", b"\x01"])
@pytest.mark.parametrize("action", [b"+", b"-", b"e"])
def test_an_address_that_cannot_be_is_the_filter_s_trouble(tmp_path: Path, action: bytes, address: bytes) -> None:
    async def scenario() -> None:
        one = await Filter({"E": [action + address + b"\x00", b"c"]}).start()
        reply, kept = await deliver(tmp_path, [milter(one)])
        assert reply.startswith(b"451 4.7.1") and kept == []

    run(scenario)


def test_recipients_and_quarantine(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter(
            {"E": [b"-<user@example.test>\x00", b"+<other@example.test>\x00", b"+<x@far.test>\x00", b"c"]}
        ).start()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(one)]})
        client = bench.open("smtp")
        await client.send(b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        assert (await client.send(MESSAGE)).startswith(b"250")
        found = [(key[7], len(box.messages)) for key, box in bench.store.boxes.items() if box.messages]  # type: ignore[attr-defined]
        assert found == [(2, 1)]
        two = await Filter({"E": [b"qlooks odd\x00", b"c"]}).start()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(two)]})
        client = bench.open("smtp")
        await client.send(b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        assert (await client.send(MESSAGE)).startswith(b"250")
        assert [box.row.name for box in bench.store.boxes.values() if box.messages] == ["Junk"]  # type: ignore[attr-defined]

    run(scenario)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("added", [b"away@example.test", b"x@far.test", b"nobody@example.test"])
def test_a_recipient_that_cannot_be_served_is_not_called_delivered(tmp_path: Path, added: bytes, removed: bool) -> None:
    """Without a queue: an address here whose mail leaves, one of another host, and one that is nobody's."""

    async def scenario() -> None:
        gone = [b"-<user@example.test>\x00"] if removed else []
        one = await Filter({"E": [*gone, b"+<" + added + b">\x00", b"c"]}).start()
        notes = Notes()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(one)]})
        bench.directory.aliases["away@example.test"] = ["me@far.test"]
        bench.deliverer.history = notes  # type: ignore[assignment]
        client = bench.open("smtp")
        await client.send(b"EHLO me\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        reply = await client.send(MESSAGE)
        kept = [m for box in bench.store.boxes.values() for m in box.messages]  # type: ignore[attr-defined]
        if removed:
            assert reply == b"451 4.3.5 the filters of this server send the message where it cannot go\r\n"
            assert kept == []
        else:
            assert reply.startswith(b"250") and len(kept) == 1
        assert f"{added.decode()} of a filter is left out" in str(notes.lines)

    run(scenario)


def test_who_stays_by_lmtp(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({"E": [b"-<user@example.test>\x00", b"+<other@example.test>\x00", b"c"]}).start()
        reply, kept = await deliver(tmp_path, [milter(one)], kind="lmtp")
        assert reply.startswith(b"250") and reply.count(b"\r\n") == 1 and len(kept) == 1

    run(scenario)


class Notes(Noting):
    """The trace, in memory."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def note(self, ident: str, what: str, words: object = (), /, **fields: Any) -> None:
        self.lines.append((what, fields))


NONSENSE = [
    {"O": [b"x"]},
    {"O": []},
    {"E": [b"?"]},
    {"E": [b"m\x00"]},
    {"E": [b"hbad name\x00v\x00", b"c"]},
    {"C": [b"c" * 1_100_000]},  # more than LARGEST
]


@pytest.mark.parametrize("answers", NONSENSE)
@pytest.mark.parametrize(
    ("otherwise", "reply"), [("tempfail", b"451 4.7.1"), ("reject", b"550 5.7.1"), ("accept", b"250")]
)
def test_a_filter_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[bytes]], otherwise: str, reply: bytes
) -> None:
    monkeypatch.setattr(program, "LARGEST", 1 << 20)

    async def scenario() -> None:
        one = await Filter(answers).start()
        got, kept = await deliver(tmp_path, [milter(one, timeout=0.3, otherwise=otherwise)])
        assert got.startswith(reply) and len(kept) == (otherwise == "accept")
        if kept:
            assert b"Subject: hello\nX-Old: one\nX-Old: two\n\nfirst line\n.second\n" in kept[0]

    run(scenario)


def test_a_filter_that_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}).start()
        one.server.close()
        await one.server.wait_closed()
        got, kept = await deliver(tmp_path, [milter(one)])
        assert got.startswith(b"451 4.7.1") and kept == []

    run(scenario)


def test_parts_that_a_filter_does_not_want_are_not_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({}, protocol=0x01 | 0x02 | 0x10 | 0x80 | 0x200).start()
        got, _ = await deliver(tmp_path, [milter(one)])
        assert got.startswith(b"250")
        await one.ended()
        assert [command for command, _ in one.heard if command != "D"] == list("OMRLLLNEQ")

    run(scenario)


def test_lmtp_gives_a_reply_for_each(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = await Filter({"E": [b"r"]}).start()
        got, kept = await deliver(tmp_path, [milter(one)], USER, "other@example.test", kind="lmtp")
        assert got.count(b"550 5.7.1 ") == 2 and kept == []

    run(scenario)


@pytest.mark.parametrize("stage", ["greeting", "MAIL"])
def test_who_hangs_up_while_a_conversation_is_opened_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Else a stranger could open any number of them by hanging up at once."""

    async def scenario() -> None:
        one = await Filter({}).start()
        bench = Bench(str(tmp_path), outbound={"milters": [milter(one)]})
        opened: list[asyncio.StreamWriter] = []
        real = asyncio.open_connection

        async def hangs_up(*args: Any, **more: Any) -> Any:
            reader, writer = await real(*args, **more)
            opened.append(writer)
            if len(opened) == (1 if stage == "greeting" else 2):
                client.connection.connection_lost(None)
            return reader, writer

        monkeypatch.setattr(asyncio, "open_connection", hangs_up)
        client = bench.open("smtp")
        if stage == "MAIL":
            await client.send(b"EHLO x\r\n")
            opened[0].close()  # the filter was started again meanwhile
            await client.send(b"MAIL FROM:<a@b.test>\r\nRSET\r\nMAIL FROM:<a@b.test>\r\n")
        else:
            await client.settle()
        assert len(opened) == (1 if stage == "greeting" else 2)
        assert all(writer.is_closing() for writer in opened)

    run(scenario)
