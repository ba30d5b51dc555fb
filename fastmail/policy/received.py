"""What is looked at in mail from others, and what the checks of one message come to (policy.receive)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from fastmail.directory.named import NOBODY, Book
from fastmail.policy import wishes
from fastmail.policy.lists import Zone
from fastmail.policy.reasons import Finding, Reply
from fastmail.policy.strangers.rules import OFF
from fastmail.policy.verdict import Checks, Thresholds, Verdict
from fastmail.policy.wishes import Wishes

# asks those who look at the content, given our Authentication-Results field and the client's verified name
Look = Callable[[bytes, str], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is looked at. ``hostname`` names us in Authentication-Results; ``enforce``: act upon the verdict, or only
    write it down; ``greylist``: the score from which a message of an unknown sender is put off, 0 for never; ``allow``,
    ``block``: the operator's own lists, and ``junk``: what is blocked goes into Junk, otherwise it is refused;
    ``received_spf``: write the results of SPF into fields of their own too; ``subject_tag``: what is put in front of
    the subject of a message with ``subject_score`` or more, 0 for what is junk; empty for nothing; ``helo``,
    ``sender``: what becomes of messages whose client's name in EHLO, or whose sender's domain, is not what it should be
    (off, score, refuse); ``link_lists``: lists of what the content names."""

    hostname: str
    spf: bool = True
    dkim: bool = True
    dmarc: bool = True
    arc: bool = True
    reverse: bool = True
    enforce: bool = False
    seconds: float = 20.0
    voids: int = 2
    thresholds: Thresholds = Thresholds()
    lists: Sequence[Zone] = ()
    domain_lists: Sequence[Zone] = ()
    greylist: float = 0.0
    allow: Book = NOBODY
    block: Book = NOBODY
    junk: bool = False
    received_spf: bool = False
    subject_tag: str = ""
    subject_score: float = 0.0
    helo: str = OFF
    sender: str = OFF
    link_lists: Sequence[Zone] = ()

    @property
    def wishes(self) -> Wishes:
        """What holds for recipients that ask for nothing else."""
        level = wishes.Level(wishes.SERVER, self.allow, self.block, self.junk)
        levels = (level,) if self.allow or self.block else ()
        return Wishes(self.enforce, self.thresholds, self.greylist, levels, self.junk)


class Received(msgspec.Struct, frozen=True):
    """What the checks came to. ``add``: the fields to put in front of the message (LF); what to remove from it,
    ``results.unwanted`` says of the content as it is kept, with ``remove`` for more of its fields. ``each``: the
    verdict by what was asked for recipients; ``verdict`` is the mildest of these, and ``enforce`` says whether that
    counts; ``tag``: what is put in front of its subject; ``earns``: who waits for nothing from now on if the message is
    taken (policy.greylist), empty for nobody; ``words``: for the trace of the message, in one line. ``alike``: a number
    that messages have whose client, sender, results and verdict are the same, but for b= of signatures, and no others;
    0 for none. ``subject``: the beginning of the first Subject, None where it was not looked for; ``clean``: its header
    has no field that may have to be cut out (results.MARKS), as far as that was looked at."""

    add: bytes
    checks: Checks
    verdict: Verdict
    asked: int = 0
    enforce: bool = False
    remove: tuple[tuple[bytes, int], ...] = ()
    each: tuple[tuple[Wishes, Verdict], ...] = ()
    tag: str = ""
    earns: str = ""
    words: str = ""
    alike: int = 0
    subject: bytes | None = None
    clean: bool = False

    def done(self, wanted: Wishes) -> str:
        """The action for a recipient for whom this was asked."""
        return next((one.done(decided) for one, decided in self.each if one == wanted), self.verdict.always)

    @property
    def action(self) -> str:
        """What is done with the message: what the verdict says, where that counts."""
        return self.verdict.action if self.enforce else self.verdict.always

    def enforced(self, action: str) -> bool:
        """Is this what is done?"""
        return action == self.action

    @property
    def reply(self) -> Reply:
        """Of what is done."""
        return self.verdict.reply if self.enforce else self.verdict.always_reply
