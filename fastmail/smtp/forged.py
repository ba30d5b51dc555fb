"""Removes fields that only this server may set (RFC 8601 5) from mail that is not judged; from mail that is judged,
policy.results removes them along with putting the verdict in.

- What users send has no Authentication-Results and Received-SPF of this server, and no X-Spam, X-Virus and X-Fastmail
  fields: a login could otherwise show results of ours to other users here.
- What ``[relay] networks`` and ``[policy] exempt`` networks hand over keeps the marks of their own scanners, and loses
  results that bear the name of this server.
- Mail of this machine and by LMTP stays as it is: a filter that hands back what it got, or a server in front of this
  one, may have the same name.
"""

from fastmail.durable.staging import Staged
from fastmail.message.header import Octets
from fastmail.net.networks import is_here
from fastmail.policy import results
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP, SUBMISSION


async def removed(session: Dialogue, content: Octets) -> Octets:
    """The message (LF) without such fields; the same object where it has none."""
    service = session.service
    user = service.kind == SUBMISSION or session.user is not None
    if service.kind == LMTP or (is_here(session.host) and not user):
        return content
    again = Staged(service.staging, service.budget)
    return await results.put(b"", content, service.hostname, again, marks=user)
