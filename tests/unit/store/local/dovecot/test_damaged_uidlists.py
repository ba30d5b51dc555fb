"""fastmail.store.local.dovecot.damaged_uidlists and what is taken over from damaged control files: what can be
believed keeps its UID, and no UID is given twice."""

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.store.local.dovecot import control_files, damaged_uidlists, index_files
from fastmail.store.local.maildir.names import NameMaker
from tests.support.homes import housed, local_store

HEAD = b"3 V1700000000 N21 G0123456789abcdef0123456789abcdef\n"
UIDS = [1, 2, 3, 5, 8, 9, 10, 11, 15, 20]


def base(uid: int) -> bytes:
    return b"17000%05d.M1P1.host,S=30,W=31" % uid


def whole(form: bytes = b"%d :%b\n") -> bytes:
    return HEAD + b"".join(form % (uid, base(uid)) for uid in UIDS)


def kept(data: bytes) -> dict[int, bytes]:
    found = damaged_uidlists.salvage(data)
    return {line.uid: line.base for line in found.lines} if found is not None else {}


def line_of(data: bytes, uid: int) -> bytes:
    return next(line for line in data.splitlines(keepends=True) if line.startswith(b"%d " % uid))


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda d: d, []),
        (lambda d: d.replace(line_of(d, 8), b"\0" * 20 + b"\n"), [8]),
        (lambda d: d.replace(line_of(d, 8), random.Random(1).randbytes(50).replace(b"\n", b"") + b"\n"), [8]),
        (lambda d: d.replace(line_of(d, 8), b"half\n"), [8]),
        (lambda d: d.replace(b"8 :", b"8 "), [8]),
        (lambda d: d.replace(line_of(d, 8), line_of(d, 8)[:-3]), [8, 9]),  # two lines run together
        (lambda d: d.replace(b"\n8 :", b"\n88888 :"), [8]),  # descending from there on
        (lambda d: d.replace(b"\n8 :", b"\n3 :"), [3, 8]),  # two claim one UID
        (lambda d: d.replace(line_of(d, 8), line_of(d, 8) * 2), []),  # the same line twice
        (lambda d: d.replace(b"\n8 :", b"\n99999999999999 :"), [8]),
        (lambda d: d.replace(b"\n8 :", b"\n0 :"), [8]),
        (lambda d: d.replace(b"\n8 :", b"\n-8 :"), [8]),
        (lambda d: d[:-1], []),
        (lambda d: d + b"\0" * 4096, []),
        (lambda d: d + random.Random(2).randbytes(40).replace(b"\n", b""), []),
        (lambda d: d[: d.index(b"20 :") + 9], [20]),
        (lambda d: d.replace(HEAD, b""), []),
        (lambda d: d.replace(HEAD, b"3 V17\0\0\0 N21\n"), []),
        (lambda d: d.replace(HEAD, b"\0" * len(HEAD) + b"\n"), []),
        (lambda d: d.replace(b" :17", b" P0001 O3 S4 :17"), []),
        (lambda d: d.replace(b"\n", b"\r\n"), []),
    ],
)
def test_what_one_damage_costs(damage: Callable[[bytes], bytes], lost: list[int]) -> None:
    data = damage(whole())
    found = damaged_uidlists.salvage(data)
    assert found is not None
    believed = kept(data)
    for uid in UIDS:
        assert (believed.get(uid) == base(uid)) == (uid not in lost), uid
    assert 21 <= found.uidnext < 100_000
    if b"V1700000000" in data:
        assert found.uidvalidity == 1700000000


def test_versions() -> None:
    old = b"1 7 30\n" + b"".join(b"%d %b\n" % (uid, base(uid)) for uid in UIDS)
    assert set(kept(old)) == set(UIDS)
    assert set(kept(old.replace(b"\n8 ", b"\nx "))) == set(UIDS) - {8}
    found = damaged_uidlists.salvage(old[7:])
    assert found is not None and set(kept(old[7:])) == set(UIDS) and found.uidvalidity == 0
    assert damaged_uidlists.salvage(whole().replace(b"3 V", b"4 V")) is None
    assert damaged_uidlists.salvage(b"") is None and damaged_uidlists.salvage(b"nothing\n") is None
    assert damaged_uidlists.salvage(b"3 V7 N9\n\0") == damaged_uidlists.Salvaged(7, 9, [], True)


@given(st.lists(st.tuples(st.integers(0, 10**11), st.integers(0, 12)), max_size=30), st.binary(max_size=30))
def test_what_is_believed_ascends(rows: list[tuple[int, int]], tail: bytes) -> None:
    data = HEAD + b"".join(b"%d :m%d\n" % row for row in rows) + tail
    found = damaged_uidlists.salvage(data)
    assert found is not None
    uids = [line.uid for line in found.lines]
    assert uids == sorted(set(uids)) and len({line.base for line in found.lines}) == len(uids)
    assert all(0 < uid < found.uidnext for uid in uids) and found.uidnext <= damaged_uidlists.MOST + 1
    strict = control_files.parse_uidlist(data)
    likely = all(uid <= damaged_uidlists.MOST for uid, _ in rows)  # a higher one is not believed in a damaged list
    if strict is not None and len(strict.uids) == len(rows) and not tail and likely:
        assert {line.base: line.uid for line in found.lines} == strict.uids


