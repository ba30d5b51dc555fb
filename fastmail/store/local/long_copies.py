"""COPY and MOVE (RFC 9051 6.4.7, 6.4.8) of messages with long summaries: a part at a time, each in a commit of its own.

LMDB has all that one transaction writes in memory until the commit, and a summary may have a megabyte. Mailboxes
without long summaries, nearly all that there are, are copied in one commit.

Promise: when a part cannot be copied, the parts before it are removed again, and the error is raised. MOVE removes
nothing before all of it is copied. Others see the parts as they come; a crash may leave some of them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastmail._core.uidset import UidSet
from fastmail.store.interface import Account, Appended, Copied
from fastmail.store.local.index import box_rows

if TYPE_CHECKING:
    from fastmail.store.local.store import LocalStore


def split(uids: UidSet, long: Mapping[int, int]) -> list[UidSet]:
    """``uids`` in parts that have at most ops.WRITTEN octets of long summaries and one message more. ``long``: octets
    of these summaries by UID."""
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
    store: "LocalStore", account: Account, key: bytes, parts: list[UidSet], target: bytes, move: bool
) -> Copied:
    """Copy or move these parts, as LocalStore.copy does one."""
    done = Copied(Appended(target, 0, []), [])
    try:
        for part in parts:
            one = await store.copy(account, key, part, target)
            done.source += one.source
            done.target.uids += one.target.uids
            done.target.uidvalidity, done.target.modseq = one.target.uidvalidity, one.target.modseq
        if move and done.source:
            done.expunged = await store.expunge(account, key, UidSet.of(done.source), 0)
    except BaseException:
        if done.target.uids:
            await store.expunge(account, target, UidSet.of(done.target.uids), 0)
        raise
    return done
