"""A message that goes into quarantine (delivery.quarantine) in place of mailboxes.

The client hears 250 once it is on the disk: from then on this server is responsible for it (RFC 5321 4.5.3.2.6), and
whoever runs the server releases or deletes it. The trace has its id.
"""

import asyncio
import time

from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.delivery.quarantine import Kept
from fastmail.message import submitted, trace
from fastmail.message.header import Octets
from fastmail.model.errors import CannotDo, MailError, StorageFull
from fastmail.smtp.dialogue import Dialogue
from fastmail.telemetry import log

HEAD = 8192  # octets in which the Message-ID is looked for


async def put(session: Dialogue, envelope: Envelope, content: Octets) -> tuple[Outcome, str]:
    """(the reply, the id) of a message (LF). Where nothing is kept back, or it cannot be, nobody has it."""
    quarantine, ident = session.service.quarantine, trace.new_id()
    if quarantine is None:
        return Outcome(554, "5.7.1", "this message looks unwanted"), ident
    kept = Kept(
        ident,
        int(time.time()),
        envelope.sender,
        tuple(envelope.asked),
        envelope.filters,
        len(content),
        submitted.message_id(bytes(content[:HEAD])),
        envelope.options,
        envelope.helo,
        envelope.peer,
        envelope.protocol,
        envelope.doubted,
    )
    try:
        await asyncio.get_running_loop().run_in_executor(None, quarantine.keep, kept, content)
    except StorageFull:
        return Outcome(452, "4.3.1", "not enough storage, try again later"), ident
    except (MailError, CannotDo, OSError) as error:
        log.event("quarantine.failed", "error", id=ident, error=error)
        return Outcome(451, "4.3.0", "local error, try again later"), ident
    log.event("quarantine", id=ident, sender=envelope.sender, peer=envelope.peer, recipients=len(envelope.asked))
    return Outcome(250, "2.0.0", f"{ident} taken"), ident