# ---------------------------------------------------------------- a store that takes such a Maildir over


def take_over(tmp_path: Path, data: bytes, files: list[int], index: bytes = b"") -> tuple[int, int, dict[bytes, int]]:
    """(UIDVALIDITY, UIDNEXT, UIDs by base name) of INBOX with these files and this list."""
    root = tmp_path / "mail"
    for sub in ("cur", "new", "tmp"):
        (root / sub).mkdir(parents=True, exist_ok=True)
    for uid in files:
        (root / "cur" / (base(uid).decode() + ":2,S")).write_bytes(b"Subject: %d\n\nx\n" % uid)
    (root / "dovecot-uidlist").write_bytes(data)
    if index:
        (root / "dovecot.index.log").write_bytes(index)

    async def work() -> tuple[int, int, dict[bytes, int]]:
        store = local_store(str(tmp_path / "index"))
        await store.start()
        account = housed(1, "user@example.test", str(root))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        await store.sync(account, key)
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None
            names = {name[1:].partition(b":")[0]: uid for uid, name in snapshot.files(key)}
        await store.close()
        return box.uidvalidity, box.uidnext, names

    return asyncio.run(work())


def test_a_damaged_line_costs_one_message_its_uid(tmp_path: Path) -> None:
    data = whole().replace(line_of(whole(), 8), b"\0\0\xff garbage\n")
    validity, uidnext, names = take_over(tmp_path, data, UIDS)
    assert validity == 1700000000
    assert {uid for name, uid in names.items() if name == base(uid)} == set(UIDS) - {8}
    assert names[base(8)] == 21 and uidnext == 22


def test_what_a_lost_end_may_have_given_is_not_given_again(tmp_path: Path) -> None:
    """The header says what it said when the list was written; six lines came later, and are lost."""
    data = HEAD.replace(b"N21", b"N1") + b"".join(b"%d :%b\n" % (uid, base(uid)) for uid in (1, 2, 3, 5)) + b"8 :17"
    validity, uidnext, names = take_over(tmp_path, data, UIDS)
    assert validity == 1700000000
    assert {uid for name, uid in names.items() if name == base(uid)} == {1, 2, 3, 5}
    assert min(names[base(uid)] for uid in (8, 9, 10, 11, 15, 20)) > 20 and uidnext > max(names.values())


def test_the_index_of_dovecot_says_how_far_a_lost_end_went(tmp_path: Path) -> None:
    data = HEAD.replace(b"N21", b"N1") + b"1 :%b\n2 :17" % base(1)
    log = index_files.log(1700000000, 501, [(uid, 0) for uid in UIDS], {})
    validity, _, names = take_over(tmp_path, data, UIDS, log)
    assert validity == 1700000000 and names[base(1)] == 1 and names[base(2)] == 501
    assert index_files.numbers(str(tmp_path / "mail")) == (1700000000, 501)


def test_the_index_of_dovecot_says_a_lost_uidvalidity(tmp_path: Path) -> None:
    log = index_files.log(1700000000, 21, [(uid, 0) for uid in UIDS], {})
    validity, uidnext, names = take_over(tmp_path, b"\0" * 40 + whole()[len(HEAD) - 1 :], UIDS, log)
    assert (validity, uidnext) == (1700000000, 21) and names == {base(uid): uid for uid in UIDS}


def test_numbers_that_do_not_fit_stop_nobody(tmp_path: Path) -> None:
    """A place in POP3's order, a size, a keyword's number, and a name like one of our deliveries, beyond every bound."""
    data = whole().replace(b"1 :", b"1 O99999999999999999999 P\x07\x08 :", 1)
    root = tmp_path / "mail"
    odd = b"17000000.M1N" + b"f" * 60 + b".host"
    (root / "cur").mkdir(parents=True)
    (root / "dovecot-keywords").write_bytes(b"9" * 5000 + b" x\n0 Word\n1 word\n2 " + b"y" * 3000 + b"\n")
    (root / "courierpop3dsizelist").write_bytes(b"/3 1 1\nname 5 " + b"8" * 5000 + b":1:0\n")
    (root / "cur" / (odd.decode() + ":2,")).write_bytes(b"x: y\n\n")
    os.utime(root / "cur" / (odd.decode() + ":2,"), (-(10**10), 10**11))
    _, _, names = take_over(tmp_path, data, UIDS)
    assert odd in names and names[base(1)] == 1
    assert control_files.read_keywords(str(root)) == [b"Word"]
    assert NameMaker.number_in(odd) == 0
