"""Other hosts for relay tests, in this process: a name server, and an SMTP server that does as it is told."""

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset


class NameServer(asyncio.DatagramProtocol):
    """Answers from ``records``: (name, type) -> texts. A domain that is nowhere does not exist; ``silent`` names get no
    answer, ``broken`` ones SERVFAIL. An answer is sent whole, however little the question has room for."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        self.records = records
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.secure = False  # pretend that DNSSEC was validated
        self.aliases: dict[str, str] = {}  # CNAME records, in front of the answer
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA | (dns.flags.AD if self.secure else 0)
        if name in self.aliases:
            alias = self.aliases[name]
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "CNAME", alias + "."))
            if (alias, kind) in self.records:
                found = self.records[(alias, kind)]
                reply.answer.append(dns.rrset.from_text_list(dns.name.from_text(alias), 60, "IN", kind, found))
        elif name in self.broken:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.records:
            reply.answer.append(dns.rrset.from_text_list(question.name, 60, "IN", kind, self.records[(name, kind)]))
        elif not any(known == name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(reply.to_wire(max_size=65535), peer)  # type: ignore[attr-defined]


async def name_server(records: dict[tuple[str, str], list[str]]) -> NameServer:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(records), local_addr=("127.0.0.1", 0)
    )
    server.port = transport.get_extra_info("sockname")[1]
    return server


@dataclass(slots=True)
class Taken:
    """One message that a Sink took."""

    mail: str
    rcpts: list[str]
    content: bytes


@dataclass
class Sink:
    """An SMTP server. ``answers``: what it says to a verb instead of yes, a text or a function of (sink, line);
    ``None`` as an answer ends the connection. ``extensions`` are what EHLO names."""

    answers: dict[str, Any] = field(default_factory=dict)
    extensions: list[str] = field(default_factory=lambda: ["PIPELINING", "8BITMIME", "SIZE 1000000", "DSN"])
    greeting: str = "220 sink ready"
    taken: list[Taken] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    connections: int = 0
    most: int = 0
    open: int = 0
    port: int = 0
    delay: float = 0.0
    server: asyncio.Server | None = None
    host: str = "127.0.0.1"

    async def start(self) -> "Sink":
        self.server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self._session(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    def _say(self, verb: str, line: str, usual: str) -> str | None:
        answer = self.answers.get(verb, usual)
        return answer(self, line) if callable(answer) else answer

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.greeting.encode() + b"\r\n")
        mail, rcpts = "", []
        while True:
            raw = await reader.readline()
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(line)
            verb = line.split(" ")[0].upper()
            usual = "250 2.0.0 ok"
            if verb == "EHLO":
                usual = "\r\n".join(["250-sink", *(f"250-{e}" for e in self.extensions[:-1])])
                usual = usual + f"\r\n250 {self.extensions[-1]}" if self.extensions else "250 sink"
            elif verb == "DATA":
                usual = "354 go on" if rcpts else "554 5.5.1 no valid recipients"
            elif verb == "RCPT" and not mail:
                usual = "503 5.5.1 MAIL first"
            elif verb == "BDAT":
                content = await reader.readexactly(int(line.split(" ")[1]))
                usual = await self._final(mail, rcpts, content) or ""
                if not usual:
                    return
                mail, rcpts = "", []
            elif verb == "QUIT":
                usual = "221 bye"
            answer = self._say(verb, line, usual)
            if answer is None:
                return
            writer.write(answer.encode("utf-8") + b"\r\n")
            if verb == "MAIL" and answer.startswith("2"):
                mail, rcpts = line, []
            elif verb == "RCPT" and answer.startswith("2"):
                rcpts.append(line)
            elif verb == "RSET":
                mail, rcpts = "", []
            elif verb == "QUIT":
                return
            elif verb == "DATA" and answer.startswith("354"):
                content = b""
                while (part := await reader.readline()) != b".\r\n":
                    if not part:
                        return
                    content += part[1:] if part.startswith(b".") else part
                last = await self._final(mail, rcpts, content)
                if last is None:
                    return
                writer.write(last.encode() + b"\r\n")
                mail, rcpts = "", []
            await writer.drain()

    async def _final(self, mail: str, rcpts: list[str], content: bytes) -> str | None:
        if self.delay:
            await asyncio.sleep(self.delay)
        answer = self._say(".", "", "250 2.0.0 taken")
        if answer is not None and answer.startswith("2") and rcpts:
            self.taken.append(Taken(mail, rcpts, content))
        return answer


@dataclass
class Teller:
    """A host that answers line by line: ``answer`` gets the line (``.`` for the end of a message, ``BDAT`` lines with
    their content read) and gives all octets that are sent then, or None to end the connection. ``lines``: what was
    heard, a list for each connection."""

    answer: Any
    greeting: bytes = b"220 teller\r\n"
    lines: list[list[str]] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    port: int = 0
    server: asyncio.Server | None = None

    async def start(self) -> "Teller":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard: list[str] = []
        self.lines.append(heard)
        writer.write(self.greeting)
        try:
            while raw := await reader.readline():
                line = raw.decode().rstrip("\r\n")
                heard.append(line)
                if line.startswith("BDAT"):
                    self.contents.append(await reader.readexactly(int(line.split()[1])))
                said = self.answer(line)
                if said is None:
                    break
                writer.write(said)
                if line == "DATA" and said.startswith(b"354"):
                    content = b""
                    while (part := await reader.readline()) != b".\r\n":
                        if not part:
                            return
                        content += part
                    self.contents.append(content)
                    if (said := self.answer(".")) is None:
                        break
                    writer.write(said)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


_held: list[socket.socket] = []


def dead_port() -> int:
    """A port where nobody listens, and nobody can: a socket of ours has it as long as this process lives."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    _held.append(held)
    return int(held.getsockname()[1])
