"""Who may write to a mailing list. It is asked before the message is taken, so a refusal is a reply to the client, and
never a message to somebody whose address a stranger wrote down.

A message is known by its author, the one address in From (RFC 5322 3.6.2), and by the login that it came with. An
author whose domain does not vouch for the message (DMARC) is nobody where the list is for announcers, and where he says
that he is of this server, or of a domain for which the list's signature vouches: users of this server log in.

Never taken: mail without a sender (RFC 5321 4.5.5), what a program answered or reports (RFC 3834 5, RFC 3464), and what
bears the list's own List-Id, because it comes back (RFC 2919 3).
"""

from collections.abc import Iterable

from fastmail._core import header
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.delivery.lists import moderation
from fastmail.delivery.lists.content import list_id
from fastmail.directory.interface import Directory
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.lookup import BOUNCES, NOT_FOUND, Destinations, at_home
from fastmail.directory.records import ANNOUNCERS, INSIDE, MODERATED, PUBLIC, UNCONFIRMED, List
from fastmail.message import authors
from fastmail.message.header import Octets
from fastmail.model.address import comparable
from fastmail.queue.spool import Spool

VALUE = 512  # octets of a field that are looked at
MOST_IDS = 1 << 14  # octets of List-Id fields
ANSWERS = (b"x-autoreply", b"x-autorespond")  # what programs write that do not know of Auto-Submitted
NO_REPORTS = "550 5.7.1 this address takes no delivery reports"
REPORTS_ONLY = "550 5.7.1 this address takes delivery reports only"
LOOPS = Outcome(554, "5.4.6", "the message came from this mailing list already: it loops")
AUTOMATIC = Outcome(550, "5.7.1", "automatic answers and reports are not for mailing lists")
BUSY = Outcome(452, "4.3.1", "too many messages wait for the owners of this list, try again later")
NO_AUTHOR = Outcome(550, "5.7.1", "a message to a mailing list needs one author, in From")


def at_rcpt(directory: Directory, there: Destinations, sender: str) -> str:
    """The reply to who may not write to these lists whatever the message says; empty where it may be. What also goes to
    somebody else is taken for that one's sake."""
    if there.accounts or there.elsewhere:
        return ""
    for one in there.lists:
        if one.part == BOUNCES:
            if sender:
                return REPORTS_ONLY
            if not any(Tokens(directory).bounced(one.row, one.detail)):
                return NOT_FOUND
        elif not sender:
            return NO_REPORTS
    return ""


def refusal(
    deliverer: Deliverer, spool: Spool, envelope: Envelope, content: Octets, junk: bool = False
) -> Outcome | None:
    """Why a message (LF) does not go to the lists behind its recipients; None where it may. ``junk``: it was judged so
    for all of them, and waits for the owners of any list. It reads the disk."""
    if not envelope.sender:
        return None  # it goes to no list, but it may go to others
    posts = [(to, one) for to in envelope.forwards for one in deliverer.destinations(to).lists if not one.part]
    if not posts:
        return None
    if is_automatic(content):
        return AUTOMATIC
    author = author_of(content)
    if not author:
        return NO_AUTHOR
    for to, one in posts:
        refused = _refusal(deliverer.directory, one.row, envelope, content, author)
        if refused is not None:
            return refused
        unwanted = junk or to in envelope.junk
        if not unwanted and not moderation.waits(deliverer.directory, one.row, envelope.login):
            continue
        if spool.waiting(moderation.destination(one.row), moderation.MOST) >= moderation.MOST:
            return BUSY
    return None


def _refusal(directory: Directory, row: List, envelope: Envelope, content: Octets, author: str) -> Outcome | None:
    if has_passed(content, row):
        return LOOPS
    why = _why_not(directory, row, envelope, author)
    return Outcome(550, "5.7.2", f"{why} may write to this mailing list") if why else None


def _why_not(directory: Directory, row: List, envelope: Envelope, author: str) -> str:
    """Who else may write to the list; empty where this message may come."""
    if row.logins_only and not envelope.login:
        return "only those who log in"
    if row.mode == INSIDE:
        mine = at_home(directory, envelope.login).rpartition("@")[2] if envelope.login else ""
        return (
            "" if mine == at_home(directory, row.address).rpartition("@")[2] else "only users of its domain, logged in,"
        )
    # What a list sends is signed for its domain. So a forged author of that domain would be vouched for by the list,
    # before all its members (RFC 9989 4.4), whoever else may write to it.
    if envelope.doubted and (row.mode == ANNOUNCERS or _ours(directory, row, author.rpartition("@")[2])):
        return "only those whose address can be verified"
    if row.mode in (PUBLIC, MODERATED):
        return ""
    named = {at_home(directory, one) for one in (*row.owners, *row.announcers)}
    known = list(_identities(directory, envelope, author))
    if any(at_home(directory, one) in named for one in known):
        return ""
    if row.mode == ANNOUNCERS:
        return "only its announcers"
    return "" if any(_is_member(directory, row, one) for one in known) else "only its members"


def _ours(directory: Directory, row: List, domain: str) -> bool:
    """Is that a domain of this server, or one that may be aligned with the list's, because one is below the other?"""
    author, own = comparable(domain), comparable(row.address.rpartition("@")[2])
    return directory.is_local(domain) or f".{own}".endswith(f".{author}") or f".{author}".endswith(f".{own}")


def _identities(directory: Directory, envelope: Envelope, author: str) -> Iterable[str]:
    """The addresses that the message counts as written under: the author's, unless it is another one's than the
    login's, and the login's."""
    account = directory.account(envelope.login) if envelope.login else None
    if account is None or directory.may_send_as(account, author):
        yield author
    if envelope.login:
        yield envelope.login


def _is_member(directory: Directory, row: List, address: str) -> bool:
    """Under any name of its domain."""
    for one in dict.fromkeys((comparable(address), at_home(directory, address))):
        found = directory.member(row.address, one)
        if found is not None and found.state != UNCONFIRMED:
            return True
    return False


def author_of(content: Octets) -> str:
    """The one address in From; empty where there is none, or more."""
    found = header.values(content, (b"from",), authors.MOST)
    if found is None or len(found) != 1:
        return ""
    try:
        named = list(authors.parse(found[0][1].decode("utf-8", "surrogateescape")))
    except authors.Unreadable:
        return ""
    return named[0] if len(named) == 1 else ""


def is_automatic(content: Octets) -> bool:
    """Did a program write it by itself: an answer, a report?"""
    said = header.value(content, b"auto-submitted", VALUE)
    if said is not None and said.partition(b";")[0].strip().lower() != b"no":
        return True
    if any(header.counts(content, ANSWERS)):
        return True
    kind = header.value(content, b"content-type", VALUE)
    return kind is not None and kind.strip().lower().startswith(b"multipart/report")


def has_passed(content: Octets, row: List) -> bool:
    """Did the list send this before? What cannot be read was sent."""
    found = header.values(content, (b"list-id",), MOST_IDS)
    if found is None:
        return True
    mine = f"<{list_id(row)}>".lower().encode()
    return any(mine in value.lower() for _, value in found)
