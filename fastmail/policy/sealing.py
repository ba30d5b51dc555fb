"""Our ARC set on mail of others that is forwarded, or sent on by a mailing list (RFC 8617 5.1): what was seen of the
message when it came, sealed, so that the next host, whose SPF check sees us and not the sender, may believe the sender
all the same.

What was seen is the Authentication-Results field that this server put in front of the message then; the state of the
chain before us (cv=) is what it says of ARC. So nothing is asked of the DNS again, and the chain is judged as it came.

Promise: a message is sealed only where its results are ours: forged ones were removed when it came, and mail that was
not checked is not sealed. A chain that was said to fail gets no further set. Hashing and RSA happen on helper threads.
"""

import asyncio
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

from fastmail._core import header as scanner
from fastmail.model.domain import comparable
from fastmail.policy import arc, results, sign
from fastmail.policy.arc import NONE, Chain
from fastmail.policy.dkim import Content
from fastmail.policy.sign import SigningKey
from fastmail.policy.signer import Signer
from fastmail.telemetry.counters import count

RESULTS = b"authentication-results"
# A result of ours begins its line, and a line end in a value is impossible (policy.results), so nobody can forge it.
_ARC = re.compile(r"\n\tarc=(pass|fail)[ \n;]")


@dataclass(frozen=True, slots=True)
class Sealer:
    """``domain``: whose key seals; ``hostname``: whose results they are, as this server writes them."""

    signer: Signer
    hostname: str
    domain: str

    async def seal(self, content: bytes, uncovered: Container[bytes] = ()) -> bytes:
        """The fields (LF) to put in front of a message (LF) that was checked here; empty where it is not sealed.
        ``uncovered``: names of header fields that will still change."""
        keys = await self.signer.keys(self.domain)
        if not keys:
            return b""
        return await asyncio.get_running_loop().run_in_executor(None, self._seal, content, keys, uncovered)

    def _seal(self, content: bytes, keys: Sequence[SigningKey], uncovered: Container[bytes]) -> bytes:
        payload = _payload(content, self.hostname)
        if not payload:
            return b""
        header, body = sign.split([content])
        made = Content(header)
        if made.broken or not sign.coverable(sign.numbers(made.fields)):
            return b""
        found = arc.read(made)
        said = _ARC.search(payload + "\n")
        if said is None and (found.sets or found.why):  # its chain was not looked at when it came
            return b""
        made.want(True)
        for piece in body:
            made.feed(piece)
        made.finish()
        chain = Chain(said.group(1) if said is not None else NONE, sets=len(found.sets))
        fields = arc.seal(made, found, chain, payload, self.hostname, keys[0], uncovered)
        if fields:
            count("arc.sealed")
        return b"".join(fields)


def _payload(content: bytes, hostname: str) -> str:
    """What our results say, behind our name; empty where there are none."""
    mine = comparable(hostname)
    for start in memoryview(scanner.starts(content, RESULTS)).cast("I"):
        _, value, end = scanner.field(content, start)
        text = content[value:end]
        if results.server(text) == mine and text.isascii():
            return ";" + text.decode("ascii").partition(";")[2].rstrip("\n")
    return ""
