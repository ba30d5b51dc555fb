"""ClamAV's clamd: is a message infected? By INSTREAM, as clamd(8) has it: ``zINSTREAM`` and NUL, then pieces with their
length in front (four octets, big-endian), then a length of zero. One answer, ended by NUL:

    stream: OK
    stream: Eicar-Signature FOUND
    INSTREAM size limit exceeded. ERROR      (StreamMaxLength; it may come while we still send)

Anything else is Trouble: clamd could not look, which is no clean message.
"""

import asyncio
import re
import struct
from functools import partial

from fastmail.policy.reasons import WORDS, Finding, Reason
from fastmail.policy.scanners import wire
from fastmail.policy.scanners.nouns import Scanner, Shown, TooLarge, Trouble

_ANSWER = re.compile(r"(?:stream|instream\([^()]{0,100}\)): (?:(OK)|(.+) FOUND)", re.IGNORECASE | re.DOTALL)
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/()+-]")
SIGNATURE = 100  # characters of a virus's name


async def ask(scanner: Scanner, shown: Shown) -> Finding:
    """What clamd says. Trouble, TooLarge, OSError."""
    answer = await wire.exchange(scanner.address, partial(_send, shown), _read)
    return finding(scanner, answer.decode("utf-8", "replace").strip())


async def _send(shown: Shown, writer: asyncio.StreamWriter) -> None:
    writer.write(b"zINSTREAM\0")
    async for piece in wire.pieces(shown.content):
        writer.write(struct.pack(">I", len(piece)))
        writer.write(piece)
        await writer.drain()
    writer.write(bytes(4))
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await wire.until(reader, b"\0")


def finding(scanner: Scanner, answer: str) -> Finding:
    """What an answer means."""
    found = _ANSWER.fullmatch(answer)
    if found is None:
        if "size limit exceeded" in answer.lower():
            raise TooLarge
        raise Trouble(f"clamd says {answer[:WORDS]!r}")
    if found.group(1):
        return Finding(scanner.name, "clean", virus="clean")
    name = _UNSAFE.sub("?", found.group(2).strip())[:SIGNATURE]
    return Finding(
        scanner.name,
        f"virus {name}",
        (Reason(f"{scanner.name}.virus", 0.0, name),),
        scanner.virus,
        (554, "5.7.1", f"the message is infected: {name}"),
        always=True,
        virus="infected",
    )
