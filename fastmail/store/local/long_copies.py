"""COPY and MOVE (RFC 9051 6.4.7, 6.4.8) of messages with long summaries: in parts, each with a commit of its own.

LMDB keeps all that one transaction writes in memory until the commit, and a summary may have a megabyte. Mailboxes
without long summaries, which are nearly all, are copied in one commit.

Promise: if a part cannot be copied, the parts before it are removed again, and the error is raised. MOVE removes
nothing before everything is copied. Others see the parts as they appear; a crash may leave some of them.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastmail._core.uidset import UidSet
from fastmail.store.interface import Appended, Copied, Expunged
from fastmail.store.local.index import box_rows


def split(uids: UidSet, long: Mapping[int, int]) -> list[UidSet]:
    """Split ``uids`` into parts with at most box_rows.WRITTEN octets of long summaries and one message more. ``long``:
    octets of the long summaries by UID."""
    out: list[UidSet] = []
    first, octets = 1, 0
    for uid in sorted(long):
        octets += long[uid]
        if octets > box_rows.WRITTEN:
            out.append(uids.both(UidSet.of_ranges((first, uid))))
            first, octets = uid + 1, 0
    last = uids.minus(UidSet.of_ranges((1, first - 1))) if out else uids
    return [*out, last] if last or not out else out


async def copy(
    parts: list[UidSet],
    key: bytes,
    target: bytes,
    move: bool,
    one: Callable[[UidSet], Awaitable[Copied]],
    remove: Callable[[bytes, UidSet], Awaitable[Expunged]],
) -> Copied:
    """Copy or move these parts of a mailbox. ``one`` copies a part; ``remove`` removes messages from a mailbox."""
    done = Copied(Appended(target, 0, []), [])
    try:
        for part in parts:
            some = await one(part)
            done.source += some.source
            done.target.uids += some.target.uids
            done.target.uidvalidity, done.target.modseq = some.target.uidvalidity, some.target.modseq
        if move and done.source:
            done.expunged = await remove(key, UidSet.of(done.source))
    except BaseException:
        if done.target.uids:
            await remove(target, UidSet.of(done.target.uids))
        raise
    return done
