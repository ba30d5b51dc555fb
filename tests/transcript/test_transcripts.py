"""Runs the dialogues of this folder: each is fed whole, octet by octet, and over a socket.

A file has lines ``C: ...`` (sent, with CRLF), ``S: ...`` (expected, in order; ``...`` stands for anything), and
``# ...`` comments; its first comment names the RFC sections. Lines ``M: name`` append the message of that name to
INBOX first; ``M: thread ID references subject`` is one made of these, with - for none, on one day after the other. Lines
``L: name=number`` set a limit of the configuration, or PROGRESS of imap.search. Lines ``R: name=value`` are rules for
strangers (policy.strangers.rules): then the client is one, and over a socket a balancer says so. All C lines up to the next S line are
sent at once; behind COMPRESS both sides are compressed. The folder names the protocol.
"""

import asyncio
import re
import socket
import zlib
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.net import networks
from fastmail.net.listener import Listener, Registry
from fastmail.policy.strangers.gate import Gate
from fastmail.policy.strangers.rules import Rules, rate
from fastmail.store.interface import NewMessage
from tests.support.sessions import Bench

HERE = Path(__file__).parent
FAR, NEAR = "192.0.2.1", "127.0.0.1"
FILES = sorted(HERE.glob("*/*.txt"))
MESSAGES = {
    "simple": b"From: Fred Foobar <foobar@blurdybloop.example>\nTo: mooch@owatagu.siam.edu.example\n"
    b"Subject: afternoon meeting\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n"
    b"Message-Id: <B27397-0100000@blurdybloop.example>\n"
    b"MIME-Version: 1.0\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\n\n"
    b"Hello Joe, do you think we can meet at 3:30 tomorrow?\n",
    "multi": b"From: a@b.example\nSubject: =?utf-8?q?sm=C3=B6rg=C3=A5s?=\nDate: Tue, 1 Mar 1994 10:00:00 +0000\n"
    b'Content-Type: multipart/mixed; boundary="XX"\n\npreamble\n--XX\nContent-Type: text/plain; charset=utf-8\n'
    b"Content-Transfer-Encoding: base64\n\nc23DtnJnw6VzCg==\n--XX\nContent-Type: message/rfc822\n\n"
    b"Subject: inner\nFrom: in@ner.example\n\ninside\n--XX--\n",
    "dots": b"Subject: dots\n\n.one\n..two\n.\nlast",
}


def message(name: str, day: int) -> bytes:
    """The octets of an ``M:`` line; ``day``: of its Date, where that is not given."""
    if not name.startswith("thread "):
        return MESSAGES[name]
    _, ident, references, subject = name.split(" ", 3)
    fields = [f"Message-ID: <{ident}@x>", f"Subject: {subject}", f"Date: {day} Jan 2000 12:00:00 +0000"]
    if references != "-":
        fields.append("References: " + " ".join(f"<{one}@x>" for one in references.split(",")))
    return "\n".join([*fields, "", "text\n"]).encode()


class Wire:
    """What is on the wire for what is sent, and what was sent for what is on the wire (RFC 4978)."""

    def __init__(self) -> None:
        self._deflate: Any = None
        self._inflate: Any = None

    def begins(self, sent: bytes, got: bytes) -> None:
        """Behind this both sides compress, if it was a COMPRESS that was taken."""
        if b" COMPRESS DEFLATE\r\n" in sent and b"OK DEFLATE active\r\n" in got:
            self._deflate, self._inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)

    def pack(self, data: bytes) -> bytes:
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH) if self._deflate else data

    def unpack(self, data: bytes) -> bytes:
        return self._inflate.decompress(data) if self._inflate else data


