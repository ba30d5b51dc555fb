"""The first reply of a session, and the one after XCLIENT (RFC 5321 3.1, 4.2)."""

from fastmail.smtp import strangers
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.milter import Filters
from fastmail.smtp.service import LMTP
from fastmail.telemetry.counters import count


def greet(session: Dialogue) -> None:
    """Greet the client, after a stranger has waited where it has to."""
    if session.service.gate is None:
        _greet(session)
    else:
        strangers.arrives(session, lambda: _greet(session))


def _greet(session: Dialogue) -> None:
    """Greet the client. If there are filters, they are asked first."""
    if session.service.milters:
        session.conn.run(_ask(session))
    else:
        _welcome(session)


def _welcome(session: Dialogue) -> None:
    word = "LMTP" if session.service.kind == LMTP else "ESMTP"
    session.say(f"220 {session.service.hostname} {word} fastmail")


async def _ask(session: Dialogue) -> None:
    """Greet whom the filters let in."""
    if session.filters is not None:
        session.filters.close()
    session.filters = Filters(session.service.milters, session.service.hostname, session.host)
    refusal = await session.filters.connect()
    if refusal is None:
        _welcome(session)
        return
    count("milter.refused")
    code = 554 if refusal.code // 100 == 5 else 421
    session.say(f"{code} {refusal.enhanced} {refusal.text}")
    session.conn.close()
