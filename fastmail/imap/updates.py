"""CONTEXT=SEARCH and CONTEXT=SORT (RFC 5267 4): searches whose results are kept up to date at the client, with ADDTO
and REMOVEFROM, wherever changes of the mailbox are sent.

What an EXPUNGE removes is sent before it, while its sequence number is still valid; everything else after it, when the
search is made again over the new view.
"""

from fastmail._core.uidset import UidSet
from fastmail.imap.returns import head
from fastmail.imap.views import Context, Selected
from fastmail.net.connection import Connection

MOST = 10  # such searches of one session


def begin(conn: Connection, selected: Selected, context: Context) -> None:
    """Keep the client up to date on a search that was just answered, or refuse that."""
    if len(selected.contexts) >= MOST:
        conn.write(b'* NO [NOUPDATE "' + context.tag + b'"] too many searches are kept up to date\r\n')
        return
    selected.contexts.append(context)
    selected.contexts_modseq = selected.modseq


def in_use(selected: Selected, tag: bytes) -> bool:
    """True if another search has this tag."""
    return any(context.tag == tag for context in selected.contexts)


def removed(selected: Selected, before: UidSet, gone: UidSet) -> bytes:
    """Return what an EXPUNGE removes, with the sequence numbers from before it."""
    out = []
    for context in selected.contexts:
        lost = [uid for uid in context.results if uid in gone]
        if lost:
            kept = [uid for uid in context.results if uid not in gone]
            out.append(tell(context, before, lost, [], kept))
            context.results = kept
    return b"".join(out)


async def refresh(conn: Connection, selected: Selected) -> None:
    """Search again, and send the difference."""
    selected.contexts_modseq = selected.modseq
    for context in list(selected.contexts):
        found = await context.again()
        old, new = set(context.results), set(found)
        lost = [uid for uid in context.results if uid not in new]
        fresh = [uid for uid in found if uid not in old]
        kept = [uid for uid in context.results if uid in new]
        if context.ordered and kept != [uid for uid in found if uid in old]:
            lost, fresh = context.results, found  # the order itself changed: remove all and add all
        if lost or fresh:
            conn.write(tell(context, selected.uids, lost, fresh, found))
        context.results = found


def tell(context: Context, view: UidSet, lost: list[int], fresh: list[int], found: list[int]) -> bytes:
    """Return ``* ESEARCH`` with the steps that lead from the old results to ``found`` (RFC 5267 4.3)."""
    number = (lambda uid: uid) if context.by_uid else view.seq
    start = head(context.tag, context.by_uid)
    if not context.ordered:
        parts = b""
        if lost:
            parts += b" REMOVEFROM (0 " + UidSet.of(sorted(number(uid) for uid in lost)).octets() + b")"
        if fresh:
            parts += b" ADDTO (0 " + UidSet.of(sorted(number(uid) for uid in fresh)).octets() + b")"
        return start + parts + b"\r\n"
    steps = []
    places = {uid: at for at, uid in enumerate(context.results, 1)}
    for removed_before, uid in enumerate(lost):  # they are in the order of the results
        steps.append(b" REMOVEFROM (%d %d)" % (places[uid] - removed_before, number(uid)))
    wanted = set(fresh)
    for at, uid in enumerate(found):
        if uid in wanted:
            steps.append(b" ADDTO (%d %d)" % (at + 1, number(uid)))
    return start + b"".join(steps) + b"\r\n"
