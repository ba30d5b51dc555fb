"""What clients of one mailbox are told is what is in it: flags, keywords, UIDs, MODSEQ, removals, in every order."""

from tests.mutations import Mutation

VIEWS = "fastmail/imap/views.py"
MEMBERS = "tests/property/test_imap_members.py"
SIDE = tuple(
    f"{MEMBERS}::test_side_by_side[{one}]"
    for one in ("0-maildir-expunge", "1-maildir-uid-expunge", "2-maildir-expunge")
)
UNSTOPPED = "tests/unit/imap/test_memory.py"
LOGGED = "tests/unit/imap/test_logged.py"
REFERENCES = "tests/unit/store/local/index/test_references.py"

MUTATIONS = [
    Mutation(
        "EXPUNGE also removes what is not deleted",
        "fastmail/store/local/index/removal.py",
        "pages.remove(page, everything if uids is None else uids, required)",
        "pages.remove(page, everything if uids is None else uids, 0)",
        SIDE,
    ),
    Mutation(
        "UID EXPUNGE removes more than it names",
        "fastmail/store/local/index/removal.py",
        "pages.remove(page, everything if uids is None else uids, required)",
        "pages.remove(page, everything, required)",
        SIDE,
    ),
    Mutation(
        "a keyword is never stored",
        "fastmail/store/local/index/messages.py",
        "    bits = box_rows.keyword_bits(txn, t, key, words, create=mode >= 0)\n",
        "    bits = 0\n",
        SIDE,
    ),
    Mutation(
        "-FLAGS adds",
        "fastmail/imap/store.py",
        "    return store.store(selected.account, selected.key, run.uids, run.mode, run.flags,",
        "    return store.store(selected.account, selected.key, run.uids, abs(run.mode), run.flags,",
        SIDE,
    ),
    Mutation(
        "FLAGS keeps the flags that it does not name",
        "fastmail/imap/store.py",
        "    return store.store(selected.account, selected.key, run.uids, run.mode, run.flags,",
        "    return store.store(selected.account, selected.key, run.uids, run.mode or 1, run.flags,",
        SIDE,
    ),
    Mutation(
        "APPEND drops all flags",
        "fastmail/imap/append.py",
        "        one.flags &= allowed  # flags without a right are dropped silently (RFC 4314 4)\n",
        "        one.flags = 0\n",
        SIDE,
    ),
    Mutation(
        "a change of flags has no new MODSEQ",
        "fastmail/store/local/index/messages.py",
        "        box.modseq = box.changed = change.modseq\n        box_rows.save(txn, t, box)\n        change",
        "        box.changed = change.modseq\n        box_rows.save(txn, t, box)\n        change",
        SIDE,
    ),
    Mutation(
        "flags that another session changed are not told",
        VIEWS,
        "        _tell_flags(out, selected, snapshot, box, Item.FLAGS | items, own)\n",
        "",
        SIDE,
    ),
    Mutation(
        "UNCHANGEDSINCE is not looked at",
        "fastmail/store/local/index/messages.py",
        "pages.update(page, uids, mode, flags, bits, change.modseq, unchanged_since)",
        "pages.update(page, uids, mode, flags, bits, change.modseq, ALL_MODSEQ)",
        SIDE,
    ),
    Mutation(
        "removals are not kept for those who are away",
        "fastmail/store/local/index/removal.py",
        '        txn.put(key + layout.U64.pack(box.modseq), b"".join(PAIR.pack(lo, hi) for lo, hi in out.ranges()), db=t.gone)\n',
        "",
        SIDE,
    ),
    Mutation(
        "the first removal since a client left is not told",
        "fastmail/store/local/index/snapshot.py",
        "        if cursor.set_range(key + layout.U64.pack(since + 1)):\n",
        "        if cursor.set_range(key + layout.U64.pack(since + 2)):\n",
        SIDE,
    ),
    Mutation(
        "a copy has no flags",
        "fastmail/_core/pages.pyx",
        "        set32(r + UID_AT, first + <uint32_t>i)\n",
        "        set32(r + UID_AT, first + <uint32_t>i)\n        set32(r + FLAGS_AT, 0)\n",
        SIDE,
    ),
    Mutation(
        "a copy has no keywords",
        "fastmail/_core/pages.pyx",
        "            set64(r + KEYWORDS_AT, keywords[words])\n",
        "            set64(r + KEYWORDS_AT, 0)\n",
        SIDE,
    ),
    Mutation(
        "MOVE leaves the message where it was",
        "fastmail/store/local/index/copying.py",
        "        removed = removal.expunge(txn, t, key, gone, 0, moved=True, due=due, change=change).result\n",
        "        pass\n",
        SIDE,
    ),
    Mutation(
        "a quick resynchronisation leaves out the first change",
        "fastmail/imap/select.py",
        "        changed = UidSet.of(pages.changed_since(page, within, resync.modseq))\n",
        "        changed = UidSet.of(pages.changed_since(page, within, resync.modseq + 1))\n",
        SIDE,
    ),
    Mutation(
        "CHANGEDSINCE does not tell what vanished",
        "fastmail/imap/fetch.py",
        "            gone = snapshot.expunged(selected.key, since).both(asked).minus(selected.uids)\n",
        "            gone = UidSet()\n",
        SIDE,
    ),
    Mutation(
        "a message is told before its new keyword",
        "fastmail/imap/fetch_run.py",
        "            out.write(new_keywords(self.selected, snapshot))\n",
        "            pass\n",
        ("tests/unit/imap/test_keywords.py",),
    ),
    Mutation(
        "EXPUNGE is told while messages are named by number",
        VIEWS,
        "    if box.modseq != selected.gone_modseq and expunges:\n",
        "    if box.modseq != selected.gone_modseq:\n",
        SIDE,
    ),
    Mutation(
        "the number of unseen messages stays as it was",
        "fastmail/store/local/index/messages.py",
        "            box.unseen += unseen\n",
        "",
        SIDE,
    ),
    Mutation(
        "a login is not in the log",
        "fastmail/auth/login.py",
        '        log.event("login", protocol=self._protocol, account=entry.record.address, peer=self._peer.host, **master)\n',
        "",
        (LOGGED,),
    ),
    Mutation(
        "a login that failed is not in the log",
        "fastmail/auth/login.py",
        '            log.event("login.failed", "warning", protocol=self._protocol, login=claim.login, peer=self._peer.host)\n',
        "",
        (LOGGED,),
    ),
    Mutation(
        "what a client says of itself (ID) is not in the log",
        "fastmail/imap/identify.py",
        '        log.event("imap.id", client=_shown(pairs), account=account, peer=session.conn.host)\n',
        "",
        (LOGGED,),
    ),
    Mutation(
        "a copy adds no reference to the content that it shares",
        "fastmail/store/local/index/copying.py",
        "        references.share(txn, t, shared)\n",
        "        pass\n",
        (REFERENCES,),
    ),
    Mutation(
        "content is dead with the first of several references",
        "fastmail/_core/transfers.pyx",
        "        if count:\n            changed[ident]",
        "        if False:\n            changed[ident]",
        (REFERENCES,),
    ),
    Mutation(
        "commands are begun though as much as one batch may have waits to be sent",
        "fastmail/net/sending.py",
        "        if self._queued > QUEUED:\n            self.full = True\n",
        "",
        (UNSTOPPED,),
    ),
    Mutation(
        "a peer that does not read is still answered",
        "fastmail/net/connection.py",
        "        if (wait or self._unpaused is not None) and not self.busy and not self.closing:\n",
        "        if wait and not self.busy and not self.closing:\n",
        (UNSTOPPED,),
    ),
]
