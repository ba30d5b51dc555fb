"""Requests by mail: ``team-subscribe@``, ``team-unsubscribe@``, and ``team-request@`` with help, subscribe, unsubscribe
or ``confirm TOKEN`` as its subject (RFC 2369 3). They are about the sender of the message, the envelope's, without the
tag that its host may have put in front of it (BATV): that is another one every few days.

Anybody can write any sender into an envelope. So who wants to join or to leave is asked whether that is so, at that
address, and joins or leaves by sending the token back: nobody signs up, or takes out, anybody else. Who is logged in
as the member leaves at once. Nothing is kept of a question that was asked; the token says all of it.

A member whose mail came back may resume; one that an owner suspended may not.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field

from fastmail._core import header
from fastmail.delivery.lists.content import part_of
from fastmail.delivery.lists.leaving import leave
from fastmail.directory.interface import Directory
from fastmail.directory.list_tokens import AGREE_DAYS, Tokens
from fastmail.directory.lookup import ToList
from fastmail.directory.records import ACTIVE, OPEN, SUSPENDED, List, Member
from fastmail.model.address import comparable
from fastmail.model.errors import DamagedAccount
from fastmail.telemetry import log

_BATV = re.compile(r"prvs=[0-9a-z]{10}=(.+@.+)", re.IGNORECASE | re.DOTALL)
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


def untagged(sender: str) -> str:
    """Return an envelope sender without the tag of BATV, in the form of its draft (prvs=KDDDSSSSSS=local@domain)."""
    found = _BATV.fullmatch(sender)
    return found[1] if found is not None else sender


def answer(directory: Directory, to: ToList, sender: str, content: bytes, login: str = "") -> Answer:
    """Do what a message (LF) asks for; the answer. ``login``: the account that it came from, when somebody logged in.
    It may wait for the disk."""
    row, address = to.row, untagged(sender)
    match wish(to.part, content):
        case "subscribe":
            return _subscribe(directory, row, sender, address)
        case "unsubscribe":
            return _unsubscribe(directory, row, sender, address, login)
        case "confirm":
            return _confirm(directory, row, sender, subject(content))
    return Answer(sender, f"How to use {row.address}", _help(row))


def _subscribe(directory: Directory, row: List, sender: str, address: str) -> Answer:
    """``sender``: who gets the answer, with its tag; ``address``: who is to be a member."""
    known = directory.member(row.address, address)
    if known is not None and known.state == ACTIVE:
        return Answer(sender, f"You are a member of {row.address}", ["You get its mail already.", "", *_help(row)])
    if known is not None and _kept_out(known):
        return _by_owners(row, sender)
    if row.joins != OPEN and known is None:
        text = [f"People join {row.address} through its owners: write to {part_of(row, 'owner')}."]
        return Answer(sender, f"{row.address} has members by invitation", text)
    tokens = Tokens(directory)
    tokens.prepare()
    text = [
        f"Somebody, you we hope, asked that {address}",
        f"becomes a member of the mailing list {row.address}.",
        "",
        "To join, answer this message and leave its subject as it is.",
        *_if_not_you(),
    ]
    return Answer(sender, f"{CONFIRM} {tokens.joining(row.address, address)}", text)


def _if_not_you() -> list[str]:
    return [
        "If it was not you, do nothing, and you will hear no more.",
        "",
        f"The answer counts for {AGREE_DAYS} days.",
    ]


def _kept_out(member: Member) -> bool:
    """True if an owner suspended the member. A member who was suspended for returned mail has a count of it."""
    return member.state == SUSPENDED and not member.bounces


def _by_owners(row: List, sender: str) -> Answer:
    text = [f"The owners of {row.address} suspended your membership: write to {part_of(row, 'owner')}."]
    return Answer(sender, f"You are suspended from {row.address}", text)


def _confirm(directory: Directory, row: List, sender: str, said: str) -> Answer:
    tokens = Tokens(directory)
    tokens.prepare()
    leaving = tokens.leaves(row, said)
    if leaving:
        return _left(directory, row, sender, leaving)
    address = tokens.joins(row, said)
    if not address:
        text = [f"This is no answer that we know, or it came after {AGREE_DAYS} days.", "", *_help(row)]
        return Answer(sender, f"You changed nothing at {row.address}", text)
    known = directory.member(row.address, address)
    if known is None and row.joins != OPEN:
        return _subscribe(directory, row, sender, address)
    if known is not None and _kept_out(known):
        return _by_owners(row, sender)
    directory.put_members(row.address, [Member(address, known.name if known is not None else "")], True)
    log.event("list.joined", list=row.address, member=address)
    to = sender if comparable(untagged(sender)) == comparable(address) else address
    return Answer(to, f"You are a member of {row.address}", [f"You joined {row.address}.", "", *_help(row)])


def _unsubscribe(directory: Directory, row: List, sender: str, address: str, login: str) -> Answer:
    with suppress(DamagedAccount):  # a member whose row is damaged can leave all the same
        if directory.member(row.address, address) is None:
            return _no_member(row, sender, address)
    if login and comparable(login) == comparable(address):
        return _left(directory, row, sender, address)
    tokens = Tokens(directory)
    tokens.prepare()
    text = [
        f"Somebody, you we hope, asked that {address}",
        f"gets no more mail of the mailing list {row.address}.",
        "",
        "To leave, answer this message and leave its subject as it is.",
        *_if_not_you(),
    ]
    return Answer(sender, f"{CONFIRM} {tokens.leaving(row.address, address)}", text)


def _left(directory: Directory, row: List, sender: str, address: str) -> Answer:
    if not leave(directory, row.address, address):
        return _no_member(row, sender, address)
    text = [f"{address} left {row.address} and gets no more of its mail."]
    return Answer(sender, f"You left {row.address}", text)


def _no_member(row: List, sender: str, address: str) -> Answer:
    text = [
        f"{address} is no member of {row.address}.",
        "If you get its mail at another address, write from that.",
        "",
    ]
    return Answer(sender, f"You are no member of {row.address}", [*text, *_help(row)])


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
