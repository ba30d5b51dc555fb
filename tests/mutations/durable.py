"""What is acknowledged is durable: a record of it is in the journal and on the disk before the reply, and whatever a loss
of power leaves, checkpoint and journal give all of it again."""

from tests.mutations import Mutation

ORDER = "tests/journey/test_durable_order.py"
REPLIES = f"{ORDER}::test_r4_every_reply_comes_behind_its_record"
STAGE = "fastmail/durable/stage.pyx"
FIRST = "tests/unit/store/local/index/test_first_layout.py"
FORMER = "tests/unit/store/local/index/test_former_arrivals.py"
ENV = "fastmail/durable/env.py"
OPENING = "fastmail/durable/opening.py"
JOURNAL = "fastmail/durable/journal.py"
CHECKPOINT = "fastmail/durable/checkpoint.py"
RECOVERY = "fastmail/durable/recovery.py"
WRITING = "fastmail/durable/writing.pyx"
COMMIT = "fastmail/durable/commit.py"
UNIT = "tests/unit/durable"

MUTATIONS = [
    Mutation(
        "the journal is never synced",
        ENV,
        "            self._journal.sync()\n",
        "            pass\n",
        (f"{UNIT}/test_commit.py -k behind_a_failed_sync", f"{REPLIES}[maildir]"),
    ),
    Mutation(
        "the journal is never synced (strace)",
        JOURNAL,
        """        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close""",
        "        pass\n\n    def close",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "a sync does not cover what others wrote",
        ENV,
        "            log_.follow(before)\n",
        "",
        (f"{UNIT}/test_env.py -k covers",),
    ),
    Mutation(
        "the reply does not wait for the sync",
        COMMIT,
        "            env.sync()  # step 3: one sync of the journal for the whole batch\n",
        "            threading.Timer(0.5, env.sync).start()\n",
        (f"{UNIT}/test_commit.py -k behind_a_failed_sync",),
    ),
    Mutation(
        "the record is not written",
        ENV,
        "        after = log_.append(before, txn.record, self._kept)\n",
        "        after = before\n",
        (f"{UNIT}/test_writing.py",),
    ),
    Mutation(
        "the record is written behind the reply",
        JOURNAL,
        "            write_at(self._fd, [head, *parts, PADDING[: room - RECORD.size - length]], at.offset)\n",
        "            late = [head, *map(bytes, parts), PADDING[: room - RECORD.size - length]]\n"
        "            threading.Timer(0.3, write_at, (self._fd, late, at.offset)).start()\n",
        (f"{UNIT}/test_commit.py -k what_is_acknowledged",),
    ),
    Mutation(
        "rows are committed before their record is written",
        ENV,
        "        after = log_.append(before, txn.record, self._kept)\n",
        "        txn.raw.commit()\n        after = log_.append(before, txn.record, self._kept)\n"
        "        txn.raw = self._begin(True)\n",
        (f"{UNIT}/test_checkpoint.py -k without_room",),
    ),
    Mutation(
        "content is left out of the record",
        WRITING,
        "        self.record.add_content(MADE, self.relative(path), journal.I64.pack(mtime), content)\n",
        "",
        (f"{UNIT}/test_commit.py -k what_is_acknowledged",),
    ),
    Mutation(
        "pieces of segments are left out of the record",
        WRITING,
        "        self.record.add_content(PIECE, self.relative(path), journal.U64.pack(offset), content)\n",
        "",
        ("tests/unit/store/local/recovery/test_file_locations.py -k 'whole_wherever and segments and torn'",),
    ),
    Mutation(
        "what a cursor deletes is left out of the record",
        WRITING,
        "        self.txn.record.add(DELETE, self.number, key)\n",
        "",
        (f"{UNIT}/test_writing.py",),
    ),
    Mutation(
        "a row that was not put is in the record",
        WRITING,
        "        if not self.put_row(key, value, True, overwrite, append, db):\n            return False\n",
        "        self.put_row(key, value, True, overwrite, append, db)\n",
        (f"{UNIT}/test_writing.py",),
    ),
    Mutation(
        "the chain of checksums is not checked",
        JOURNAL,
        "        if len(body) < length or wanted != chain:\n",
        "        if len(body) < length:\n",
        (f"{UNIT}/test_journal.py",),
    ),
    Mutation(
        "a recovery goes on from the same checksum",
        JOURNAL,
        'int.from_bytes(os.urandom(4), "little"))',
        "7)",
        (f"{UNIT}/test_journal.py -k earlier_round",),
    ),
    Mutation(
        "slots are used again before the checkpoint that covers them",
        JOURNAL,
        "[slot for slot in fits if slot.serial < kept]",
        "[slot for slot in fits if slot.serial < at.serial]",
        (f"{UNIT}/test_journal.py -k used_again",),
    ),
    Mutation(
        "a slot is not synced when the next begins",
        JOURNAL,
        "at.offset)\n            os.fdatasync(self._fd)\n",
        "at.offset)\n",
        (f"{UNIT}/test_journal.py -k on_the_disk_before",),
    ),
    Mutation(
        "what a process that died left is read before the next slot",
        JOURNAL,
        "            write_at(self._fd, [bytes(max(0, min(RECORD.size, self._size - at.offset)))], at.offset)\n",
        "",
        (f"{UNIT}/test_journal.py -k process_that_died",),
    ),
    Mutation(
        "a slot of a transaction that did not commit keeps its header",
        JOURNAL,
        "                _void(slot)\n",
        "                pass\n",
        (f"{UNIT}/test_journal.py -k begun_anew",),
    ),
    Mutation(
        "one that failed goes on in the slot that it had begun",
        JOURNAL,
        "            self._serial = 0  # another process may use a different file for this serial number: look it up again\n",
        "            pass\n",
        (f"{UNIT}/test_journal.py -k fails_in_the_middle",),
    ),
    Mutation(
        "a slot has its name before it is whole",
        JOURNAL,
        "{NEW}{os.getpid()}.{threading.get_ident()}",
        "9{SUFFIX}",
        (f"{UNIT}/test_journal.py -k cannot_be_made",),
    ),
    Mutation(
        "a checkpoint is written before the file systems are synced",
        CHECKPOINT,
        "            _sync_file_systems(places)\n"
        "            write(self._path, State(clean, last.txn if last is not None else 0, number, position, meta, now))\n",
        "            write(self._path, State(clean, last.txn if last is not None else 0, number, position, meta, now))\n"
        "            _sync_file_systems(places)\n",
        (f"{UNIT}/test_checkpoint.py -k order_of",),
    ),
    Mutation(
        "a checkpoint syncs nothing",
        CHECKPOINT,
        "            _sync_file_systems(places)\n",
        "",
        (f"{UNIT}/test_checkpoint.py -k order_of",),
    ),
    Mutation(
        "a checkpoint has the meta page of another transaction",
        CHECKPOINT,
        "            meta = meta_of(self._path, self._page, number)\n",
        "            meta = meta_of(self._path, self._page, number - 1) or meta_of(self._path, self._page, number)\n",
        (f"{UNIT}/test_checkpoint.py -k mixture",),
    ),
    Mutation(
        "the pages of a checkpoint are let go before the next is durable",
        CHECKPOINT,
        "            _sync_file_systems(places)\n",
        "            if self._pin is not None:\n                self._pin.abort()\n            _sync_file_systems(places)\n",
        (f"{UNIT}/test_checkpoint.py -k order_of",),
    ),
    Mutation(
        "a checkpoint keeps no pages",
        CHECKPOINT,
        "            old, self._pin, self._pinned = self._pin, txn, number\n",
        "            old, self._pin, self._pinned = self._pin, txn, number\n            txn.abort()\n",
        (f"{UNIT}/test_checkpoint.py -k 'are_kept_until or mixture'",),
    ),
    Mutation(
        "nobody notices that a process died with the pages of the checkpoint",
        CHECKPOINT,
        "        if not lines:\n            return False\n",
        "        if not lines:\n            return True\n",
        (f"{UNIT}/test_checkpoint.py -k dies_behind",),
    ),
    Mutation(
        "a process that closes lets the pages of its checkpoint go",
        CHECKPOINT,
        "        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))\n",
        "        pass\n",
        (f"{UNIT}/test_checkpoint.py -k leaves_its_pages",),
    ),
    Mutation(
        "another checkpoint is tried when the file systems could not be synced",
        ENV,
        "        except NotSynced as error:\n            self._stop(error)\n",
        "        except NotSynced:\n            pass\n",
        (f"{UNIT}/test_checkpoint.py -k step_that_fails",),
    ),
    Mutation(
        "a failed sync stops only the process that saw it",
        ENV,
        "                    txn.put(journal.BROKEN_ROW, self.broken.encode(), db=meta)\n",
        "                    pass\n",
        (f"{UNIT}/test_checkpoint.py -k failed_sync",),
    ),
    Mutation(
        "a process that is not the last leaves a clean end",
        ENV,
        "            if self._users.take(fcntl.LOCK_EX | fcntl.LOCK_NB):\n",
        "            if True:\n",
        (f"{UNIT}/test_checkpoint.py -k only_the_last",),
    ),
    Mutation(
        "one that could not be opened stays the first",
        ENV,
        "            self._users.close()  # while it is open, no other process could take it exclusively and recover\n",
        "",
        (f"{UNIT}/test_checkpoint.py -k newer_layout --timeout=20",),
    ),
    Mutation(
        "the first writes of an opening are not synced",
        ENV,
        "            self._open(path, tables, map_size, None)\n"
        "            try:\n"
        "                self._bring_over()\n"
        '                continue_journal(self.env, self.db["meta"], folder, tables, had_journal=state is not None)\n'
        "            finally:\n"
        "                self.env.close()\n"
        "        self._open(path, tables, map_size, journaled)\n",
        "            pass\n"
        "        self._open(path, tables, map_size, journaled)\n"
        "        if first and (state is None or state.clean):\n"
        "            self._bring_over()\n"
        "            self._continue(folder, tables, had_journal=state is not None)\n",
        (f"{UNIT}/test_checkpoint.py -k while_it_is_opened",),
    ),
    Mutation(
        "an earlier layout is brought over before the journal is replayed",
        OPENING,
        "state.position, journaled.base, owner, distrust, bring_over)\n",
        "state.position, journaled.base, owner, distrust, lambda: None)\n",
        (f"{FORMER} -k kill",),
    ),
    Mutation(
        "records of other tables go on in a slot that numbers them otherwise",
        OPENING,
        " or any(one != ours for one in journal.tables_behind(folder, there)):\n",
        ":\n",
        (f"{FORMER} -k kill",),
    ),
    Mutation(
        "an upgrade puts messages in place again that are there",
        "fastmail/store/local/index/former_arrivals.py",
        "        if number > (merged or 0) and txn.put(at, value, db=t.msg, overwrite=False):\n",
        "        if txn.put(at, value, db=t.msg):\n",
        (f"{FORMER} -k counts_no_more",),
    ),
    Mutation(
        "an upgrade takes everything in one transaction",
        "fastmail/durable/layouts.py",
        "        return self._rows <= 0 or self._octets <= 0\n",
        "        return False\n",
        (f"{FIRST} -k bounded",),
    ),
    Mutation(
        "an older version uses an index that is half converted",
        "fastmail/durable/layouts.py",
        "                if former.bars_older:\n",
        "                if False:\n",
        (f"{FIRST} -k wherever", "tests/unit/directory/test_upgrade.py -k wherever"),
    ),
    Mutation(
        "an upgrade of the first layout that is killed splits pages that it had not looked at yet no more",
        "fastmail/store/local/index/first_layout.py",
        "            txn.put(SPLIT, found[-1][0], db=meta)\n        return False\n",
        "            pass\n        return True\n",
        (f"{FIRST} -k wherever",),
    ),
    Mutation(
        "a directory's counts begin anew in each part of an upgrade",
        "fastmail/directory/upgrade.py",
        "zip(before, found, strict=True)",
        "zip((0, 0), found, strict=True)",
        ("tests/unit/directory/test_upgrade.py -k wherever",),
    ),
    Mutation(
        "a recovery does not remember that there was a stop",
        OPENING,
        "        stops.note(txn, meta, Stop(state.time or now, now))\n",
        "",
        (f"{UNIT}/test_recovery.py -k remembered",),
    ),
    Mutation(
        "nobody notes that a worker died",
        "fastmail/app/keeper.py",
        "            _note_stop(every)\n",
        "            pass\n",
        ("tests/journey/test_workers.py -k is_noted",),
        slow=True,
    ),
    Mutation(
        "nobody notes that workers died whose index another process kept open",
        "fastmail/app/keeper.py",
        "    _note_stop([env for env in every if env.joined])\n",
        "",
        ("tests/journey/test_workers.py -k supervisor_are_noted",),
        slow=True,
    ),
    Mutation(
        "an upgrade that is cut short loses what it had taken",
        "fastmail/durable/layouts.py",
        "            if done:\n                for table in old.values():\n",
        "            if True:\n                for table in old.values():\n",
        (f"{FORMER} -k cut_short",),
    ),
    Mutation(
        "a recovery uses pages of the checkpoint that it began from",
        OPENING,
        "        pin = env.begin() if journaled else None\n",
        "        pin = env.begin()\n        pin.abort()\n",
        (f"{UNIT}/test_recovery.py -k began_from",),
    ),
    Mutation(
        "the meta page is not put back",
        ENV,
        "            checkpoint.put_back(path, state)\n",
        "",
        (f"{UNIT}/test_checkpoint.py -k mixture",),
    ),
    Mutation(
        "a recovery makes no files",
        RECOVERY,
        "            done.restored += restorer.restore(env, some)\n    return done, end\n",
        "    return done, end\n",
        (f"{UNIT}/test_recovery.py -k made_whole",),
    ),
    Mutation(
        "a link is not made whole",
        RECOVERY,
        "            made = self._content(bytes(entry.value))\n",
        "            made = None\n",
        (f"{UNIT}/test_recovery.py -k link_has",),
    ),
    Mutation(
        "a recovery takes a file for whole that only has the right length",
        "fastmail/durable/files.pyx",
        "        if got <= 0 or memcmp(room, content, got):\n",
        "        if got <= 0:\n",
        (f"{UNIT}/test_recovery.py -k made_whole",),
    ),
    Mutation(
        "a recovery brings expunged messages back",
        "fastmail/store/local/recovery/file_locations.py",
        "        if marked is None:\n            return None\n",
        "        if marked is None:\n            return path\n",
        ("tests/unit/store/local/recovery/test_file_locations.py -k stays_removed",),
    ),
    Mutation(
        "a recovery puts files where they were made, not where they belong",
        "fastmail/store/local/recovery/file_locations.py",
        "        root, _ = self._root(txn, key[:MAILBOX], os.path.dirname(os.path.dirname(path)))\n",
        "        return path\n",
        ("tests/unit/store/local/recovery/test_file_locations.py -k 'whole_wherever and maildir'",),
    ),
    Mutation(
        "UIDs and MODSEQs go on where they were",
        "fastmail/store/local/index/box_rows.py",
        "    if box.recovered != t.recovered:\n        _go_above(txn, t, box)\n",
        "",
        ("tests/unit/store/local/recovery/test_file_locations.py -k numbers_go_on",),
    ),
    Mutation(
        "large content is never synced",
        STAGE,
        "    if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)):\n        f.error = errno\n",
        "    pass\n",
        (f"{REPLIES}",),
        slow=True,
    ),
    Mutation(
        "large content in segments is never synced",
        STAGE,
        "        if file[i].synced and not file[i].error:\n            sync_content",
        "        if file[i].synced and not file[i].error and not file[i].piece:\n            sync_content",
        (f"{REPLIES}[segments]",),
        slow=True,
    ),
    Mutation(
        "the name of a large file is never synced",
        STAGE,
        "    sync_names(file, n)\n    for",
        "    for",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "large content goes neither into the journal nor to the disk",
        COMMIT,
        '        return b"", b"", b"", self.chunks, self.offset, self.fd, large(self.chunks)\n',
        '        return b"", b"", b"", self.chunks, self.offset, self.fd, False\n',
        (f"{UNIT}/test_commit.py",),
    ),
    Mutation(
        "large content of a file goes neither into the journal nor to the disk",
        COMMIT,
        "        return self.temporary, self.path, self.directory, self.chunks, self.mtime, -1, self.synced\n",
        "        return self.temporary, self.path, self.directory, self.chunks, self.mtime, -1, False\n",
        (f"{UNIT}/test_commit.py -k large_content",),
    ),
    Mutation(
        "only the head of a record is in its checksum",
        JOURNAL,
        "[RECORD.pack(RECORD_MAGIC, length, at.sequence, 0), *parts], at.chain)",
        "[RECORD.pack(RECORD_MAGIC, length, at.sequence, 0)], at.chain)",
        (f"{UNIT}/test_journal.py",),
    ),
    Mutation(
        "a failed sync of content counts as done",
        STAGE,
        "    if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)):\n        f.error = errno\n",
        "    c_fdatasync(f.fd)\n",
        (f"{UNIT}/test_commit.py",),
        slow=True,
    ),
    Mutation(
        "a directory, a ban or a user is never synced",
        OPENING,
        "            sync=not journaled,\n",
        "            sync=False,\n",
        (f"{UNIT}/test_checkpoint.py -k while_it_is_opened",),
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
        "                    places = await self.store.deliver(plan.items)\n",
        "                    import asyncio\n\n                    asyncio.ensure_future(self.store.deliver(plan.items))\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "STORE answers before it is durable",
        "fastmail/imap/store.py",
        "    result = await _store(session.service.store, selected, run)\n",
        "    asyncio.ensure_future(_store(session.service.store, selected, run))\n"
        "    return await run.command.complete(COMPLETED)\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "POP3's QUIT answers before it is durable",
        "fastmail/pop3/removing.py",
        "            await store.expunge(view.account, view.key, marked, 0, mine=session.views)\n",
        "            import asyncio\n\n"
        "            asyncio.ensure_future(store.expunge(view.account, view.key, marked, 0))\n",
        (f"{REPLIES}[maildir]",),
        slow=True,
    ),
    Mutation(
        "behind an I/O error writes go on",
        "fastmail/durable/commit.py",
        "        if not self._broken:\n            self._broken =",
        "        if False:\n            self._broken =",
        (f"{UNIT}/test_commit.py",),
    ),
    Mutation(
        "a full disk makes the server read-only for good",
        "fastmail/durable/commit.py",
        "isinstance(operation.error, StorageFailed) and (self._env.broken or IO_ERROR in str(operation.error))",
        "operation.error is not None",
        (f"{UNIT}/test_commit.py",),
    ),
    Mutation(
        "the file of an operation that failed stays",
        "fastmail/durable/commit.py",
        "                write.undo(operation.error)\n",
        "                pass\n",
        ("tests/unit/durable/test_commit.py",),
    ),
    Mutation(
        "one operation that fails takes the others of its round with it",
        "fastmail/durable/commit.py",
        "    if ready and not _apply(env, ready):\n        for operation in ready:\n",
        "    if ready and not _apply(env, ready):\n        for operation in ready[:1]:\n",
        ("tests/unit/durable/test_commit.py",),
    ),
    Mutation(
        "an operation that raises what nobody expects fails its whole batch",
        "fastmail/durable/commit.py",
        "    except BaseException as error:\n        if len(operations) == 1:\n",
        "    except (MailError, OSError, lmdb.Error, ValueError) as error:\n        if len(operations) == 1:\n",
        ("tests/unit/durable/test_commit.py",),
    ),
    Mutation(
        "a delivery that is repeated is kept again",
        "fastmail/store/local/index/given.py",
        "        before = _find(txn, t, item, at) if at else None\n",
        "        before = None\n",
        ("tests/contract/test_store.py -k delivery",),
    ),
    Mutation(
        "what a delivery gave is not written down",
        "fastmail/store/local/index/given.py",
        "            txn.put(at, row, db=t.given)\n",
        "            pass\n",
        ("tests/unit/store/local/index/test_given.py",),
    ),
    Mutation(
        "nobody asks what a call that failed has kept",
        "fastmail/delivery/storing.py",
        "                places, why = await self.given(plan.number, items), error\n",
        "                places, why = [None] * len(items), error\n",
        ("tests/unit/delivery/test_repeats.py",),
    ),
    Mutation(
        "who hears that a message is to be sent again has it already",
        "fastmail/smtp/accept.py",
        "                await service.deliverer.take_back(trouble.kept)\n",
        "                pass\n",
        ("tests/unit/delivery/test_repeats.py",),
    ),
    Mutation(
        "what follows a commit is dropped with whoever waited for it",
        "fastmail/durable/commit.py",
        "            if operation.after is not None:\n                try:\n",
        "            if operation.after is not None and operation.future and not operation.future.done():\n                try:\n",
        ("tests/unit/store/local/test_cancelled.py",),
    ),
    Mutation(
        "a queue that may have a message says that it has not",
        "fastmail/delivery/submission.py",
        "            if not await self._spool.has(outgoing.item.id):\n",
        "            if True:\n",
        ("tests/unit/delivery/test_repeats.py",),
    ),
]
