"""Faults in the account log: in what is counted, what is told, what leads to messages, and what is kept of old logs."""

from tests.mutations import Mutation

WORK = "tests/property/test_account_log.py"
UNIT = "tests/unit/store/local/index/test_account_log.py"
CONTRACT = "tests/contract/test_store.py"

MUTATIONS = [
    Mutation(
        "what is expunged is still in the account's octets",
        "fastmail/store/local/index/removal.py",
        "        whole.row.octets -= was - box.octets\n",
        "",
        (CONTRACT,),
    ),
    Mutation(
        "a mailbox counts its own MODSEQs",
        "fastmail/_core/arrivals.pyx",
        "    set64(one.box + BOX_MODSEQ_AT, one.modseq)\n",
        "    more64(one.box + BOX_MODSEQ_AT, 1)\n",
        (WORK,),
        slow=True,
    ),
    Mutation(
        "changes of flags are not logged",
        "fastmail/store/local/index/messages.py",
        "        change.changed(key, UidSet.of(changed))\n",
        "",
        (CONTRACT,),
    ),
    Mutation(
        "flags that another program changes are not logged",
        "fastmail/store/local/maildir/adopting.py",
        "        change.changed(key, UidSet.of(sorted(changed)))\n",
        "",
        (WORK,),
    ),
    Mutation(
        "a mailbox goes, and its messages stay in the log",
        "fastmail/store/local/index/mailboxes.py",
        "    _remove_all(txn, t, box, change)\n    change.mailbox(Kind.MAILBOX_REMOVED, box.key)\n",
        "    change.mailbox(Kind.MAILBOX_REMOVED, box.key)\n",
        (CONTRACT,),
    ),
    Mutation(
        "a removed message is still found by its THREADID",
        "fastmail/store/local/index/object_ids.py",
        "    delete_all(txn, entered, db=t.member)\n",
        "",
        (WORK,),
    ),
    Mutation(
        "a reply begins a thread of its own",
        "fastmail/store/local/index/object_ids.py",
        "        if thread is not None:\n            return thread, ours\n",
        "        pass\n",
        (CONTRACT,),
    ),
    Mutation(
        "a reply does not see what was appended with it",
        "fastmail/store/local/index/messages.py",
        '        txn.put(member, b"", db=t.member)\n',
        '        if message is messages[-1]:\n            txn.put(member, b"", db=t.member)\n',
        (UNIT,),
    ),
    Mutation(
        "a log that was trimmed says nothing of it",
        "fastmail/store/local/index/account_log.py",
        "        row.low = max(row.low, _modseq_of(cursor.key()))\n",
        "",
        (UNIT,),
    ),
    Mutation(
        "a log grows for ever",
        "fastmail/store/local/index/account_log.py",
        "    if _logged(ROW.unpack_from(packed)) > MOST:\n",
        "    if _logged(ROW.unpack_from(packed)) > MOST << 40:\n",
        (UNIT,),
    ),
    Mutation(
        "an older index is taken for one whose messages are all entered",
        "fastmail/store/local/index/account_log.py",
        "    row.whole = not row.messages\n",
        "    row.whole = True\n",
        (UNIT,),
    ),
    Mutation(
        "after a repair the log goes on as if nothing had been lost",
        "fastmail/store/local/index/account_log.py",
        "    row.low = row.modseq = max(row.modseq, before.modseq if before is not None else 0) + 1\n",
        "    row.modseq = max(row.modseq, before.modseq if before is not None else 0) + 1\n",
        (UNIT,),
    ),
    Mutation(
        "after a recovery the account gives MODSEQs that were seen",
        "fastmail/store/local/index/account_log.py",
        "    row.low = row.modseq = row.modseq + MODSEQS_ABOVE\n",
        "    row.low = row.modseq\n",
        (UNIT,),
    ),
    Mutation(
        "after a recovery the log tells as if nothing had been lost",
        "fastmail/store/local/index/account_log.py",
        "    row.low = row.modseq = row.modseq + MODSEQS_ABOVE\n",
        "    row.modseq = row.modseq + MODSEQS_ABOVE\n",
        (UNIT,),
    ),
    Mutation(
        "watchers of an account hear nothing of its mailboxes",
        "fastmail/store/hub.py",
        "        for key in told | {whole(key) for key in told}:\n",
        "        for key in told:\n",
        (CONTRACT,),
    ),
    Mutation(
        "a preview is found out again each time",
        "fastmail/imap/fetch_run.py",
        "                self.previews[uid] = words\n",
        "                pass\n",
        ("tests/unit/imap/test_reading.py",),
    ),
    Mutation(
        "a source has a say in the domains of others",
        "fastmail/directory/external.py",
        "        return directory.is_from(name, address)\n",
        "        return True\n",
        ("tests/unit/directory/test_origins.py -k keep_to_their_domains",),
    ),
    Mutation(
        "a one-time code counts twice",
        "fastmail/auth/totp.py",
        "found = step if right and step > row.step else found",
        "found = step if right else found",
        ("tests/unit/auth/test_totp.py -k counts_once",),
    ),
    Mutation(
        "guesses of one-time codes cost nothing",
        "fastmail/auth/totp.py",
        "    failed = row.failed + 1\n",
        "    failed = row.failed\n",
        ("tests/unit/auth/test_totp.py -k guesses",),
    ),
    Mutation(
        "the answer to a challenge counts twice",
        "fastmail/auth/passkeys.py",
        "self._used[challenge] = int(UNTIL.unpack(challenge[NONCE:SAID])[0]) + 1",
        'self._used[b""] = int(UNTIL.unpack(challenge[NONCE:SAID])[0]) + 1',
        ("tests/unit/auth/test_passkeys.py -k an_answer_counts_once",),
    ),
]
