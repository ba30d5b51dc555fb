"""Puts the footer of a domain under what its accounts send to other servers (message.footer, RFC 2045).

It is there before the filters see the message, and before it is signed. A message whose recipients are all here stays
as it was written: accounts, and mailing lists whose active members all have addresses of this server. A list with more
than MEMBERS members counts as one that has others, because nobody waits for all of them to be looked at. An address
that forwards to another server leads outside.
"""

import asyncio
from itertools import islice

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.planning import SCAN_ON_LOOP
from fastmail.directory.interface import Directory
from fastmail.directory.records import ACTIVE
from fastmail.durable.staging import Staged, staged_whole
from fastmail.message import footer
from fastmail.message.header import Octets
from fastmail.smtp.dialogue import Dialogue

MEMBERS = 1000  # of a list that are looked at


def outside(deliverer: Deliverer, envelope: Envelope) -> bool:
    """True if a message leaves this server for one recipient at least. It may read many rows of the directory."""
    directory = deliverer.directory
    for address, records in envelope.recipients:
        if not records and address not in envelope.forwards:
            return True
    for address in envelope.forwards:
        there = deliverer.destinations(address)
        if there.elsewhere or any(_has_others(directory, one.row.address) for one in there.lists if not one.part):
            return True
    return False


def _has_others(directory: Directory, of: str) -> bool:
    members = list(islice(directory.each_member(of), MEMBERS + 1))
    if len(members) > MEMBERS:
        return True
    return any(one.state == ACTIVE and not directory.is_local(one.address.rpartition("@")[2]) for one in members)


async def put(session: Dialogue, content: Octets, envelope: Envelope) -> Octets:
    """Return the message (LF) with the footer of its sender's domain; the same object if there is no footer."""
    user, service = session.user, session.service
    if user is None or service.outbound is None:
        return content
    domain = service.deliverer.directory.domain(user.address.rpartition("@")[2])
    if domain is None or not (domain.footer or domain.footer_html):
        return content
    loop = asyncio.get_running_loop()
    if not await loop.run_in_executor(None, outside, service.deliverer, envelope):
        return content
    texts = content, domain.footer, domain.footer_html
    if len(content) <= SCAN_ON_LOOP:
        found = footer.added(*texts)
        return b"".join(found) if found is not None else content
    found = await loop.run_in_executor(None, footer.added, *texts)
    if found is None:
        return content
    return await staged_whole(Staged(service.staging, service.budget), found)
