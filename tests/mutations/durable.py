"""What is acknowledged is durable: content, name and index are each synced, in that order, before the reply."""

from tests.mutations import Mutation

ORDER = "tests/journey/test_durable_order.py"
REPLIES = f"{ORDER}::test_r4_every_reply_comes_behind_the_syncs"
STAGE = "fastmail/durable/stage.pyx"
ENV = "fastmail/durable/env.py"

MUTATIONS = [
    Mutation(
        "content is never synced",
        STAGE,
        "    f.error = errno if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)) else 0\n",
        "    f.error = 0\n",
        (REPLIES,),
        slow=True,
    ),
    Mutation(
        "content in segments is never synced",
        STAGE,
        "            if f.error or (f.chunks < 0 and not f.piece):\n                continue\n",
        "            if f.error or f.chunks < 0 or f.piece:\n                continue\n",
        (f"{REPLIES}[segments]",),
        slow=True,
    ),
    Mutation(
        "the name of a file is never synced",
        STAGE,
        "        sync_names(tasks)\n",
        "",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "a file has its name before its content is on the device",
        STAGE,
        "        name_early(tasks)\n        sync_contents(&s.helped, tasks)\n",
        "        name_all(tasks)\n        sync_contents(&s.helped, tasks)\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "a failed sync of content counts as done",
        STAGE,
        "    f.error = errno if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)) else 0\n",
        "    c_fsync(f.fd)\n",
        ("tests/unit/durable/test_commit.py",),
        slow=True,
    ),
    Mutation(
        "the index is never synced",
        ENV,
        "                max_spare_txns=4,\n",
        "                max_spare_txns=4,\n                sync=False,\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "the index's pages are synced, the page that names them is not (strace)",
        ENV,
        "                max_spare_txns=4,\n",
        "                max_spare_txns=4,\n                metasync=False,\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "the index's pages are synced, the page that names them is not (loss of power)",
        ENV,
        "                max_spare_txns=4,\n",
        "                max_spare_txns=4,\n                metasync=False,\n",
        ("-m tests.crash.power --images 30 --seed 3",),
        slow=True,
    ),
    Mutation(
        "the index is written through a map, whose order is the kernel's",
        ENV,
        "                max_spare_txns=4,\n",
        "                max_spare_txns=4,\n                writemap=True, map_async=True,\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "a small file is replaced without a sync of its content",
        "fastmail/durable/replace.py",
        "            os.fsync(file.fileno())\n",
        "",
        ("tests/unit/durable/test_replace.py",),
    ),
    Mutation(
        "a small file is replaced without a sync of its name",
        "fastmail/durable/replace.py",
        '    sync_directory(os.path.dirname(path) or ".")\n\n\ndef name_files',
        "\n\ndef name_files",
        ("tests/unit/durable/test_replace.py",),
    ),
    Mutation(
        "new directories are not synced",
        "fastmail/durable/replace.py",
        "    sync_directories(make_unsynced(path))\n",
        "    make_unsynced(path)\n",
        ("tests/unit/durable/test_replace.py",),
    ),
    Mutation(
        "the name of a new segment is not synced",
        "fastmail/durable/segments.py",
        "            os.fsync(fd)\n            sync_directory(self._directory)\n",
        "            os.fsync(fd)\n",
        ("-m tests.crash.power --images 60 --seed 3 --content segments",),
        slow=True,
    ),
    Mutation(
        "LMTP and SMTP answer before the mailbox is durable",
        "fastmail/delivery/deliver.py",
        "            return list(await self.store.deliver(plan.items))\n",
        "            asyncio.ensure_future(self.store.deliver(plan.items))\n            return [None] * len(plan.items)\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "STORE answers before it is durable",
        "fastmail/imap/messages.py",
        "    return await store.store(selected.account, selected.key, job.uids, job.mode, job.flags, job.words, job.unchanged)\n",
        "    asyncio.ensure_future(store.store(selected.account, selected.key, job.uids, job.mode, job.flags, job.words))\n"
        "    return None\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "POP3's QUIT answers before it is durable",
        "fastmail/pop3/session.py",
        "                await store.expunge(account, self._key, UidSet.of(sorted(self._uid(n) for n in self._deleted)), 0)\n",
        "                import asyncio\n\n                gone = UidSet.of(sorted(self._uid(n) for n in self._deleted))\n"
        "                asyncio.ensure_future(store.expunge(account, self._key, gone, 0))\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "behind an I/O error writes go on",
        "fastmail/durable/commit.py",
        "        if not self._broken:\n            self._broken =",
        "        if False:\n            self._broken =",
        ("-m tests.crash.faults --upto 2 --kinds fdatasync:EIO --content segments",),
        slow=True,
    ),
    Mutation(
        "a full disk makes the server read-only for good",
        "fastmail/durable/commit.py",
        "                    if code == errno.EIO:\n",
        "                    if code:\n",
        ("tests/journey/test_faults.py -k 'pwritev-ENOSPC'",),
        slow=True,
    ),
    Mutation(
        "the file of an operation that failed stays",
        "fastmail/durable/commit.py",
        "                job.undo(operation.error)\n",
        "                pass\n",
        ("tests/unit/durable/test_commit.py",),
    ),
    Mutation(
        "one operation that fails takes the others of its round with it",
        "fastmail/durable/commit.py",
        "    if ready and not _apply(env, ready, begun):\n        for operation in ready:\n",
        "    if ready and not _apply(env, ready, begun):\n        for operation in ready[:1]:\n",
        ("tests/unit/durable/test_commit.py",),
    ),
]
