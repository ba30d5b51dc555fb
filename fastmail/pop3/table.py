"""The POP3 command table (RFC 1939 3, RFC 2449, RFC 2595 4, RFC 5034): verb, method, state."""

from dataclasses import dataclass

AUTHORIZATION, TRANSACTION = 1, 2
BOTH = AUTHORIZATION | TRANSACTION


@dataclass(frozen=True, slots=True)
class Command:
    """``method`` of the session and the states in which it is allowed."""

    method: str
    states: int


COMMANDS = {
    b"CAPA": Command("do_capa", BOTH),
    b"QUIT": Command("do_quit", BOTH),
    b"STLS": Command("do_stls", AUTHORIZATION),
    b"AUTH": Command("do_auth", AUTHORIZATION),
    b"USER": Command("do_user", AUTHORIZATION),
    b"PASS": Command("do_pass", AUTHORIZATION),
    b"STAT": Command("do_stat", TRANSACTION),
    b"LIST": Command("do_list", TRANSACTION),
    b"UIDL": Command("do_uidl", TRANSACTION),
    b"RETR": Command("do_retr", TRANSACTION),
    b"TOP": Command("do_top", TRANSACTION),
    b"DELE": Command("do_dele", TRANSACTION),
    b"NOOP": Command("do_noop", TRANSACTION),
    b"RSET": Command("do_rset", TRANSACTION),
}
EXTRAS = (b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER")
