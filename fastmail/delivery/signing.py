"""Signatures on messages of our own that wait for their commit: reports of all kinds."""

from fastmail.policy.signer import Signer
from fastmail.queue.model import Outgoing


async def put(signer: Signer | None, outgoing: Outgoing, author: str, at: int = 0) -> None:
    """Sign a message of ours: the pieces of its content from ``at`` on are the message, and those before it are trace
    fields, behind which the signature comes. ``author``: the domain of its From, whose keys sign, if there are any."""
    if signer is None:
        return
    fields = await signer.sign(outgoing.content[at:], author)
    if fields:
        outgoing.content.insert(at, fields)
        outgoing.item.size += len(fields) + fields.count(b"\n")
        outgoing.item.signed = author
