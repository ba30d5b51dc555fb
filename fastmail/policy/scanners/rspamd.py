"""rspamd: what does it think of a message? POST /checkv2 (HTTP/1.1) with the message as the body and its envelope in
fields; the answer is JSON.

    action of rspamd               what it means here
    no action                      nothing
    greylist                       the sender is put off where [policy] greylist_score puts anybody off
    add header                     junk
    rewrite subject                junk, and with ``rewrite_subject`` the Subject that it gives; otherwise no subject is
                                   changed, because signatures cover it
    quarantine                     kept back
    discard                        kept back too: the client hears 250, as rspamd wants, and the message is lost only
                                   when nobody asks for it before it is removed from there
    soft reject                    451 4.7.1, try again later
    reject                         554 5.7.1
    any other                      nothing; its name is written down

Its score is added to ours, times the scanner's weight. Header fields that it adds and removes (``milter``) are taken as
far as their names and values can be fields, and but for those that trace a message or say who wrote it.
"""

import asyncio
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from fastmail.message import encoded
from fastmail.net import web
from fastmail.policy.reasons import ACCEPT, JUNK, LATER, QUARANTINE, REFUSE, TAKEN, WORDS, Finding, Reason, Reply
from fastmail.policy.scanners import wire
from fastmail.policy.scanners.nouns import Scanner, Shown, Trouble

OWNER = "Deliver-To"  # by which rspamd tells users apart; "User" would be somebody who logged in
LEARNED, KNOWN = 200, (204, 208)  # status of the controller; it may not learn the message, or knows it
ALREADY = b"already learned"  # which rspamd 3.4 says with status 404
RECIPIENTS = 100  # that are named
MOST = 1e6  # points: sums of them stay numbers
ADDED = 20  # fields
VALUE = 2000  # characters of one
SUBJECT = 200  # characters of a Subject
REWRITE = "rewrite subject"
SYMBOLS = 12  # that are named in the reason
ACTIONS = {
    "no action": ACCEPT,
    "greylist": ACCEPT,
    "add header": JUNK,
    REWRITE: JUNK,
    "quarantine": QUARANTINE,
    "discard": QUARANTINE,
    "soft reject": LATER,
    "reject": REFUSE,
}
# trace fields and results are ours to write; who wrote a message, and when, is the sender's
KEPT = frozenset(
    [
        "received",
        "return-path",
        "delivered-to",
        "authentication-results",
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "date",
        "message-id",
    ]
)
_UNSAFE = re.compile(r"[^\x20-\x7e]")
_NAME = re.compile(r"[!-9;-~]{1,100}")

Value = str | dict[str, object]


class _Symbol(msgspec.Struct):
    score: float = 0.0


class _Milter(msgspec.Struct):
    add_headers: dict[str, Value | list[Value]] = {}
    remove_headers: dict[str, int] = {}


class _Answer(msgspec.Struct):
    action: str
    score: float = 0.0
    required_score: float | None = None
    symbols: dict[str, _Symbol] = {}
    messages: dict[str, object] | list[object] = {}
    milter: _Milter | None = None
    subject: str | None = None


async def ask(scanner: Scanner, shown: Shown) -> Finding:
    """What rspamd says. Trouble, OSError."""
    answer = await wire.exchange(scanner.address, partial(_send, scanner, shown), _read)
    if answer.status != 200:
        raise Trouble(f"rspamd answers with status {answer.status}")
    if len(answer.body) > wire.ANSWER:
        raise Trouble("its answer is too long")
    return finding(scanner, answer.body)


def head(shown: Shown, owner: bytes = b"") -> bytes:
    """The request's header. What comes from a peer is cut down to printable ASCII. ``owner``: wire.owner_field."""
    fields = [
        ("Host", shown.hostname or "localhost"),
        ("Connection", "close"),
        ("Content-Length", str(len(shown.front) + len(shown.content))),
        ("From", shown.sender),
        *(("Rcpt", address) for address in shown.recipients[:RECIPIENTS]),
        ("IP", shown.ip),
        ("Helo", shown.helo),
        ("Hostname", shown.host),
        ("User", shown.login),
        ("Queue-Id", shown.number),
        ("MTA-Name", shown.hostname),
    ]
    lines = [f"{name}: {_UNSAFE.sub('?', value[:WORDS])}" for name, value in fields if value]
    return "\r\n".join(["POST /checkv2 HTTP/1.1", *lines, ""]).encode("ascii") + owner + b"\r\n"


