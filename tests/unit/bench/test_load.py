"""The load generator: what it sends is what it says, and a wrong answer is never counted as a success."""

import asyncio
from collections.abc import Callable

import pytest

from fastmail.bench import load


def served(answers: Callable[[bytes], bytes], greeting: bytes, work: load.Work, sessions: int) -> list[bytes]:
    """Run the load against a server of our own; what each connection sent."""
    heard: list[bytes] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = len(heard)
        heard.append(b"")
        writer.write(greeting)
        data = False
        while line := await reader.readline():
            heard[mine] += line
            if data and line != b".\r\n":
                continue
            answer = answers(b"." if data else line.strip())
            data = line.strip() == b"DATA" and answer.startswith(b"354")
            writer.write(answer)
            if line == b"QUIT\r\n":
                break
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(one, "127.0.0.1", 0)
        async with server:
            await load.deliver("127.0.0.1", server.sockets[0].getsockname()[1], work, sessions)

    asyncio.run(main())
    return heard


def polite(command: bytes) -> bytes:
    if command.startswith(b"EHLO"):
        return b"250-mx.example\r\n250 SIZE 1000\r\n"
    return b"354 go on\r\n" if command == b"DATA" else b"250 fine\r\n"


def test_a_message_has_about_the_size_that_was_asked_for() -> None:
    for size in (500, 4096, 51200):
        assert abs(len(load.message(size)) - size) < 200
    assert load.message(4096) != load.message(4096)  # another Message-ID each


@pytest.mark.parametrize("sessions", [1, 3])
def test_every_message_goes_out_once_and_is_timed(sessions: int) -> None:
    text = load.message(600).replace(b"\r\n.", b"\r\n..") + b".\r\n"
    work = load.Work(b"EHLO bench.example\r\n", 7, text, ["a@x", "b@x"], recipients=2)
    heard = served(polite, b"220 mx.example\r\n", work, sessions)
    assert len(heard) == sessions
    assert sum(one.count(b"MAIL FROM:") for one in heard) == 7 == len(work.latencies)
    assert sum(one.count(b"RCPT TO:") for one in heard) == 14
    assert all(took > 0 for took in work.latencies)


@pytest.mark.parametrize(
    ("verb", "answer"), [(b".", b"451 later\r\n"), (b"RCPT", b"550 nobody\r\n"), (b"MAIL", b"421 bye\r\n")]
)
def test_a_refusal_is_an_error_with_the_servers_words(verb: bytes, answer: bytes) -> None:
    work = load.Work(b"EHLO bench.example\r\n", 3, load.message(300) + b".\r\n", ["a@x"])
    with pytest.raises(AssertionError, match=answer[:3].decode()):
        served(lambda said: answer if said.startswith(verb) else polite(said), b"220 mx.example\r\n", work, 1)


def test_lmtp_waits_for_an_answer_of_each_recipient() -> None:
    def answers(command: bytes) -> bytes:
        return b"250 first\r\n250 second\r\n" if command == b"." else polite(command.replace(b"LHLO", b"EHLO"))

    work = load.Work(b"LHLO bench.example\r\n", 4, load.message(300) + b".\r\n", ["a@x", "b@x"], recipients=2)
    served(answers, b"220 mx.example LMTP\r\n", work, 1)
    assert len(work.latencies) == 4
