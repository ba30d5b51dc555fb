"""Requests by mail: ``team-subscribe@``, ``team-unsubscribe@``, and ``team-request@`` with help, subscribe, unsubscribe
or ``confirm TOKEN`` as its subject (RFC 2369 3). They are about the sender of the message, the envelope's.

Who wants to join is asked whether that is so, at that address, and joins by sending the token back: so nobody signs up
anybody else. Who wants to leave has left, and hears so. Nothing is kept of a question that was asked; the token says
all of it.
"""

from dataclasses import dataclass, field

from fastmail._core import header
from fastmail.delivery.lists.content import part_of
from fastmail.delivery.lists.leaving import leave
from fastmail.directory.interface import Directory
from fastmail.directory.list_tokens import AGREE_DAYS, Tokens
from fastmail.directory.lookup import ToList
from fastmail.directory.records import ACTIVE, OPEN, List, Member
from fastmail.telemetry import log

VALUE = 2048  # octets of a subject that are looked at
SAID = 6  # words of a subject that are looked at
HELP, SUBSCRIBE, UNSUBSCRIBE, CONFIRM = "help", "subscribe", "unsubscribe", "confirm"
APPROVE, REJECT = "approve", "reject"  # of owners (delivery.lists.moderation)
WORDS = {"join": SUBSCRIBE, "leave": UNSUBSCRIBE} | {
    one: one for one in (HELP, SUBSCRIBE, UNSUBSCRIBE, CONFIRM, APPROVE, REJECT)
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: to whom, the subject and the lines of the text."""

    to: str
    subject: str
    lines: list[str] = field(default_factory=list)


def wish(part: str, content: bytes) -> str:
    """What a message to a part of a list asks for: one of WORDS."""
    if part in (SUBSCRIBE, UNSUBSCRIBE):
        return part
    words = [one for one in subject(content).lower().split()[:SAID] if not one.endswith(":")]  # "Re:", "AW:"
    return WORDS.get(words[0], HELP) if words else HELP


def subject(content: bytes) -> str:
    found = header.value(content, b"subject", VALUE) or b""
    return " ".join(found.decode("utf-8", "replace").split())


def answer(directory: Directory, to: ToList, sender: str, content: bytes) -> Answer:
    """Do what a message (LF) asks for; the answer. It may wait for the disk."""
    row = to.row
    match wish(to.part, content):
        case "subscribe":
            return _subscribe(directory, row, sender)
        case "unsubscribe":
            return _unsubscribe(directory, row, sender)
        case "confirm":
            return _confirm(directory, row, sender, subject(content))
    return Answer(sender, f"How to use {row.address}", _help(row))


def _subscribe(directory: Directory, row: List, sender: str) -> Answer:
    known = directory.member(row.address, sender)
    if known is not None and known.state == ACTIVE:
        return Answer(sender, f"You are a member of {row.address}", ["You get its mail already.", "", *_help(row)])
    if row.joins != OPEN and known is None:
        text = [f"People join {row.address} through its owners: write to {part_of(row, 'owner')}."]
        return Answer(sender, f"{row.address} has members by invitation", text)
    tokens = Tokens(directory)
    tokens.prepare()
    token = tokens.joining(row.address, sender)
    text = [
        f"Somebody, you we hope, asked that {sender}",
        f"becomes a member of the mailing list {row.address}.",
        "",
        "To join, answer this message and leave its subject as it is.",
        "If it was not you, do nothing, and you will hear no more.",
        "",
        f"The answer counts for {AGREE_DAYS} days.",
    ]
    return Answer(sender, f"{CONFIRM} {token}", text)


def _confirm(directory: Directory, row: List, sender: str, said: str) -> Answer:
    tokens = Tokens(directory)
    tokens.prepare()
    address = tokens.joins(row.address, said)
    if not address:
        text = [f"This is no answer that we know, or it came after {AGREE_DAYS} days.", "", *_help(row)]
        return Answer(sender, f"You did not join {row.address}", text)
    known = directory.member(row.address, address)
    if known is None and row.joins != OPEN:
        return _subscribe(directory, row, sender)
    directory.put_members(row.address, [Member(address, known.name if known is not None else "")], True)
    log.event("list.joined", list=row.address, member=address)
    return Answer(address, f"You are a member of {row.address}", [f"You joined {row.address}.", "", *_help(row)])


def _unsubscribe(directory: Directory, row: List, sender: str) -> Answer:
    if not leave(directory, row.address, sender):
        text = [
            f"{sender} is no member of {row.address}.",
            "If you get its mail at another address, write from that.",
            "",
        ]
        return Answer(sender, f"You are no member of {row.address}", [*text, *_help(row)])
    text = [f"You left {row.address} and get no more of its mail.", ""]
    text += [f"If it was not you who asked for that, write to {part_of(row, 'owner')}."]
    return Answer(sender, f"You left {row.address}", text)


def _help(row: List) -> list[str]:
    out = [f"The mailing list {row.address}" + (f": {row.description}" if row.description else ""), ""]
    if row.joins == OPEN:
        out.append(f"To join:             write to {part_of(row, 'subscribe')}")
    out += [
        f"To leave:            write to {part_of(row, 'unsubscribe')}",
        f"To read this again:  write to {part_of(row, 'request')} with the subject help",
        f"To reach its owners: write to {part_of(row, 'owner')}",
    ]
    return out