async def _send(scanner: Scanner, shown: Shown, writer: asyncio.StreamWriter) -> None:
    owner = wire.owner_field(OWNER, scanner, shown.owner)
    await wire.send_all(writer, head(shown, owner) + shown.front, shown.content)


async def _read(reader: asyncio.StreamReader) -> web.Answer:
    try:
        return await web.answer(reader, wire.ANSWER)
    except asyncio.IncompleteReadError:
        raise Trouble("it ended its answer early") from None


def finding(scanner: Scanner, body: bytes) -> Finding:
    """What an answer means."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Trouble("its answer is not what rspamd says") from None
    name = _UNSAFE.sub("?", answer.action[:50])
    action = ACTIONS.get(name, ACCEPT)
    score = max(-MOST, min(answer.score, MOST)) if math.isfinite(answer.score) else 0.0
    heavy = sorted(answer.symbols.items(), key=lambda one: -abs(one[1].score))[:SYMBOLS]
    why = f"{name}, {score:g}: {' '.join(symbol for symbol, _ in heavy)}"
    reason = Reason(scanner.name, round(score * scanner.weight, 3), _UNSAFE.sub("?", why)[:WORDS])
    milter = answer.milter or _Milter()
    subject = _subject(answer.subject or "") if scanner.rewrite_subject and name == REWRITE else ""
    return Finding(
        scanner.name,
        f"{name} {score:g}",
        (reason,),
        action,
        _reply(action, answer.messages),
        suspect=name == "greylist",
        add=(*([("Subject", subject)] if subject else []), *_added(milter.add_headers)),
        remove=(*([(b"subject", 0)] if subject else []), *_removed(milter.remove_headers)),
    )


def _subject(text: str) -> str:
    """A Subject on one line, as a header may have it (RFC 2047); empty for none."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text[:SUBJECT]).split())
    return plain if plain.isascii() else encoded.line(plain)


def _reply(action: str, messages: Mapping[str, object] | list[object]) -> Reply:
    text = messages.get("smtp_message") if isinstance(messages, Mapping) else None
    said = " ".join(_UNSAFE.sub("?", text[:WORDS]).split()) if isinstance(text, str) else ""
    if action == LATER:
        return (451, "4.7.1", said or "try again later")
    if action in (QUARANTINE, REFUSE):  # what is to be kept back is refused where nothing is
        return (554, "5.7.1", said or "this message looks unwanted")
    return TAKEN


def _added(fields: Mapping[str, Value | list[Value]]) -> Iterator[tuple[str, str]]:
    left = ADDED
    for name, values in fields.items():
        if _NAME.fullmatch(name) is None or name.lower() in KEPT:
            continue
        for one in values if isinstance(values, list) else [values]:
            text = one.get("value") if isinstance(one, dict) else one
            if not isinstance(text, str) or not left:
                continue
            left -= 1
            yield name, " ".join(_UNSAFE.sub(_space, text[:VALUE]).split())


def _space(found: re.Match[str]) -> str:
    """A folded value goes on one line."""
    return " " if found.group() in "\r\n\t" else "?"


def _removed(fields: Mapping[str, int]) -> Iterator[tuple[bytes, int]]:
    for name, which in list(fields.items())[:ADDED]:
        if _NAME.fullmatch(name) is not None and name.lower() not in KEPT:
            yield name.lower().encode("ascii"), which


async def learn(scanner: Scanner, content: bytes, spam: bool, owner: str) -> bool:
    """Have rspamd's controller learn a message of the account ``owner``. Returns False where it did not, because it
    knew the message or its own rules forbid it. Trouble, OSError."""

    async def send(writer: asyncio.StreamWriter) -> None:
        lines = [
            f"POST /{'learnspam' if spam else 'learnham'} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            f"Content-Length: {len(content)}",
            *([f"Password: {scanner.password}"] if scanner.password else []),
        ]
        head = "\r\n".join([*lines, ""]).encode("utf-8") + wire.owner_field(OWNER, scanner, owner)
        await wire.send_all(writer, head + b"\r\n", content)

    answer = await wire.exchange(scanner.learns, send, _read)
    if answer.status not in (LEARNED, *KNOWN) and ALREADY not in answer.body:
        raise Trouble(f"rspamd's controller answers with status {answer.status}")
    return answer.status == LEARNED
