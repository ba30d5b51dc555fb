"""What a host answers: replies, which of them a command may have, and the errors of the sending side (RFC 5321 4.2,
4.3.2, RFC 2033 4.2).

    ClientTrouble              the connection is of no use any more
    ├── ConnectFailed          no session could be had with this host
    │   └── TlsFailed          the host offered no TLS, or TLS that does not do
    ├── NoChunking             the host offered BDAT and does not know it: DATA on a new connection
    ├── ProtocolError          the host does not speak SMTP, or answers what nobody asked
    ├── Lost                   the connection ended before the host answered for the message: it does not have it
    └── Unsure                 the connection ended after the final dot: the host may have the message

Promise: ``judged`` lets a reply pass only when its class is one that RFC 5321 4.3.2 gives the command. A 3yz where only
2yz means success (and the other way round) is ProtocolError, so nothing counts as delivered because of it.
"""

import re
from dataclasses import dataclass

from fastmail.model.errors import TemporaryError

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |$)", re.ASCII)
_UNSAFE = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]")
LONGEST_TEXT = 500  # characters of a reply's line that are kept

# The first digit that means success (RFC 5321 4.2.1); a client judges unknown codes by it alone (4.3.2).
COMPLETED, INTERMEDIATE = 2, 3
SUCCESS = {
    "EHLO": COMPLETED,
    "STARTTLS": COMPLETED,
    "AUTH": COMPLETED,
    "MAIL": COMPLETED,
    "RCPT": COMPLETED,
    "DATA": INTERMEDIATE,
    "BDAT": COMPLETED,
    ".": COMPLETED,
    "RSET": COMPLETED,
}
# Codes that RFC 5321 4.3.2, RFC 3207 and RFC 4954 give to some commands only. Anywhere else they are no success: they
# are an answer to another question (211 and 214 HELP, 220 greeting, 221 QUIT, 235 and 334 AUTH, 252 VRFY).
MEANT_FOR = {
    211: (),
    214: (),
    220: ("STARTTLS",),
    221: (),
    235: ("AUTH",),
    252: (),
    334: (),
    354: ("DATA",),
}
ONLY = {"STARTTLS": 220, "AUTH": 235}  # commands of extensions with one code of success (RFC 3207 4, RFC 4954 6)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of a host: code, enhanced status code (derived from the code if the host gave none), text of all
    lines."""

    code: int
    enhanced: str
    text: str

    @property
    def ok(self) -> bool:
        """True for a positive completion (2yz): done what was asked."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}".strip()


class ClientTrouble(TemporaryError):
    """The connection cannot be used any more. ``reply``: the host's last reply, if there was one. ``sent``: the content
    was on its way, so the host may have the message; no other host gets it at once (RFC 5321 6.1)."""

    def __init__(self, text: str, reply: Reply | None = None, sent: bool = False) -> None:
        super().__init__(text)
        self.reply = reply
        self.sent = sent


class ConnectFailed(ClientTrouble):
    """No session with this host was possible."""


class TlsFailed(ConnectFailed):
    """The host offered no TLS, or TLS that is not good enough. ``plain``: a new connection may do without TLS (RFC
    7435)."""

    def __init__(self, text: str, reply: Reply | None = None, plain: bool = True) -> None:
        super().__init__(text, reply)
        self.plain = plain


class NoChunking(ClientTrouble):
    """The host offered CHUNKING and does not know BDAT; it may have read the content as commands."""


class ProtocolError(ClientTrouble):
    """The host does not speak SMTP."""


class Lost(ClientTrouble):
    """The connection ended before the host answered for the message: it does not have it."""


class Unsure(ClientTrouble):
    """The connection ended after the final dot."""


def made(code: int, lines: list[bytes]) -> Reply:
    """The reply of these lines, each without its code: text that is safe to show, with the status code apart."""
    texts = [_UNSAFE.sub("?", line.rstrip(b"\r\n").decode("utf-8", "replace"))[:LONGEST_TEXT] for line in lines]
    match = _ENHANCED.match(texts[0])
    enhanced = f"{code // 100}.0.0"
    if match is not None and int(match.group(1)) == code // 100:
        enhanced = match.group(0).strip()
        texts = [text[len(match.group(0)) :] if text.startswith(match.group(0)) else text for text in texts]
    return Reply(code, enhanced, "\n".join(texts))


def judged(command: str, reply: Reply, host: str) -> Reply:
    """The reply, when the command may have it: its class of success, 4yz or 5yz. ProtocolError for anything else."""
    kind = reply.code // 100
    if kind in (4, 5):
        return reply
    if command in ONLY:
        fits = reply.code == ONLY[command]
    else:
        fits = kind == SUCCESS[command] and command in MEANT_FOR.get(reply.code, (command,))
    if fits:
        return reply
    shown = "the end of the message" if command == "." else command
    raise ProtocolError(f"{host} answers {shown} with {reply}", sent=command in (".", "BDAT"))


def number(text: str) -> int:
    """Return a number of the host's EHLO line, such as its SIZE; 0 if there is none, or if it is absurdly large."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
