"""The queue: what was acknowledged is kept, sent once, and reported only when that is right."""

from tests.mutations import Mutation

SPOOL = "fastmail/queue/spool.py"
CONTENTS = "fastmail/queue/contents.py"
DELIVERING = "fastmail/relay/delivering.py"
UNIT = "tests/unit/queue/test_spool.py"
ORDER = "tests/journey/test_durable_order.py::test_r4_what_is_queued_is_durable_before_its_reply"

MUTATIONS = [
    Mutation(
        "the queue answers before its commit",
        SPOOL,
        "        item: Item = await self._begin(apply, jobs, True)\n        return item\n",
        "        self._begin(apply, jobs)\n        return outgoing.item\n",
        (f"{ORDER}[maildir]",),
        slow=True,
    ),
    Mutation(
        "the queue's own content is never synced (strace)",
        SPOOL,
        "        future = self._commits().submit(Operation(apply, writes, adds, self._done))\n",
        "        for one in writes:\n            os.pwrite(one.fd, b''.join(one.chunks), one.offset)\n"
        "        future = self._commits().submit(Operation(apply, after=self._done))\n",
        (f"{ORDER}[maildir]",),
        slow=True,
    ),
    Mutation(
        "the queue's own content is never synced (loss of power)",
        SPOOL,
        "        future = self._commits().submit(Operation(apply, writes, adds, self._done))\n",
        "        for one in writes:\n            os.pwrite(one.fd, b''.join(one.chunks), one.offset)\n"
        "        future = self._commits().submit(Operation(apply, after=self._done))\n",
        ("-m tests.crash.power --images 30 --seed 3",),
        slow=True,
    ),
    Mutation(
        "a job is removed before its message is sent",
        DELIVERING,
        "        found = await self._found(job)\n",
        "        found = await self._found(job)\n        await self.spool.change(job.key, lambda old: None)\n",
        ("-m tests.crash.relay --rounds 4",),
        slow=True,
    ),
    Mutation(
        "a report is in the history before it is in the queue",
        "fastmail/relay/outcomes.py",
        "        queued = await self.spool.change(",
        "        self.reports.queued(reports, [one.outgoing.item.id for one in reports])\n"
        "        queued = await self.spool.change(",
        ("tests/unit/relay/test_outcomes.py",),
    ),
    Mutation(
        "a message whose content is damaged is sent as it is",
        CONTENTS,
        "            if len(content) != item.length or crc32(content) != item.checksum:\n",
        "            if False:\n",
        (f"{UNIT}::test_damaged_content_that_a_mailbox_shares_is_found",),
    ),
    Mutation(
        "a login may send as much as it likes",
        "fastmail/queue/rates.py",
        "    if charge.most and amount > charge.most:\n",
        "    if charge.most and amount > charge.most << 20:\n",
        (f"{UNIT}::test_a_login_sends_so_much_an_hour",),
    ),
    Mutation(
        "an item that has a job left is forgotten",
        SPOOL,
        "        if not (cursor.set_range(item) and item_of(cursor.key()) == item):\n",
        "        if True:\n",
        (f"{UNIT}::test_a_message_ends_with_its_last_job_and_reports_come_with_it",),
    ),
    Mutation(
        "a segment of the queue counts one item, however many lie in it",
        CONTENTS,
        "        alive = (NUMBER.unpack(found)[0] if found else 0) + step\n",
        "        alive = step\n",
        (f"{UNIT}::test_what_is_done_is_gone_with_its_segment",),
    ),
    Mutation(
        "a segment that mail still lies in is removed",
        CONTENTS,
        "                if not alive:\n",
        "                if True:\n",
        (f"{UNIT}::test_mail_that_comes_while_segments_are_swept_stays",),
    ),
]
