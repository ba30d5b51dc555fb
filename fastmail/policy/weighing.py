"""What becomes of a message where others than its checks have a say: lists of senders, those who look at the content,
greylisting (policy.wishes, policy.greylist)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from fastmail.policy import marks, verdict, wishes
from fastmail.policy.greylist import Greylist, place
from fastmail.policy.outcome import Outcome
from fastmail.policy.received import Look
from fastmail.policy.verdict import Checks, Verdict
from fastmail.policy.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Letter:
    """What a message is known by: the client, MAIL FROM and the values of From. ``greylist``: None for none."""

    ip: str
    sender: str
    written: Sequence[bytes]
    greylist: Greylist | None


async def weighed(
    letter: Letter, checks: Checks, found: Mapping[Wishes, Outcome], look: Look | None, field: bytes
) -> tuple[Checks, dict[Wishes, Verdict], str]:
    """The checks with what is said of the content; the verdict for each by lists of senders, by that, and by
    greylisting; and who earns to be greylisted no more. ``found``: by what is asked for recipients; ``field``: our
    Authentication-Results."""
    who = wishes.Who(letter.ip)
    if any(one.levels for one in found):
        who = wishes.who(letter.ip, letter.sender, letter.written, checks)
    each = {one: wishes.listed(its.decided, one, who) for one, its in found.items()}
    if look is not None and any(one.done(decided) != verdict.REFUSE for one, decided in each.items()):
        reverse = checks.reverse
        verified = reverse.name if reverse is not None and reverse.result == "pass" else ""
        checks = replace(checks, findings=tuple(await look(field, verified)))
        each = {one: wishes.judged(checks, one, who) for one in each}
    earns = ""
    if letter.greylist is not None and any(one.greylist > 0 for one in each):
        suspect, sent_by = marks.suspect(checks.findings), place(letter.ip, checks.sender)
        if wishes.all_put_off(each, suspect):
            each = _put_off(letter.greylist, each, sent_by, letter.sender)
        elif wishes.all_good(each, suspect):
            earns = sent_by
    return checks, each, earns


def _put_off(greylist: Greylist, each: dict[Wishes, Verdict], sent_by: str, sender: str) -> dict[Wishes, Verdict]:
    """The same verdicts, or, where the sender has to wait, later ones for all who do not refuse the message."""
    seconds = greylist.wait(sent_by, sender)
    if not seconds:
        return each
    reply = (450, "4.7.1", f"not known here yet: try again in {seconds} seconds")
    later = {one: replace(decided, action=verdict.LATER, reply=reply) for one, decided in each.items()}
    return {one: each[one] if one.done(each[one]) == verdict.REFUSE else later[one] for one in each}
