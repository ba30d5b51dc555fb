"""Clients that nobody vouches for, from their connection to the content of their mail (RFC 5321 3.1, 4.1.4, 4.2): who
speaks too early, who comes too often, who guesses recipients. What they are known by is in policy.strangers.

A client is no stranger on this machine, in a network that may relay, that the operator exempts from checks or allows,
or that speaks for others by XCLIENT; nor on the submission ports or by LMTP.

- **The greeting** of a client without a good past waits for a moment. A mail server waits for it (RFC 5321 3.1); who
  speaks meanwhile is a program that does not read replies, or a browser. One timer is all that the wait costs.
- **Pipelining before EHLO is answered** is a mistake too: whether it is allowed, the answer says (RFC 2920 3.1). It is
  noticed or not as the octets arrive, so it says little of a client.
- **Rates and guesses** are counted by all workers together. A reply says when to come back.

Promise: without ``[strangers]`` nothing here costs anything, and what is counted of known clients and of good mail is a
few microseconds. Nothing is refused because the name in EHLO is another than that of the address (RFC 5321 4.1.4).
"""

import asyncio
from collections.abc import Callable

from fastmail.delivery.envelope import Outcome
from fastmail.net.networks import address_in, is_here
from fastmail.policy import verdict
from fastmail.policy.received import Received
from fastmail.policy.strangers.gate import Stranger, Wait
from fastmail.policy.strangers.rules import BAN, OFF, REFUSE, SCORE
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import MX
from fastmail.smtp.transaction import Transaction
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

GOOD = 1.0  # score below which a message counts as good
BANNED = 1e6  # points: at once
EARLY = "554 5.5.0 you spoke before the greeting, as no mail server does"
TOO_EARLY = "554 5.5.0 commands came before the reply to EHLO"
GUESSES = "421 4.7.0 too many unknown recipients from your address, try again later"


def is_stranger(session: Dialogue) -> bool:
    """True for a client that nobody vouches for."""
    service, host = session.service, session.host
    if service.kind != MX or is_here(host) or session.may_relay():
        return False
    if any(address_in(host, network) for network in service.exempt):
        return False
    if host == session.conn.host and any(address_in(host, network) for network in service.xclient):
        return False
    return service.policy is None or service.policy.settings.allow.network(host) is None


def arrives(session: Dialogue, welcome: Callable[[], None]) -> None:
    """A client has connected, or XCLIENT has told of it. ``welcome`` greets it: now, after a moment, or not at all."""
    gate = session.service.gate
    session.stranger = None
    if gate is None or not is_stranger(session):
        welcome()
        return
    host, rules = session.host, gate.rules
    why = gate.connected(host)
    if not why and rules.guessers != SCORE and gate.is_guesser(host):
        why = "too many unknown recipients from your address, try again later"
    if why:
        count("smtp.rate")
        log.event("smtp.rate", peer=host, why=why)
        session.say(f"421 4.7.0 {session.service.hostname} {why}")
        session.conn.close()
        return
    stranger = session.stranger = Stranger(gate, host, rules.remembers and gate.known(host))
    # a host that speaks for others has the greeting already
    if not rules.wait or stranger.known or host != session.conn.host:
        welcome()
        return
    timer = asyncio.get_running_loop().call_later(rules.wait, _waited, session, stranger)
    stranger.wait = Wait(timer, welcome)


def _waited(session: Dialogue, stranger: Stranger) -> None:
    """Greet the client: it has kept quiet."""
    welcome = stranger.end_wait()
    if welcome is not None and session.conn.transport is not None and not session.conn.closing:
        welcome()
        session.conn.flush()


def spoke(session: Dialogue, stranger: Stranger) -> bool:
    """Octets came before the greeting. True if the session goes on."""
    welcome = stranger.end_wait()
    count("smtp.early_talkers")
    log.event("smtp.early", peer=session.host, what="before the greeting")
    if stranger.gate.rules.early == REFUSE:
        session.say(EARLY)
        session.conn.close()
        return False
    if stranger.gate.rules.early == SCORE:
        stranger.noted["early.greeting"] = "it spoke before the greeting"
    if welcome is not None:
        welcome()
    return True


