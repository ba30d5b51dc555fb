"""SpamAssassin's spamd: how much does a message look like spam? By SYMBOLS of its protocol SPAMC/1.5: a request line
and fields as in HTTP, the message, then our half of the connection is closed. The answer, whose last lines name the
rules:

    SPAMD/1.1 0 EX_OK
    Content-length: 33
    Spam: True ; 15.0 / 5.0

    BAYES_99,HTML_MESSAGE,URIBL_BLACK

The score is added to ours, times the scanner's weight; "Spam: True", which is SpamAssassin's own threshold, makes the
message junk by itself. The message goes there with a Received field of ours in front, because its rules about the
client read the topmost one.
"""

import asyncio
import re
from functools import partial

from fastmail.policy.reasons import ACCEPT, JUNK, WORDS, Finding, Reason
from fastmail.policy.scanners import wire
from fastmail.policy.scanners.nouns import Scanner, Shown, Trouble

OWNER = "User"  # the field by which spamd tells users apart
FIELDS = 32  # lines in front of the rules
RULES = 16384  # octets of their names
_STATUS = re.compile(rb"SPAMD/[0-9.]{1,8} (\d{1,5}) ?([^\r\n]*)")
_SPAM = re.compile(r"(True|Yes|False|No) ; (-?\d{1,6}(?:\.\d{1,6})?) / (-?\d{1,6}(?:\.\d{1,6})?)", re.IGNORECASE)
_RULE = re.compile(r"[A-Za-z0-9_]{1,100}")


async def ask(scanner: Scanner, shown: Shown) -> Finding:
    """What spamd says. Trouble, OSError."""
    said, rules = await wire.exchange(scanner.address, partial(_send, scanner, shown), _read)
    return finding(scanner, said, rules)


async def _send(scanner: Scanner, shown: Shown, writer: asyncio.StreamWriter) -> None:
    size = len(shown.front) + len(shown.content)
    head = f"SYMBOLS SPAMC/1.5\r\nContent-length: {size}\r\n".encode()
    head += wire.owner_field(OWNER, scanner, shown.owner) + b"\r\n"
    await wire.send_all(writer, head + shown.front, shown.content)
    if writer.can_write_eof():
        writer.write_eof()


async def _fields(reader: asyncio.StreamReader) -> dict[bytes, bytes]:
    """The fields of an answer by their names (lower case). Trouble where spamd says that it failed."""
    line = (await wire.until(reader, b"\n")).rstrip(b"\r")
    status = _STATUS.fullmatch(line)
    if status is None:
        raise Trouble("it speaks another protocol than spamd")
    if int(status.group(1)):
        raise Trouble(f"spamd says {line[:WORDS].decode('ascii', 'replace')!r}")
    fields: dict[bytes, bytes] = {}
    for _ in range(FIELDS):
        line = (await wire.until(reader, b"\n")).rstrip(b"\r")
        if not line:
            break
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    else:
        raise Trouble("its answer has too many fields")
    return fields


async def _read(reader: asyncio.StreamReader) -> tuple[str, str]:
    """(value of the Spam field, rules)."""
    fields = await _fields(reader)
    length = fields.get(b"content-length", b"")
    most = min(RULES, int(length)) if length.isdigit() and len(length) < 10 else RULES
    rules = await wire.rest(reader, most)
    return fields.get(b"spam", b"")[:WORDS].decode("ascii", "replace"), rules.decode("ascii", "replace")


def finding(scanner: Scanner, said: str, rules: str) -> Finding:
    """What an answer means."""
    found = _SPAM.fullmatch(said)
    if found is None:
        raise Trouble(f"spamd says {said!r} of the message")
    spam = found.group(1).lower() in ("true", "yes")
    score, threshold = float(found.group(2)), float(found.group(3))
    why = f"{score:g} of {threshold:g}: {' '.join(_RULE.findall(rules))}"[:WORDS]
    reason = Reason(scanner.name, round(score * scanner.weight, 3), why)
    return Finding(scanner.name, f"{score:g}/{threshold:g}", (reason,), JUNK if spam else ACCEPT)


async def learn(scanner: Scanner, content: bytes, spam: bool, owner: str) -> bool:
    """Have spamd learn a message of the account ``owner`` by TELL, which it must allow (--allow-tell). Returns False
    where it knew the message. Trouble, OSError."""

    async def send(writer: asyncio.StreamWriter) -> None:
        kind = "spam" if spam else "ham"
        head = f"TELL SPAMC/1.5\r\nContent-length: {len(content)}\r\nMessage-class: {kind}\r\nSet: local\r\n"
        whole = head.encode("ascii") + wire.owner_field(OWNER, scanner, owner) + b"\r\n"
        await wire.send_all(writer, whole, content)
        if writer.can_write_eof():
            writer.write_eof()

    return b"didset" in await wire.exchange(scanner.learns, send, _fields)
