"""Messages that wait until an owner of their list agrees: all posts to a moderated list, and what was judged junk to
any.

Such a message is in the queue like any post, and its job is due when its time is over (DAYS): then it is dropped. Its
owners get a message with the original attached and a token in the subject; an answer to that sends the post, an answer
whose subject says "reject" drops it. The token is random, is of this message alone, and only a hash of it is kept.

Bounded: a list has MOST waiting messages at a time; until some are decided, further ones are put off.
"""

import hashlib
import hmac
import re
import secrets
import time

from fastmail.delivery.lists import answers
from fastmail.delivery.lists.content import part_of
from fastmail.delivery.lists.requests import APPROVE, REJECT, Answer, subject
from fastmail.directory.interface import Directory
from fastmail.directory.lookup import OWNER, at_home
from fastmail.directory.records import MODERATED, List
from fastmail.queue.model import Item, Job, id_of
from fastmail.queue.spool import Spool

DAYS = 7
MOST = 100
_TOKEN = re.compile(r"\b([0-9A-HJKMNP-TV-Z]{8,16})-([0-9a-f]{20})\b", re.IGNORECASE)


def waits(directory: Directory, row: List, login: str) -> bool:
    """Does a post have to wait? Not one of an owner or announcer who logged in."""
    if row.mode != MODERATED:
        return False
    trusted = {at_home(directory, one) for one in (*row.owners, *row.announcers)}
    return not login or at_home(directory, login) not in trusted


def destination(row: List) -> str:
    """What the queue calls the place where posts of a list wait."""
    return f"list {row.address}"


def token() -> tuple[str, bytes]:
    """(a token, what is kept of it)."""
    made = secrets.token_hex(10)
    return made, _kept(made)


def _kept(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def until() -> int:
    """When a post that comes now is dropped; s since 1970."""
    return int(time.time()) + DAYS * 86400


def question(row: List, post: Item, made: str, sender: str, text: bytes, hostname: str, junk: bool = False) -> bytes:
    """The message (LF) to the owners about a post. ``text``: as it came; ``junk``: it was judged so."""
    lines = [
        f"A message for {row.address} from {sender or 'nobody'} waits for you. It is attached.",
        *(["This server thinks that it is junk."] if junk else []),
        "",
        "To send it to the list, answer this message and leave its subject as it is.",
        f"To throw it away, answer with the subject: {REJECT} {post.number}-{made}",
        f"Without an answer it is thrown away after {DAYS} days.",
    ]
    return answers.text(row, part_of(row, OWNER), f"{APPROVE} {post.number}-{made}", lines, hostname, attached=text)


async def decide(spool: Spool, row: List, sender: str, content: bytes, agrees: bool) -> Answer:
    """Do what an owner answered; what is said back. Doing it again changes nothing."""
    found = _TOKEN.search(subject(content))
    if found is None:
        return Answer(sender, "Nothing was decided", ["The subject has no token of a message that waits."])
    try:
        ident = id_of(found[1])
    except ValueError:
        ident = 0
    there = (
        next((pair for pair in spool.jobs(ident) if _is_of(pair[0], row, found[2].lower())), None) if ident else None
    )
    if there is None:
        text = [f"No such message waits for the owners of {row.address}: it was decided already, or its time is over."]
        return Answer(sender, "Nothing was decided", text)

    def change(old: Job) -> Job | None:
        if not agrees:
            return None
        old.agreed, old.due = True, int(time.time())
        return old

    await spool.change(there[1].key, change)
    return Answer(sender, "The message was sent to the list" if agrees else "The message was thrown away", [])


def _is_of(item: Item, row: List, made: str) -> bool:
    mine = item.mailing_list in (row.address, *row.formerly) and bool(item.token)
    return hmac.compare_digest(item.token, _kept(made)) and mine
