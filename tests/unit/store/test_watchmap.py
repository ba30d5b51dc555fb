"""Maps by which workers tell each other of mailboxes."""

import random
from pathlib import Path
from zlib import crc32

import pytest

from fastmail._core.marks import marked
from fastmail.model.keys import ACCOUNT, EVERYTHING, MAILBOX, mailbox_key
from fastmail.store.watchmap import WatchMap


def test_a_mark_is_seen_until_the_last_one_is_taken_back(tmp_path: Path) -> None:
    path = str(tmp_path / "map")
    own = WatchMap(path, own=True)
    peer = WatchMap(path, own=False)
    for key in (b"a", b"b", b"b"):
        own.add(key)
    assert peer.has(b"a") and peer.has(b"b") and not peer.has(b"c")
    own.remove(b"a")
    own.remove(b"b")
    assert not peer.has(b"a") and peer.has(b"b")
    assert not WatchMap(path, own=True).has(b"b"), "a worker that starts clears what one before it left"


def slowly(bits: bytes, keys: list[bytes]) -> list[bytes]:
    """What ``marked`` says, key by key."""

    def is_set(key: bytes) -> bool:
        bit = crc32(key) % (len(bits) * 8)
        return bool(bits[bit >> 3] >> (bit & 7) & 1)

    return [key for key in keys if is_set(key) or is_set(key[:ACCOUNT] + EVERYTHING)]


def test_all_keys_of_a_commit_are_looked_up_at_once(tmp_path: Path) -> None:
    own, peer = (WatchMap(str(tmp_path / "map"), own=own) for own in (True, False))
    keys = [mailbox_key(account, n) for account in range(1, 5) for n in range(1, 4)]
    assert peer.watched(keys) == []
    own.add(keys[1])
    own.add(keys[6][:ACCOUNT] + EVERYTHING)
    assert peer.watched(keys) == [keys[1], *keys[6:9]], "a mailbox, and a whole account"
    own.remove(keys[1])
    assert peer.watched(set(keys[:6])) == []


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_look_at_each_key_finds(seed: int) -> None:
    rng = random.Random(seed)
    bits = bytes(rng.getrandbits(8) & rng.getrandbits(8) for _ in range(1 << rng.randint(1, 8)))
    keys = [rng.randbytes(rng.choice((ACCOUNT, MAILBOX, 40, 300))) for _ in range(200)]
    assert marked(bits, keys, ACCOUNT, EVERYTHING) == slowly(bits, keys)


def test_what_is_no_key_is_refused() -> None:
    for keys, account, rest in (([b"short"], ACCOUNT, EVERYTHING), ([], 61, EVERYTHING), ([], -1, EVERYTHING)):
        with pytest.raises(ValueError, match="account"):
            marked(bytes(8), keys, account, rest)
    with pytest.raises(TypeError):
        marked(bytes(8), ["text"], ACCOUNT, EVERYTHING)  # type: ignore[list-item]