def bench_for(path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """With the limits that the dialogue asks for."""
    limits = dict(re.findall(r"(?m)^L: (\w+)=(-?\d+)$", path.read_text("utf-8")))
    if "PROGRESS" in limits:
        monkeypatch.setattr("fastmail.imap.turns.PROGRESS", int(limits.pop("PROGRESS")))
        monkeypatch.setattr("fastmail.imap.turns.SLICE", 0.0)
    bounds: dict[str, Any] = {name: int(value) for name, value in limits.items()}
    rules = rules_of(path)
    return Bench(str(staging), outbound={"gate": Gate(str(staging), rules)} if rules is not None else None, **bounds)


def rules_of(path: Path) -> Rules | None:
    """What the dialogue says of strangers."""
    found: dict[str, Any] = {}
    for name, value in re.findall(r"(?m)^R: (\w+)=(.*)$", path.read_text("utf-8")):
        if name == "rates":
            found[name] = (*found.get(name, ()), rate(value))
        else:
            found[name] = float(value) if "." in value else int(value) if value.isdigit() else value
    return Rules(**found) if found else None


def steps(path: Path) -> tuple[list[str], list[tuple[bytes, list[str]]]]:
    """(messages to append first, [(octets to send, expected lines)])."""
    messages: list[str] = []
    out: list[tuple[bytes, list[str]]] = [(b"", [])]
    for line in path.read_text("utf-8").splitlines():
        kind, text = line[:2], line[3:]
        if kind == "M:":
            messages.append(text)
        elif kind == "C:":
            if out[-1][1]:
                out.append((b"", []))
            out[-1] = (out[-1][0] + text.encode() + b"\r\n", [])
        elif kind == "S:":
            out[-1][1].append(text)
        else:
            assert line.startswith(("#", "L: ", "R: ")) or not line, f"{path}: {line!r}"
    return messages, out


def expected(line: str) -> str:
    return re.escape(line).replace(r"\.\.\.", ".*")


def check(path: Path, sent: bytes, got: bytes, wanted: list[str]) -> None:
    pattern = "".join(expected(line) + "\r\n" for line in wanted)
    text = got.decode("utf-8", "surrogateescape")
    assert re.fullmatch(pattern, text), f"{path.name}: to {sent!r}\nexpected {wanted}\ngot {text.splitlines()}"


async def prepare(bench: Bench, messages: list[str]) -> None:
    for day, name in enumerate(messages, 1):
        account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
        await bench.store.open(account)
        key = bench.store.find(account, "INBOX")
        assert key is not None
        data = message(name, day)
        await bench.store.append(
            account, key, [NewMessage((data,), mime.scan(data), mime.served_size(data), 800000000)]
        )


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_dialogue(path: Path, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages, dialogue = steps(path)

    async def main() -> None:
        bench = bench_for(path, tmp_path, monkeypatch)
        await prepare(bench, messages)
        client, wire = bench.open(path.parent.name, FAR if rules_of(path) is not None else NEAR), Wire()
        first = client.transport.data
        for number, (sent, wanted) in enumerate(dialogue):
            got = wire.unpack(await client.send(wire.pack(sent), step))
            wire.begins(sent, got)
            check(path, sent, first + got if number == 0 else got, wanted)

    asyncio.run(main())


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_dialogue_over_a_socket(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages, dialogue = steps(path)

    async def main() -> None:
        bench, wire = bench_for(path, tmp_path, monkeypatch), Wire()
        await prepare(bench, messages)
        far = rules_of(path) is not None
        balancers = [networks.parse(NEAR)] if far else []
        listener = Listener(Registry(), bench.makers[path.parent.name], bench.limits, b"", balancers=balancers)
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        await listener.start(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        if far:
            writer.write(f"PROXY TCP4 {FAR} {NEAR} 4711 25\r\n".encode())
        for sent, wanted in dialogue:
            writer.write(wire.pack(sent))
            got = b""
            pattern = re.compile("".join(expected(line) + "\r\n" for line in wanted))
            while not pattern.fullmatch(got.decode("utf-8", "surrogateescape")):
                try:
                    more = await asyncio.wait_for(reader.read(65536), 3)
                except TimeoutError:
                    more = b""
                if not more:
                    break
                got += wire.unpack(more)
            wire.begins(sent, got)
            check(path, sent, got, wanted)
        writer.close()
        listener.close()

    asyncio.run(main())
