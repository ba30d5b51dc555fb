"""Runs the dialogues of this folder: each is fed whole, octet by octet, and over a socket.

A file has lines ``C: ...`` (sent, with CRLF), ``S: ...`` (expected, in order; ``...`` stands for anything), and
``# ...`` comments; its first comment names the RFC sections. Lines ``M: name`` append the message of that name to
INBOX first. All C lines up to the next S line are sent at once. The folder names the protocol.
"""

import asyncio
import re
import socket
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail.net.listener import Listener, Registry
from fastmail.store.interface import NewMessage
from tests.support.sessions import Bench

HERE = Path(__file__).parent
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
            assert line.startswith("#") or not line, f"{path}: {line!r}"
    return messages, out


def expected(line: str) -> str:
    return re.escape(line).replace(r"\.\.\.", ".*")


def check(path: Path, sent: bytes, got: bytes, wanted: list[str]) -> None:
    pattern = "".join(expected(line) + "\r\n" for line in wanted)
    text = got.decode("utf-8", "surrogateescape")
    assert re.fullmatch(pattern, text), f"{path.name}: to {sent!r}\nexpected {wanted}\ngot {text.splitlines()}"


async def prepare(bench: Bench, messages: list[str]) -> None:
    for name in messages:
        account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
        await bench.store.open(account)
        key = bench.store.find(account, "INBOX")
        assert key is not None
        data = MESSAGES[name]
        await bench.store.append(
            account, key, [NewMessage((data,), mime.scan(data), mime.served_size(data), 800000000)]
        )


@pytest.mark.parametrize("step", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_dialogue(path: Path, step: int, tmp_path: Path) -> None:
    messages, dialogue = steps(path)

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await prepare(bench, messages)
        client = bench.open(path.parent.name)
        first = client.transport.data
        for number, (sent, wanted) in enumerate(dialogue):
            got = await client.send(sent, step)
            check(path, sent, first + got if number == 0 else got, wanted)

    asyncio.run(main())


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_dialogue_over_a_socket(path: Path, tmp_path: Path) -> None:
    messages, dialogue = steps(path)

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await prepare(bench, messages)
        listener = Listener(Registry(), bench.makers[path.parent.name], bench.limits, b"")
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        await listener.start(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        for sent, wanted in dialogue:
            writer.write(sent)
            got = b""
            pattern = re.compile("".join(expected(line) + "\r\n" for line in wanted))
            while not pattern.fullmatch(got.decode("utf-8", "surrogateescape")):
                try:
                    more = await asyncio.wait_for(reader.read(65536), 3)
                except TimeoutError:
                    more = b""
                if not more:
                    break
                got += more
            check(path, sent, got, wanted)
        writer.close()
        listener.close()

    asyncio.run(main())
