"""Other promises of the documentation: what reads only, what is checked before it is believed, what is mended."""

from tests.mutations import Mutation

MUTATIONS = [
    Mutation(
        "migrate shadow writes into the Maildirs that it is to compare",
        "fastmail/migrate/shadow.py",
        "    out.store.read_only, out.store.shared, out.store.content = True,",
        "    out.store.read_only, out.store.shared, out.store.content = False,",
        ("tests/journey/test_shadow.py",),
    ),
    Mutation(
        "mail that comes after damage is acknowledged and dropped",
        "fastmail/store/local/agree.py",
        "    if last and _last_number(txn, t) < last:\n",
        "    if False:\n",
        ("tests/journey/test_damage.py -k 'anew and new-maildir'",),
        slow=True,
    ),
    Mutation(
        "a damaged page of the index is believed",
        "fastmail/durable/env.py",
        '    if isinstance(error, DAMAGE) or (isinstance(error, lmdb.Error) and "data format" in str(error)):\n',
        "    if False:\n",
        ("tests/journey/test_damage.py -k 'anew and page-maildir'",),
        slow=True,
    ),
    Mutation(
        "an index that was there and is gone is taken for a new one",
        "fastmail/durable/env.py",
        '    raise CorruptData(f"{data} is gone or empty")\n',
        "    return True\n",
        ("tests/unit/durable/test_salvage.py::test_what_had_data_is_not_taken_for_new",),
    ),
    Mutation(
        "a layout that a newer program wrote is guessed at",
        "fastmail/durable/env.py",
        "        if version > layout:\n",
        "        if False:\n",
        ("tests/unit/durable/test_layouts.py",),
    ),
    Mutation(
        "the content of a segment's record is not checked",
        "fastmail/durable/segments.py",
        "        if zlib.crc32(content) != record.checksum:\n",
        "        if False:\n",
        ("tests/unit/durable/test_segments.py",),
    ),
    Mutation(
        "the head of a segment's record is not checked",
        "fastmail/durable/segments.py",
        "zlib.crc32(name, zlib.crc32(head, seed)) != own or version != 1:\n",
        "version != 1:\n",
        ("tests/unit/durable/test_segments.py",),
    ),
    Mutation(
        "a segment that mail is written to is compacted",
        "fastmail/durable/segments.py",
        "        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        return fd\n",
        "        return fd\n",
        ("tests/unit/durable/test_segments.py",),
    ),
    Mutation(
        "trouble of the DNS counts as an answer for good",
        "fastmail/relay/runner.py",
        "        except LookupFailed as error:\n            raise Down(str(error)) from None\n",
        "        except LookupFailed as error:\n            raise Loops(str(error)) from None\n",
        ("tests/journey/test_relay.py",),
    ),
    Mutation(
        "a slow client may stay",
        "fastmail/net/listener.py",
        "    async def sweep(self) -> None:\n",
        "    async def sweep(self) -> None:\n        return\n\n    async def _sweep(self) -> None:\n",
        ("tests/journey/test_hostile.py::test_slow_and_wrong_clients_are_ended",),
    ),
    Mutation(
        "S28: a literal is taken whatever its size",
        "fastmail/imap/session.py",
        "        elif size + len(whole) > most:\n",
        "        elif size + len(whole) > most << 40:\n",
        ("tests/journey/test_hostile.py::test_s28_literals_are_refused_on_their_size",),
    ),
]