def pipelined(session: Dialogue, stranger: Stranger) -> bool:
    """More came behind EHLO before its answer. True if the session goes on."""
    rules = stranger.gate.rules
    if not rules.wait or rules.early == OFF or stranger.known:
        return True
    count("smtp.early_talkers")
    log.event("smtp.early", peer=session.host, what="before the reply to EHLO")
    if rules.early == REFUSE:
        session.say(TOO_EARLY)
        session.conn.close()
        return False
    stranger.noted["early.pipelining"] = "commands came before the reply to EHLO"
    return True


# ---------------------------------------------------------------- a mail transaction


def mail_refusal(session: Dialogue, sender: str) -> str:
    """The reply to MAIL where too much came in this hour; empty where it may go on."""
    stranger = session.stranger
    if stranger is None:
        return ""
    why = stranger.gate.mail(stranger.host, sender)
    return _limited(session, why) if why else ""


def reasons(session: Dialogue) -> dict[str, str]:
    """Return what is noted of the client, for the verdict of the transaction that begins."""
    stranger = session.stranger
    if stranger is None:
        return {}
    gate = stranger.gate
    if gate.is_guesser(stranger.host):
        return stranger.noted | {"guesses.recipients": "most recipients that it names are unknown"}
    return stranger.noted


def recipient_refusal(session: Dialogue, transaction: Transaction, name: str) -> str:
    """The reply to RCPT where too much came for the recipient in this hour; empty where it may have more. ``name``: by
    which it is counted, once in a transaction: or one message could use up what a recipient may get."""
    stranger = session.stranger
    if stranger is None:
        return ""
    counted = transaction.counted = transaction.counted or set()
    if name in counted:
        return ""
    why = stranger.gate.addressed(name)
    if why:
        return _limited(session, why, "4.2.1")
    counted.add(name)
    return ""


def unknown(session: Dialogue, transaction: Transaction) -> bool:
    """Count an unknown recipient. False if the session has ended with that."""
    stranger = session.stranger
    if stranger is None:
        return True
    gate = stranger.gate
    gate.missed(stranger.host)
    transaction.missed += 1
    rules = gate.rules
    guesses = rules.guessers != SCORE and gate.is_guesser(stranger.host)
    if not guesses and not 0 < rules.in_message < transaction.missed:
        return True
    count("smtp.guesses")
    log.event("smtp.guesses", "warning", peer=session.host, then=rules.guessers if guesses else "the session is ended")
    if guesses and rules.guessers == BAN:
        session.blame(BANNED, "guesses recipients")
    session.say(GUESSES)
    session.conn.close()
    return False


def limited(session: Dialogue, sender: str, received: Received) -> Outcome | None:
    """Count a message that the verdict lets in for its sender's domain, if SPF vouches for that. Returns the reply if
    too much came from the domain in this hour; None if the message may be taken. Where SPF is not looked at, nobody is
    counted: a signature says who wrote a message, and not who sends it, for anybody may send it once more."""
    stranger = session.stranger
    if stranger is None:
        return None
    checked = received.checks.sender
    if checked is not None and checked.vouches:  # nobody else may use up what a domain may send
        why = stranger.gate.sent(sender)
        if why:
            code, enhanced, text = _limited(session, why).split(" ", 2)
            return Outcome(int(code), enhanced, text)
    return None


def may_earn(session: Dialogue, received: Received) -> bool:
    """Is there anybody whom a message could earn anything? For most messages there is not."""
    return session.stranger is not None or bool(received.earns)


def earns(session: Dialogue, received: Received) -> None:
    """Note what a message earns its client: a good past here, and that greylisting lets it pass. This is the only place
    where anything is earned. Call it when the message is in a mailbox or in the queue: what a filter, a limit or a
    mailing list refused, or what was thrown away or put into Junk, earns nothing."""
    if received.earns and session.service.policy is not None and session.service.policy.greylist is not None:
        session.service.policy.greylist.good(received.earns)
    if session.stranger is not None and received.verdict.action == verdict.ACCEPT and received.verdict.score < GOOD:
        session.stranger.gate.good(session.stranger.host)


def _limited(session: Dialogue, why: str, status: str = "4.7.1") -> str:
    count("smtp.rate")
    log.event("smtp.rate", peer=session.host, why=why)
    return f"450 {status} {why}"


def leaves(session: Dialogue) -> None:
    """Drop what is noted of the client when its connection has ended."""
    if session.stranger is not None:
        session.stranger.end_wait()
        session.stranger = None
