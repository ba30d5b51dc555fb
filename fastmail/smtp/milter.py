"""Mail filters by the milter protocol (version 6, as Sendmail and Postfix speak it; no RFC defines it; replies follow
RFC 5321): rspamd, OpenDKIM, ClamAV and others see each connection, command and message when it comes, and may refuse,
drop or change it.

At every stage (connection, EHLO, MAIL, RCPT, DATA, the message) the filters are asked before the client gets its reply,
one after the other; each sees what the earlier ones changed. So the sender gets the verdict in the reply, and no report
is needed. If a filter does not answer, is slow or breaks the protocol, the configuration decides for it from MAIL on;
it is tried again with the next MAIL.
"""

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail._core import smtp as grammar
from fastmail._core.lines import to_crlf, to_lf
from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.message.header import Edited, Octets
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

VERSION = 6
# what a filter may do: add headers, change the body, add and remove recipients, change headers, quarantine, the sender
ACTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20 | 0x40
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HEADERS, NO_EOH = (1 << n for n in range(7))
NO_DATA, SKIP, LEADING_SPACE = 0x200, 0x400, 0x100000
# commands that a filter may leave unanswered
NO_REPLY = {"L": 0x80, "C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "N": 0x40000} | {"B": 0x80000}
CHUNK = 65535  # octets of content in one packet, which all versions of the protocol take
BIG = 262144  # octets of a message above which it is taken apart by another thread
LARGEST = 64 << 20  # octets of a filter's packet; one with a changed body is the longest
TOGETHER = 64  # header fields that are sent before other sessions have their turn
_REPLY = re.compile(r"([45]\d\d)[ -](?:([45]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)
_MORE_REPLY = re.compile(r"\r?\n\d{3}[ -](?:\d\.\d{1,3}\.\d{1,3} )?")  # the beginning of a reply's next line


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
    """The filters' decision about a message. If ``refusal`` is None the message is accepted, as it is here."""

    content: bytes
    refusal: Outcome | None = None
    discard: bool = False
    quarantine: str = ""
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    sender: str | None = None


class Filters:
    """The filters of one SMTP session. The methods are the stages, in the order of the protocol. Each returns the reply
    that refuses the stage, or None."""

    def __init__(self, milters: Sequence[Milter], hostname: str, peer: str) -> None:
        self._talks = [_Talk(milter, hostname, peer) for milter in milters]
        self._asked_data = False

    async def connect(self) -> Outcome | None:
        return await self._each(lambda talk: talk.connect(), early=True)

    async def hello(self, name: str, cipher: Sequence[object]) -> Outcome | None:
        """``cipher``: (name, version of TLS, bits) of the session, empty without TLS."""
        return await self._each(lambda talk: talk.hello(name, cipher), early=True)

    async def mail(self, number: str, envelope: Envelope, words: Sequence[bytes]) -> Outcome | None:
        """``number``: how logs call the message; ``words``: the parameters of the command."""
        self._asked_data = False
        return await self._each(lambda talk: talk.mail(number, envelope, words), again=True)

    async def rcpt(self, address: str, words: Sequence[bytes]) -> Outcome | None:
        return await self._each(lambda talk: talk.rcpt(address, words))

    async def data(self) -> Outcome | None:
        self._asked_data = True
        return await self._each(lambda talk: talk.data())

    async def message(self, content: bytes) -> Verdict:
        """Show the message (LF). With BDAT it is the first that filters hear of its content."""
        verdict = Verdict(content)
        if not self._asked_data:
            verdict.refusal = await self.data()
        for talk in self._talks:
            if verdict.refusal is None and not verdict.discard:
                verdict.refusal = await talk.guarded(lambda talk: talk.message(verdict))
                verdict.discard = verdict.discard or talk.discards
        self.abort()  # for those that were not shown all of it
        return verdict

    async def _each(
        self, ask: Callable[["_Talk"], Awaitable[None]], early: bool = False, again: bool = False
    ) -> Outcome | None:
        for talk in self._talks:
            refusal = await talk.guarded(ask, early, again)
            if refusal is not None:
                return refusal
        return None

    def abort(self) -> None:
        """The transaction ended without a message."""
        for talk in self._talks:
            talk.abort()

    def close(self) -> None:
        """The session is over."""
        for talk in self._talks:
            talk.close(True)


class _Talk:
    """One filter and one session."""

    def __init__(self, milter: Milter, hostname: str, peer: str) -> None:
        self._milter = milter
        self._hostname = hostname
        self._peer = peer
        self._hello = ""
        self._cipher: Sequence[object] = ()
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader
        self._protocol = 0
        self._content = False  # between MAIL and the end of its message
        self._silent = False  # it accepted all that may come in this session
        self._done = False  # it has decided about this message
        self._away = False
        self._over = False  # the session has ended
        self._refusal: Outcome | None = None
        self.discards = False
        self._number = ""
        self._header: Edited | None = None
        self._body = b""
        self._fresh = False  # the body is a new one

    async def guarded(
        self, stage: Callable[["_Talk"], Awaitable[None]], early: bool = False, again: bool = False
    ) -> Outcome | None:
        """Run a stage; the reply that refuses it, or stands in for the filter when that fails, and from then on until
        it is asked ``again``. Before MAIL (``early``) nothing stands in: it may be back by then."""
        self._refusal = None
        if self._away and not again:
            return None if early else self._stand_in()
        try:
            async with asyncio.timeout(self._milter.timeout):
                await stage(self)
        except (MilterTrouble, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError, struct.error) as error:
            if not self._over:
                count("milter.failed")
                then = self._milter.otherwise
                log.event("milter.failed", "warning", milter=self._milter.address, error=error or "timeout", then=then)
            self._away = True
            self.close()
            return None if early else self._stand_in()
        return self._refusal

    def _stand_in(self) -> Outcome | None:
        """The reply for a filter that is away."""
        if self._milter.otherwise == "reject":
            return Outcome(550, "5.7.1", "the message can not be checked")
        if self._milter.otherwise != "accept":
            return Outcome(451, "4.7.1", "the message can not be checked now, try again later")
        return None

    @property
    def _idle(self) -> bool:
        return self._silent or self._done

    # ---------------------------------------------------------------- stages

    async def connect(self) -> None:
        """Open the conversation, and tell who has come."""
        place = self._milter.address
        if place.startswith("unix:"):
            self._reader, self._writer = await asyncio.open_unix_connection(place[5:])
        else:
            host, _, port = place.rpartition(":")
            self._reader, self._writer = await asyncio.open_connection(host.strip("[]"), int(port))
        if self._over:  # the client hung up meanwhile: nobody else would close the conversation
            raise MilterTrouble("the session is over")
        self._away = False
        await self._negotiate()
        address = self._peer if self._peer != "local" else ""
        kind = b"U" if not address else b"6" if ":" in address else b"4"
        shown = f"[{address}]" if address else "localhost"
        rest = kind if kind == b"U" else kind + struct.pack(">H", 0) + address.encode() + b"\0"
        self._macros("C", j=self._hostname, daemon_name="fastmail", v="fastmail")
        await self._step("C", shown.encode() + b"\0" + rest, NO_CONNECT)
        self._silent, self._done = self._done, False

    async def hello(self, name: str, cipher: Sequence[object]) -> None:
        self._hello, self._cipher = name, cipher
        if self._idle:
            return
        if cipher:
            self._macros("H", tls_version=str(cipher[1]), cipher=str(cipher[0]), cipher_bits=str(cipher[2]))
        await self._step("H", (name or "unknown").encode() + b"\0", NO_HELO)
        self._silent, self._done = self._done, False

    async def mail(self, number: str, envelope: Envelope, words: Sequence[bytes]) -> None:
        self._done = self.discards = False
        self._number = number
        if self._away or self._writer is None:
            await self.connect()
            if self._refusal is None:
                await self.hello(self._hello, self._cipher)
            if self._refusal is not None:
                return
        self._content = True
        if self._idle:
            return
        self._macros(
            "M",
            i=number,
            auth_authen=envelope.login,
            auth_type="PLAIN" if envelope.login else "",
            mail_addr=envelope.sender,
            tls_version=str(self._cipher[1]) if self._cipher else "",
        )
        await self._step("M", b"\0".join([b"<" + envelope.sender.encode() + b">", *words, b""]), NO_MAIL)
        self._content = self._refusal is None

    async def rcpt(self, address: str, words: Sequence[bytes]) -> None:
        if self._idle:
            return
        self._macros("R", rcpt_addr=address)
        await self._step("R", b"\0".join([b"<" + address.encode() + b">", *words, b""]), NO_RCPT)
        if self._refusal is not None:
            self._done = False  # only this recipient is refused

    async def data(self) -> None:
        if not self._idle:
            await self._step("T", b"", NO_DATA)

    def abort(self) -> None:
        """The transaction is over; the filter is told when it has not seen its end."""
        if self._content and self._writer is not None:
            self._write("A", b"")
        self._content = self._done = False
        self._header, self._body = None, b""

    def close(self, quit: bool = False) -> None:
        """End the conversation; with ``quit`` for good, because the session is over."""
        self._over = self._over or quit
        writer, self._writer = self._writer, None
        if writer is not None:
            if quit:
                writer.write(struct.pack(">I", 1) + b"Q")
            writer.close()

    # ---------------------------------------------------------------- packets

    def _write(self, command: str, data: bytes) -> None:
        if self._writer is None:
            raise MilterTrouble("the conversation is over")
        self._writer.write(struct.pack(">I", len(data) + 1) + command.encode() + data)

    async def _read(self) -> tuple[str, bytes]:
        if self._writer is None:
            raise MilterTrouble("the conversation is over")
        await self._writer.drain()
        (length,) = struct.unpack(">I", await self._reader.readexactly(4))
        if not 0 < length <= LARGEST:
            raise MilterTrouble("a packet without a sensible length")
        packet = await self._reader.readexactly(length)
        return chr(packet[0]), packet[1:]

    async def _negotiate(self) -> None:
        offer = 0x7F | NO_DATA | SKIP | LEADING_SPACE | sum(NO_REPLY.values()) | 0x20000
        self._write("O", struct.pack(">III", VERSION, ACTIONS, offer))
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
            self._refusal = _refusal(answer, value)
        elif answer == "d":
            self._done = self.discards = True
        elif answer not in "cs":
            raise MilterTrouble(f"answer {answer!r} is not known")

    # ---------------------------------------------------------------- the message

    async def message(self, verdict: Verdict) -> None:
        """Show it, and take what the filter makes of it into the verdict."""
        if self._idle:
            return
        loop = asyncio.get_running_loop()
        big = len(verdict.content) > BIG
        self._fresh = False
        await (loop.run_in_executor(None, self._split, verdict.content) if big else _now(self._split, verdict.content))
        await self._show(verdict, loop if big else None)
        self._content = False
        if self._refusal is None and self._header is not None and (self._fresh or self._header.changed):
            verdict.content = await (
                loop.run_in_executor(None, self._joined, self._fresh) if big else _now(self._joined, self._fresh)
            )

    def _split(self, content: bytes) -> None:
        self._header = Edited(content)
        self._body = content[self._header.body :]

    def _joined(self, fresh: bool) -> bytes:
        """The message as the filter wants it; ``fresh``: its body is a new one."""
        header = self._header
        assert header is not None
        rest: list[Octets] = [header.content[header.end :]]
        if fresh:
            rest = [b"\n", self._body]
        pieces = header.pieces()
        if fresh and pieces and pieces[-1][-1] != 10:
            pieces.append(b"\n")
        return b"".join((*pieces, *rest))

    async def _show(self, verdict: Verdict, loop: asyncio.AbstractEventLoop | None) -> None:
        header = self._header
        assert header is not None
        self._macros("L", i=self._number)
        for at, (name, value) in enumerate(() if self._protocol & NO_HEADERS else header.fields()):
            text = value if self._protocol & LEADING_SPACE else value.removeprefix(b" ")
            await self._step("L", name + b"\0" + text + b"\0")
            if self._done:
                return
            if at % TOGETHER == 0 and self._writer is not None:  # where nothing is answered, nothing else waits
                await self._writer.drain()
                await asyncio.sleep(0)
        await self._step("N", b"", NO_EOH)
        body = b""
        if self._body and not self._protocol & NO_BODY:
            body = await (loop.run_in_executor(None, to_crlf, self._body) if loop else _now(to_crlf, self._body))
        for start in range(0, len(body), CHUNK):
            if self._done:
                return
            if await self._step("B", body[start : start + CHUNK]) == "s":
                break
        if self._done:
            return
        self._macros("E", i=self._number)
        self._write("E", b"")
        fresh: list[bytes] = []
        while True:
            answer, value = await self._read()
            if answer == "b":
                fresh.append(value)
            elif answer in "hime+2-eqp":
                self._change(verdict, answer, value)
            else:
                self._judge(answer, value)
                break
        if fresh:
            self._body = to_lf(b"".join(fresh))
            self._fresh = True

    # ---------------------------------------------------------------- what is changed

    def _change(self, verdict: Verdict, answer: str, value: bytes) -> None:
        if answer in "him":
            index = -1
            if answer != "h":
                (index,) = struct.unpack_from(">I", value)
                value = value[4:]
            name, text = value.split(b"\0")[:2]
            self._change_field(answer, index, name, to_lf(text))
        elif answer in "+2":
            verdict.added.append(_path(value))
        elif answer == "-":
            verdict.removed.append(_path(value))
        elif answer == "e":
            verdict.sender = _path(value)
        elif answer == "q":
            verdict.quarantine = value.rstrip(b"\0").decode("utf-8", "replace")[:200] or "quarantined"

    def _change_field(self, answer: str, index: int, name: bytes, text: bytes) -> None:
        if not name or any(c <= 32 or c == 58 or c > 126 for c in name) or b"\0" in text:
            raise MilterTrouble("a header field that can not be")
        text = re.sub(rb"\n(?![ \t])", b"\n\t", text.rstrip(b"\n"))
        value = text if self._protocol & LEADING_SPACE else b" " + text
        assert self._header is not None
        if answer == "h":
            self._header.add(name, value)
        elif answer == "i":
            self._header.insert(index, name, value)
        elif not self._header.change(name, index, value if text else b"") and text:
            self._header.add(name, value)


def _path(value: bytes) -> str:
    """Return the address that a filter gave. MilterTrouble if it is not an address, because it would go into envelopes
    and trace fields."""
    text = value.split(b"\0")[0].strip()
    text = text if text.startswith(b"<") else b"<" + text + b">"
    try:
        path, end = grammar.parse_path(text, 0, True)
    except ValueError as error:
        raise MilterTrouble(f"an address that cannot be: {error}") from None
    if end != len(text):
        raise MilterTrouble("an address with something behind it")
    return b"@".join(path).decode() if path is not None else ""


def _refusal(answer: str, value: bytes) -> Outcome:
    if answer == "t":
        return Outcome(451, "4.7.1", "try again later")
    if answer == "y":
        said = value.rstrip(b"\0").decode("utf-8", "replace")
        # A filter writes each % twice, since Sendmail takes the text for a format.
        found = _REPLY.match(_MORE_REPLY.sub(" ", said.replace("%%", "%")))
        if found is not None:
            text = " ".join(found.group(3).split()) or "refused"
            return Outcome(int(found.group(1)), found.group(2) or f"{found.group(1)[0]}.7.1", text[:400])
    return Outcome(550, "5.7.1", "the message was refused")


async def _now(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)
