"""Mail filters by the milter protocol (version 6, as Sendmail and Postfix speak it; it has no RFC 5321 of its own):
rspamd, OpenDKIM, ClamAV and others see each message before it is taken, and may refuse, drop or change it.

The whole conversation takes place when the message is complete and before it is answered, filter after filter, so a
sender hears the verdict and nothing has to be sent back. A recipient that a filter refuses refuses the message, as one
reply stands for all. A filter that is away, slow or talks nonsense is answered for as the configuration says.
"""

import asyncio
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail._core.lines import to_crlf, to_lf
from fastmail.delivery.deliver import Envelope, Outcome
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

VERSION = 6
# what a filter may do: add headers, change the body, add and remove recipients, change headers, quarantine, the sender
ACTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 | 0x40
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH = (1 << n for n in range(7))
NO_DATA, SKIP, LEADING_SPACE = 0x200, 0x400, 0x100000
# commands that a filter may leave unanswered
NO_REPLY = {"L": 0x80, "C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "N": 0x40000} | {"B": 0x80000}
CHUNK = 65535
LARGEST = 64 << 20
_REPLY = re.compile(r"([45]\d\d) (?:([45]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)
_FIELD = re.compile(rb"([^:\s]+)[ \t]*:(.*?)(?:\n(?![ \t])|\Z)", re.DOTALL)


class MilterTrouble(Exception):
    """The filter is of no use now; str() says why."""


@dataclass(frozen=True, slots=True)
class Milter:
    """One filter: ``address`` is "host:port" or "unix:path"; ``otherwise``: accept, tempfail or reject when it
    fails."""

    address: str
    timeout: float = 30.0
    otherwise: str = "tempfail"


@dataclass(slots=True)
class Verdict:
    """What is to become of a message. ``refusal`` None: take it, as it is here."""

    content: bytes
    refusal: Outcome | None = None
    discard: bool = False
    quarantine: str = ""
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    sender: str | None = None


@dataclass(slots=True)
class About:
    """What filters are told of the session."""

    envelope: Envelope
    hostname: str
    tls: bool
    number: str


async def ask(milters: Sequence[Milter], about: About, content: bytes) -> Verdict:
    """Show a message (LF) to every filter, each seeing what those before it made of it."""
    verdict = Verdict(content)
    for milter in milters:
        try:
            async with asyncio.timeout(milter.timeout):
                await _Talk(about, verdict).run(milter)
        except (MilterTrouble, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, struct.error) as error:
            count("milter.failed")
            log.event(
                "milter.failed", "warning", milter=milter.address, error=error or "timeout", then=milter.otherwise
            )
            if milter.otherwise == "reject":
                verdict.refusal = Outcome(550, "5.7.1", "the message can not be checked")
            elif milter.otherwise != "accept":
                verdict.refusal = Outcome(451, "4.7.1", "the message can not be checked now, try again later")
        if verdict.refusal is not None or verdict.discard:
            break
    return verdict


class _Talk:
    """One filter and one message."""

    def __init__(self, about: About, verdict: Verdict) -> None:
        self._about = about
        self._verdict = verdict
        self._protocol = 0
        self._done = False
        head, _, body = verdict.content.partition(b"\n\n")
        if verdict.content.startswith(b"\n"):
            head, body = b"", verdict.content[1:]
        self._fields = [(name, value) for name, value in _FIELD.findall(head + b"\n")]
        self._body = body
        self._changed = False

    async def run(self, milter: Milter) -> None:
        if milter.address.startswith("unix:"):
            self._reader, self._writer = await asyncio.open_unix_connection(milter.address[5:])
        else:
            host, _, port = milter.address.rpartition(":")
            self._reader, self._writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            await self._negotiate()
            await self._envelope()
            if not self._done:
                await self._message()
            if self._changed and self._verdict.refusal is None:
                head = b"".join(name + b":" + value + b"\n" for name, value in self._fields)
                self._verdict.content = head + b"\n" + self._body
            self._write("Q", b"")
        finally:
            self._writer.close()

    # ---------------------------------------------------------------- packets

    def _write(self, command: str, data: bytes) -> None:
        self._writer.write(struct.pack(">I", len(data) + 1) + command.encode() + data)

    async def _read(self) -> tuple[str, bytes]:
        await self._writer.drain()
        (length,) = struct.unpack(">I", await self._reader.readexactly(4))
        if not 0 < length <= LARGEST:
            raise MilterTrouble("a packet without a sensible length")
        packet = await self._reader.readexactly(length)
        return chr(packet[0]), packet[1:]

    async def _negotiate(self) -> None:
        offer = 0x7F | NO_DATA | SKIP | LEADING_SPACE | sum(NO_REPLY.values()) | 0x100 | 0x800 | 0x20000
        self._write("O", struct.pack(">III", VERSION, ACTIONS, offer & ~0x100))
        answer, data = await self._read()
        if answer != "O" or len(data) < 12:
            raise MilterTrouble("no answer to the negotiation")
        version, _, self._protocol = struct.unpack_from(">III", data)
        if version < 2:
            raise MilterTrouble(f"version {version} is too old")

    def _macros(self, command: str, **values: str) -> None:
        pairs = b"".join(
            (name if len(name) == 1 else "{" + name + "}").encode() + b"\0" + value.encode() + b"\0"
            for name, value in values.items()
            if value
        )
        self._write("D", command.encode() + pairs)

    async def _step(self, command: str, data: bytes, off: int = 0) -> str:
        """Send one command, unless the filter does not want it; its answer."""
        if off and self._protocol & off:
            return "c"
        self._write(command, data)
        if self._protocol & NO_REPLY.get(command, 0):
            return "c"
        while True:
            answer, value = await self._read()
            if answer != "p":
                break
        self._judge(answer, value)
        return answer

    def _judge(self, answer: str, value: bytes) -> None:
        if answer == "a":
            self._done = True
        elif answer in "rty":
            self._done = True
            self._verdict.refusal = _refusal(answer, value)
        elif answer == "d":
            self._done = self._verdict.discard = True
        elif answer not in "cs":
            raise MilterTrouble(f"answer {answer!r} is not known")

    # ---------------------------------------------------------------- what is told

    async def _envelope(self) -> None:
        about, envelope = self._about, self._about.envelope
        address = envelope.peer if envelope.peer != "local" else ""
        kind = b"U" if not address else b"6" if ":" in address else b"4"
        shown = f"[{address}]" if address else "localhost"
        place = kind if kind == b"U" else kind + struct.pack(">H", 0) + address.encode() + b"\0"
        self._macros("C", j=about.hostname, daemon_name="fastmail", v="fastmail")
        steps = [("C", shown.encode() + b"\0" + place, NO_CONNECT)]
        steps.append(("H", (envelope.helo or "unknown").encode() + b"\0", NO_HELO))
        for command, data, off in steps:
            await self._step(command, data, off)
            if self._done:
                return
        self._macros(
            "M",
            i=about.number,
            auth_authen=envelope.login,
            auth_type="PLAIN" if envelope.login else "",
            mail_addr=envelope.sender,
            tls_version="TLS" if about.tls else "",
        )
        await self._step("M", b"<" + envelope.sender.encode() + b">\0", NO_MAIL)
        for address, _ in envelope.recipients:
            if self._done:
                return
            self._macros("R", rcpt_addr=address)
            await self._step("R", b"<" + address.encode() + b">\0", NO_RCPT)
        if not self._done:
            await self._step("T", b"", NO_DATA)

    async def _message(self) -> None:
        self._macros("L", i=self._about.number)
        for name, value in list(self._fields):
            text = value if self._protocol & LEADING_SPACE else value.removeprefix(b" ")
            await self._step("L", name + b"\0" + text + b"\0", NO_HEADERS)
            if self._done:
                return
        await self._step("N", b"", NO_EOH)
        body = to_crlf(self._body) if self._body and not self._protocol & NO_BODY else b""
        for start in range(0, len(body), CHUNK):
            if self._done:
                return
            if await self._step("B", body[start : start + CHUNK]) == "s":
                break
        if self._done:
            return
        self._macros("E", i=self._about.number)
        self._write("E", b"")
        fresh: list[bytes] = []
        while True:
            answer, value = await self._read()
            if answer == "b":
                fresh.append(value)
            elif answer in "hime+2-eqp":
                self._change(answer, value)
            else:
                self._judge(answer, value)
                break
        if fresh:
            self._body = to_lf(b"".join(fresh))
            self._changed = True

    # ---------------------------------------------------------------- what is changed

    def _change(self, answer: str, value: bytes) -> None:
        if answer in "him":
            index = -1
            if answer != "h":
                (index,) = struct.unpack_from(">I", value)
                value = value[4:]
            name, text = value.split(b"\0")[:2]
            self._header(answer, index, name, to_lf(text))
        elif answer in "+2":
            self._verdict.added.append(_path(value))
        elif answer == "-":
            self._verdict.removed.append(_path(value))
        elif answer == "e":
            self._verdict.sender = _path(value)
        elif answer == "q":
            self._verdict.quarantine = value.rstrip(b"\0").decode("utf-8", "replace")[:200] or "quarantined"

    def _header(self, answer: str, index: int, name: bytes, text: bytes) -> None:
        if not name or any(c <= 32 or c == 58 or c > 126 for c in name) or b"\0" in text:
            raise MilterTrouble("a header field that can not be")
        text = re.sub(rb"\n(?![ \t])", b"\n\t", text.rstrip(b"\n"))
        value = text if self._protocol & LEADING_SPACE else b" " + text
        self._changed = True
        if answer == "h":
            self._fields.append((name, value))
        elif answer == "i":
            self._fields.insert(min(index, len(self._fields)), (name, value))
        else:
            same = [at for at, (one, _) in enumerate(self._fields) if one.lower() == name.lower()]
            if not 1 <= index <= len(same):
                if text:
                    self._fields.append((name, value))
            elif text:
                self._fields[same[index - 1]] = (name, value)
            else:
                del self._fields[same[index - 1]]


def _path(value: bytes) -> str:
    return value.split(b"\0")[0].decode("utf-8", "replace").strip().removeprefix("<").removesuffix(">")


def _refusal(answer: str, value: bytes) -> Outcome:
    if answer == "t":
        return Outcome(451, "4.7.1", "try again later")
    if answer == "y":
        found = _REPLY.match(value.rstrip(b"\0").decode("utf-8", "replace"))
        if found is not None:
            text = " ".join(found.group(3).split()) or "refused"
            return Outcome(int(found.group(1)), found.group(2) or f"{found.group(1)[0]}.7.1", text[:400])
    return Outcome(550, "5.7.1", "the message was refused")
