"""clamd: what goes there, and what its answers mean."""

import asyncio
import mmap
import tempfile

import pytest

from fastmail.policy.scanners import clamd, wire
from fastmail.policy.scanners.nouns import TooLarge, Trouble
from tests.support.scanning import MESSAGE, ask, scanner


@pytest.mark.parametrize("singly", [False, True])
def test_a_clean_message(singly: bool) -> None:
    found, there = ask("clamav", b"stream: OK\0", "clamd", singly=singly)
    assert (found.said, found.action, found.virus, found.reasons) == ("clean", "accept", "clean", ())
    assert there.heard == [MESSAGE]


@pytest.mark.parametrize("singly", [False, True])
def test_an_infected_message(singly: bool) -> None:
    found, _ = ask("clamav", b"stream: Win.Test.EICAR_HDB-1 FOUND\0", "clamd", singly=singly)
    assert found.action == "refuse" and found.always and found.virus == "infected"
    assert found.reply == (554, "5.7.1", "the message is infected: Win.Test.EICAR_HDB-1")


def test_an_infected_message_may_go_to_junk() -> None:
    found = clamd.finding(scanner("clamav", "x:1", virus="junk"), "stream: Eicar FOUND")
    assert (found.action, found.always, found.virus) == ("junk", True, "infected")
    found = clamd.finding(scanner("clamav", "x:1", virus="quarantine"), "stream: Eicar FOUND")
    assert (found.action, found.always, found.virus) == ("quarantine", True, "infected")


def test_names_of_viruses_are_cut_down() -> None:
    found = clamd.finding(scanner("clamav", "x:1"), "stream: a\r\nX: b\0" + "c" * 1000 + " FOUND")
    assert found.reply[2].isascii() and "\n" not in found.reply[2] and len(found.reply[2]) < 200


def test_content_goes_in_pieces_also_from_a_file() -> None:
    content = MESSAGE * (3 * wire.PIECE // len(MESSAGE))
    for empty in (b"", content):
        _, there = ask("clamav", b"stream: OK\0", "clamd", empty)
        assert there.heard == [empty]
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        lent = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _, there = ask("clamav", b"stream: OK\0", "clamd", lent)
        assert there.heard == [content]


def test_it_may_say_that_a_message_is_too_large_before_all_was_sent() -> None:
    """Nothing more is sent then, although it reads nothing more."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        writer.write(b"INSTREAM size limit exceeded. ERROR\0")
        await writer.drain()
        await asyncio.Event().wait()

    with pytest.raises(TooLarge):
        ask("clamav", early, "clamd", bytes(64 << 20))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"stream: OK",  # no end
        b"stream: \0",
        b"stream: Can't allocate memory ERROR\0",
        b"stream: OK\nstream: Eicar FOUND\0",
        b"UNKNOWN COMMAND\0",
        b"OK\0",
        b"\xff" * 100 + b"\0",
        b"x" * (wire.ANSWER + 1),
    ],
)
def test_anything_else_is_no_clean_message(answer: bytes) -> None:
    if answer.startswith(b"stream: OK\n"):
        assert clamd.finding(scanner("clamav", "x:1"), answer[:-1].decode()).virus == "infected"
        return
    with pytest.raises(Trouble):
        ask("clamav", answer, "clamd")
