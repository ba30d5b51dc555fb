"""What checks of a message say: reasons with scores, and what one judge of its content found.

The nouns that scanners, the classifier and the verdict share. Nothing here decides anything: policy.verdict does. Nouns
that each message has several of are structs of msgspec, here and beside: making one costs a tenth of what a frozen
dataclass does.
"""

from dataclasses import dataclass

import msgspec

ACCEPT, JUNK, QUARANTINE, LATER, REFUSE = "accept", "junk", "quarantine", "later", "refuse"
RANK = {
    ACCEPT: 0,
    JUNK: 1,
    QUARANTINE: 2,
    LATER: 3,
    REFUSE: 4,
}  # of several wishes the one with the highest rank is done
WORDS = 200  # characters of a reason

Reply = tuple[int, str, str]
TAKEN: Reply = (250, "2.0.0", "")


class Reason(msgspec.Struct, frozen=True):
    """``name``: a key of verdict.SCORES, or one of a list, a scanner or the classifier; ``why``: for people."""

    name: str
    score: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one judge of the content says.

    ``who``: its name; ``said``: its answer in a word or two, for the trace; ``reasons``: what is added to the score.
    ``action`` and ``reply``: what it wants by itself, whatever the score is; ``always``: that is done even where the
    verdict is only written down. ``suspect``: a sender who is not known should be put off. ``virus``: what it says of
    viruses: clean, infected or unknown; empty for a judge that does not look for any. ``add``: header fields that it
    wants in front of the message; ``remove``: names (lower case) of fields to take out, each with which of them: 0 for
    all, from the top from 1 on, from the bottom below 0.
    """

    who: str
    said: str
    reasons: tuple[Reason, ...] = ()
    action: str = ACCEPT
    reply: Reply = TAKEN
    always: bool = False
    suspect: bool = False
    virus: str = ""
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[tuple[bytes, int], ...] = ()
