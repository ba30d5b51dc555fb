"""A keyword that another client made is in ``* FLAGS`` before any FETCH names it (RFC 3501 7.1, RFC 7162 3.1)."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import Bench

LOGIN = b"a LOGIN user@example.test secret\r\n"


@pytest.mark.parametrize(
    "command",
    [b"FETCH 1 (FLAGS)", b"UID FETCH 1 (UID FLAGS)", b"FETCH 1 (FLAGS BODY.PEEK[])", b"FETCH 1 (BODY[])",
     b"FETCH 1 (FLAGS PREVIEW)", b"FETCH 1 (FLAGS BINARY.SIZE[1])", b"UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
     b"STORE 1 +FLAGS (\\Flagged)", b"STORE 1 -FLAGS (\\Draft)", b"UID STORE 1 +FLAGS (theirs)", b"NOOP", b"CHECK",
     b"SEARCH ALL"],
)  # fmt: skip
def test_a_new_keyword_is_told_before_it_is_used(tmp_path: Path, command: bytes) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        one, other = bench.open("imap"), bench.open("imap")
        await one.send(LOGIN + b"b APPEND INBOX {14+}\r\nSubject: x\r\n\r\n\r\nc SELECT INBOX\r\n")
        await other.send(LOGIN + b"b SELECT INBOX\r\nc STORE 1 +FLAGS.SILENT (theirs)\r\n")
        lines = (await one.send(b"d " + command + b"\r\n")).splitlines()
        told = [n for n, line in enumerate(lines) if line.startswith(b"* FLAGS ") and b" theirs" in line]
        used = [n for n, line in enumerate(lines) if b" FETCH " in line and b" theirs" in line]
        assert used and len(told) == 1 and told[0] < used[0], lines
        assert lines[told[0] + 1].startswith(b"* OK [PERMANENTFLAGS ") and lines[-1].startswith(b"d OK ")
        again = await one.send(b"e FETCH 1 FLAGS\r\n")
        assert b"theirs" in again and b"* FLAGS" not in again

    asyncio.run(main())
