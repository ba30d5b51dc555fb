"""Maps by which workers tell each other of mailboxes."""

from pathlib import Path

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
