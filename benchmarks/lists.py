"""A mailing list of many members: import, and one post, at two sizes. ``python -m benchmarks.lists [MEMBERS]``.

Half of the members are of this server, half at other hosts, which are never asked: measured is what becomes of the post
until each member is in a job, and then one job of deliveries here, to a store in memory. It prints seconds, and what the
process grew by at most.
"""

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope, Named
from fastmail.delivery.history import History
from fastmail.delivery.lists.engine import Lists
from fastmail.directory.local import LocalDirectory
from fastmail.directory.lookup import ToList
from fastmail.directory.records import List, Member
from fastmail.model.esmtp import Rcpt
from fastmail.queue import routes
from fastmail.queue.model import LOCAL, Item
from fastmail.queue.spool import Spool
from fastmail.store.memory.store import MemoryStore

CREW = "crew@d.test"
HEAD = b"From: a@d.test\nSubject: x\nMessage-ID: <1@d.test>\n\n"
BODY = b"a line of the text of this message\n" * 120
BATCH = 5000
HOSTS = 1000


def peak() -> int:
    """Octets that were resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def import_members(place: LocalDirectory, number: int) -> float:
    place.put_list(List(CREW, owners=("u1@d.test",), rewrite_from="never"))
    begun = time.monotonic()
    for start in range(0, number, BATCH):
        batch = []
        for n in range(start, min(start + BATCH, number)):
            batch.append(Member(f"u{n}@d.test" if n % 2 else f"m{n}@h{n % HOSTS}.test", f"Member {n}"))
        place.put_members(CREW, batch)
    return time.monotonic() - begun


async def post(place: LocalDirectory, path: str) -> tuple[float, float, int, int]:
    """(s until all are in the queue, s of one job of deliveries here, jobs, messages)."""
    store = MemoryStore()
    deliverer = Deliverer(place, store, "mx.d.test")
    spool, history = Spool(path, 1 << 30), History(path, 0, 1 << 24)
    lists = Lists(spool, deliverer, routes.parse([], []), history, "mx.d.test")
    content = HEAD + BODY
    item = Item(spool.new_id(), "a@d.test", int(time.time()), len(content))
    row = place.mailing_list(CREW)
    assert row is not None
    begun = time.monotonic()
    for made in await lists.of(item, Rcpt(CREW), content, [ToList(row)]):
        await spool.enqueue(made.outgoing)
    while found := spool.due(LOCAL, time.time() + 1, 1, lambda key: not _is_list(spool, key))[0]:
        whole = spool.item(found[0].item)
        assert whole is not None
        await lists.step(found[0], whole, await spool.content(whole))
    queued = time.monotonic() - begun
    messages, jobs = spool.depth()
    begun = time.monotonic()
    one, job = next(pair for pair in spool.jobs() if pair[1].destination == LOCAL)
    await _deliver(deliverer, spool, one, [rcpt.address for rcpt in job.recipients])
    took = time.monotonic() - begun
    await spool.close()
    return queued, took, jobs, messages


def _is_list(spool: Spool, key: bytes) -> bool:
    found = spool.item(int.from_bytes(key[:8], "big"))
    return found is not None and bool(found.mailing_list) and not found.verp


async def _deliver(deliverer: Deliverer, spool: Spool, item: Item, addresses: list[str]) -> None:
    envelope = Envelope(item.sender, [(one, deliverer.destinations(one).accounts) for one in addresses])
    named = Named(item.number, item.transaction)
    done = await deliverer.deliver(envelope, await spool.content(item), "INBOX", named)
    assert all(one.ok for one in done)


def main() -> None:
    for number in (int(sys.argv[1]),) if len(sys.argv) > 1 else (25_000, 50_000, 100_000):
        with tempfile.TemporaryDirectory() as path:
            place = LocalDirectory(str(Path(path) / "data"))
            place.add_domain("d.test")
            place.add_accounts([(f"u{n}@d.test", "{PLAIN}x") for n in range(1, number, 2)])
            before = peak()
            took = import_members(place, number)
            after = peak()
            queued, delivered, jobs, messages = asyncio.run(post(place, path))
            print(
                f"{number} members: import {took:.2f} s, {(after - before) >> 20} MiB; post {queued:.2f} s into "
                f"{messages} messages and {jobs} jobs, {delivered:.2f} s for 1,000 here, {(peak() - after) >> 20} MiB"
            )
            place.close()


if __name__ == "__main__":
    main()
