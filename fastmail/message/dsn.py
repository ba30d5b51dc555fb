"""Delivery status notifications (RFC 3464, RFC 6522): what became of a message, for its sender and for programs."""

import random
import time
from dataclasses import dataclass
from email.utils import formatdate

from fastmail.message import orcpt
from fastmail.message.trace import clean

ACTIONS = {
    "failed": "Undelivered Mail",
    "delayed": "Delayed Mail",
    "delivered": "Delivered Mail",
    "relayed": "Relayed Mail",
}
TEXTS = {
    "failed": "Your message could not be delivered to the recipients below. It will not be tried again.",
    "delayed": "Your message could not be delivered yet to the recipients below. You need not send it again:\n"
    "delivery is tried until {until}.",
    "delivered": "Your message was delivered to the recipients below.",
    "relayed": "Your message was handed on for the recipients below, to a server that sends no delivery reports.",
}


@dataclass(slots=True)
class Fate:
    """What became of one recipient. ``action``: failed, delayed, delivered or relayed; ``orcpt``: as message.orcpt
    keeps it; ``status``: 5.1.1 and the like; ``words``: the reply of ``remote``, or what stopped us."""

    address: str
    orcpt: str
    action: str
    status: str
    words: str
    remote: str = ""


@dataclass(slots=True)
class About:
    """The message that a report is about. ``content`` is all of it, with LF; ``until``: when it is given up; ``by``:
    when it was to be delivered (RFC 2852), 0 whenever."""

    sender: str
    envid: str
    number: str
    arrived: int
    until: int
    content: bytes
    full: bool
    utf8: bool = False
    by: int = 0


def _date(when: float) -> str:
    return formatdate(when, localtime=False).replace("-0000", "+0000")


def _line(text: str, most: int = 900) -> str:
    return " ".join(text.split())[:most]


def report(about: About, fates: list[Fate], hostname: str) -> bytes:
    """A multipart/report with LF, to be sent with a null reverse-path."""
    action = fates[0].action
    mark = f"{random.getrandbits(96):024x}"
    head, _, _ = about.content.partition(b"\n\n")
    original = about.content if about.full else head + b"\n"
    eight = not original.isascii()
    kind = "global" if about.utf8 else "rfc822"
    inner = ("message/" + kind) if about.full else ("message/global-headers" if about.utf8 else "text/rfc822-headers")
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{clean(about.sender)}>",
        f"Subject: {ACTIONS[action]}",
        f"Date: {_date(time.time())}",
        f"Message-ID: <{mark}@{hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{mark}"',
        "",
        f"--{mark}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"This is the mail system at {hostname}.",
        "",
        TEXTS[action].format(until=_date(about.until)),
        "",
    ]
    for fate in fates:
        said = f"{fate.remote} said: " if fate.remote else ""
        lines += [f"<{clean(fate.address)}>", f"    {said}{_line(fate.words)}", ""]
    status = "global-delivery-status" if about.utf8 else "delivery-status"
    lines += [f"--{mark}", f"Content-Type: message/{status}", "", f"Reporting-MTA: dns; {hostname}"]
    if about.envid:
        lines.append(f"Original-Envelope-Id: {_line(about.envid)}")
    lines += [f"Arrival-Date: {_date(about.arrived)}", f"X-Queue-ID: {about.number}"]
    lines += [f"Deliver-By-Date: {_date(about.by)}", ""] if about.by else [""]
    for fate in fates:
        if fate.orcpt:
            lines.append(f"Original-Recipient: {_line(orcpt.shown(fate.orcpt, about.utf8))}")
        lines.append(f"Final-Recipient: {orcpt.final(clean(fate.address), about.utf8)}")
        lines += [f"Action: {fate.action}", f"Status: {fate.status}"]
        if fate.remote:
            lines.append(f"Remote-MTA: dns; {_line(fate.remote.partition('[')[0])}")
            lines.append(f"Diagnostic-Code: smtp; {_line(fate.words)}")
        if fate.action == "delayed":
            lines.append(f"Will-Retry-Until: {_date(about.until)}")
        lines += [f"Last-Attempt-Date: {_date(time.time())}", ""]
    lines += [f"--{mark}", f"Content-Type: {inner}"]
    if eight:
        lines.append("Content-Transfer-Encoding: 8bit")
    text = "\n".join(lines) + "\n\n"
    return text.encode() + original.rstrip(b"\n") + f"\n\n--{mark}--\n".encode()
