"""Which command does what in which state (RFC 5321 4.1.1, 4.1.4; RFC 2033 4.1): the one table of the SMTP sessions.

A row has one function for each state in which commands come (smtp.transaction.State): what does the command there, or
what gives the reply that the gap deserves. What is not in the table has its reply in smtp.session: an unknown verb gets
500, a verb of another service 502 or 500.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastmail.smtp.authenticate import auth
from fastmail.smtp.authenticate import in_transaction as auth_in_transaction
from fastmail.smtp.basics import no_hello, noop, quit_, rset, starttls, starttls_in_transaction, vrfy
from fastmail.smtp.content import bdat, bdat_for_nobody, burl, burl_for_nobody, data, no_recipients
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.hello import ehlo, helo
from fastmail.smtp.mail import mail
from fastmail.smtp.recipients import rcpt
from fastmail.smtp.service import LMTP, MX, SUBMISSION
from fastmail.smtp.transaction import CONTENT, State
from fastmail.smtp.xclient import allowed as may_xclient
from fastmail.smtp.xclient import in_transaction as xclient_in_transaction
from fastmail.smtp.xclient import xclient

Handler = Callable[[Dialogue, bytes], None]
COLUMNS = tuple(state for state in State if state < CONTENT)  # those in which commands come
EVERY = frozenset((MX, SUBMISSION, LMTP))
ESMTP = frozenset((MX, SUBMISSION))
USERS = frozenset((SUBMISSION,))


@dataclass(frozen=True, slots=True)
class Command:
    """One row. ``services``: where the verb is known; ``run``: a function for each of COLUMNS; ``args``: arguments are
    allowed; ``alone``: nothing may be sent after it before its reply (RFC 2920 3.1)."""

    services: frozenset[str]
    run: tuple[Handler, ...]
    args: bool = True
    alone: bool = False


def _refused(reply: str) -> Handler:
    """Return a function that gives this reply and changes nothing."""

    def refuse(session: Dialogue, rest: bytes) -> None:
        session.bad(reply)

    return refuse


no_mail = _refused("503 5.5.1 need MAIL first")
under_way = _refused("503 5.5.1 a mail transaction is under way; RSET ends it")
bdat_begun = _refused("503 5.5.1 BDAT was begun; DATA can not follow")


def help_(session: Dialogue, rest: bytes) -> None:
    """RFC 5321 4.1.1.8: the verbs of this service."""
    known = [verb.decode() for verb, command in COMMANDS.items() if session.service.kind in command.services]
    verbs = " ".join(verb for verb in known if verb != "XCLIENT" or may_xclient(session))
    session.say(f"214 2.0.0 {verbs}")


def _always(run: Handler) -> tuple[Handler, ...]:
    return (run,) * len(COLUMNS)


# fmt: off
COMMANDS = {
    #                              START     NONE             MAIL             RCPT         BDAT
    b"EHLO": Command(ESMTP, _always(ehlo)),
    b"HELO": Command(ESMTP, _always(helo)),
    b"LHLO": Command(frozenset((LMTP,)), _always(ehlo)),
    b"MAIL": Command(EVERY,       (no_hello, mail,            under_way,       under_way,   under_way)),
    b"RCPT": Command(EVERY,       (no_hello, no_mail,         rcpt,            rcpt,        rcpt)),
    b"DATA": Command(EVERY,       (no_hello, no_mail,         no_recipients,   data,        bdat_begun),
                     args=False, alone=True),
    b"BDAT": Command(EVERY,       (*[bdat_for_nobody] * 3,                     bdat,        bdat)),
    b"BURL": Command(USERS,       (no_hello, no_mail,         burl_for_nobody, burl,        burl)),
    b"RSET": Command(EVERY, _always(rset), args=False),
    b"NOOP": Command(EVERY, _always(noop)),
    b"QUIT": Command(EVERY, _always(quit_), args=False),
    b"VRFY": Command(EVERY, _always(vrfy)),
    b"HELP": Command(EVERY, _always(help_)),
    b"STARTTLS": Command(EVERY,   (no_hello, starttls, *[starttls_in_transaction] * 3), args=False),
    b"XCLIENT": Command(ESMTP,    (xclient,  xclient,  *[xclient_in_transaction] * 3)),
    b"AUTH": Command(USERS,       (no_hello, auth,     *[auth_in_transaction] * 3)),
}
# fmt: on
BY_SERVICE = {
    kind: {verb: command for verb, command in COMMANDS.items() if kind in command.services} for kind in sorted(EVERY)
}
