"""Puts the footer of a domain under what its accounts send to other servers (message.footer, RFC 2045).

It is there before the filters see the message, and before it is signed. A message whose recipients are all here stays
as it was written.
"""

import asyncio

from fastmail.delivery.deliver import SCAN_ON_LOOP
from fastmail.durable.staging import Staged, staged_whole
from fastmail.message import footer
from fastmail.message.header import Octets
from fastmail.smtp.dialogue import Dialogue


async def put(session: Dialogue, content: Octets, leaves: bool) -> Octets:
    """Return the message (LF) with the footer of its sender's domain; the same object if there is no footer."""
    user, service = session.user, session.service
    if user is None or not leaves:
        return content
    domain = service.deliverer.directory.domain(user.address.rpartition("@")[2])
    if domain is None or not (domain.footer or domain.footer_html):
        return content
    texts = content, domain.footer, domain.footer_html
    if len(content) <= SCAN_ON_LOOP:
        found = footer.added(*texts)
        return b"".join(found) if found is not None else content
    found = await asyncio.get_running_loop().run_in_executor(None, footer.added, *texts)
    if found is None:
        return content
    return await staged_whole(Staged(service.staging, service.budget), found)
