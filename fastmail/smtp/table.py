"""The SMTP command table (RFC 5321 4.1.1, 4.5.1; RFC 2033 4.1): verb, handler, and what must have come before.

A gap in the table is the error: an unknown verb gets 500, a verb of another service 502, one out of order 503.
"""

from dataclasses import dataclass

MX, SUBMISSION, LMTP = "smtp", "submission", "lmtp"
EVERY = frozenset((MX, SUBMISSION, LMTP))


@dataclass(frozen=True, slots=True)
class Command:
    """``method`` of the session; ``hello``: needs EHLO/HELO/LHLO; ``mail``/``rcpt``: needs that; ``args``: allowed."""

    method: str
    services: frozenset[str] = EVERY
    hello: bool = False
    mail: bool = False
    rcpt: bool = False
    args: bool = True


COMMANDS = {
    b"EHLO": Command("do_ehlo", frozenset((MX, SUBMISSION))),
    b"HELO": Command("do_helo", frozenset((MX, SUBMISSION))),
    b"LHLO": Command("do_ehlo", frozenset((LMTP,))),
    b"MAIL": Command("do_mail", hello=True),
    b"RCPT": Command("do_rcpt", hello=True, mail=True),
    b"DATA": Command("do_data", hello=True, mail=True, rcpt=True, args=False),
    b"BDAT": Command("do_bdat", hello=True, mail=True),
    b"BURL": Command("do_burl", frozenset((SUBMISSION,)), hello=True, mail=True),
    b"RSET": Command("do_rset", args=False),
    b"NOOP": Command("do_noop"),
    b"QUIT": Command("do_quit", args=False),
    b"VRFY": Command("do_vrfy"),
    b"HELP": Command("do_help"),
    b"STARTTLS": Command("do_starttls", hello=True, args=False),
    b"XCLIENT": Command("do_xclient", frozenset((MX, SUBMISSION))),
    b"AUTH": Command("do_auth", frozenset((SUBMISSION,)), hello=True),
}
HTTP = frozenset((b"GET", b"POST", b"CONNECT", b"HEAD", b"PUT", b"OPTIONS"))
EXTENSIONS = (
    *(b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"BINARYMIME"),
    *(b"ENHANCEDSTATUSCODES", b"DSN", b"HELP"),
)
LMTP_EXTENSIONS = tuple(one for one in EXTENSIONS if one != b"DSN")  # the host in front makes the reports
EOD_REPLIES = {
    "full": (552, "5.3.4", "message is too big"),
    "bare": (550, "5.6.11", "bare CR or LF in the message; lines end in CRLF"),
    "nul": (550, "5.6.0", "NUL in the message"),
}
