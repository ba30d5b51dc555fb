"""The states in which mailboxes were when everything in them was in the index, as follow.py compares them, and keeps
them from one start to the next.

Written as one annotation of the mailbox (layout 1): change times of new/ and cur/ in ns, the generation, then names in
new/ with a slash between them. A value that is shorter, or of another generation, counts as none.
"""

import struct
from dataclasses import dataclass

from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.maildir import adopting
from fastmail.store.local.maildir.looking import State

MOST_NEWS = 100  # names in new/ that a written state may have
MOST = 100_000  # mailboxes whose states are kept in memory
_HEAD = struct.Struct("<QQI")


@dataclass(slots=True)
class Seen:
    """``state``: change times of new/ and cur/; the first is 0 where new/ has to be listed again. ``news``: other
    programs' files in new/. ``written``: an earlier server wrote the state at its stop. The names that it gave to files
    are not in ``news``, and it may have delivered more since."""

    state: State
    generation: int
    news: frozenset[bytes]
    written: bool = False

    def packed(self) -> bytes | None:
        """Return what is written; None for a state that is not worth it."""
        if not self.state[0] or len(self.news) > MOST_NEWS:
            return None
        return _HEAD.pack(*self.state, self.generation) + b"/".join(self.news)


def written(snapshot: LocalSnapshot, key: bytes) -> Seen | None:
    """Return the state of a mailbox that an earlier server wrote, if the index has not changed since."""
    value, box = snapshot.note(key, adopting.SEEN_NOTE), snapshot.mailbox(key)
    if value is None or box is None or len(value) < _HEAD.size:
        return None
    new, cur, generation = _HEAD.unpack_from(value)
    news = frozenset(name for name in value[_HEAD.size :].split(b"/") if name)
    return Seen((new, cur), generation, news, written=True) if generation == box.generation else None


class States(dict[bytes, Seen]):
    """The states by mailbox; the oldest one is dropped for the one too many."""

    def note(self, key: bytes, seen: Seen) -> None:
        """Record that everything that existed when the directories had these times is in the index."""
        self[key] = seen
        if len(self) > MOST:
            self.pop(next(iter(self)))

    def unsee(self, key: bytes, is_new: bool) -> None:
        """Forget the recorded state: times alone do not show a change in the same tick as the last one. ``is_new``:
        only new/ changed."""
        seen = self.pop(key, None)
        if seen is not None and is_new:
            self[key] = Seen((0, seen.state[1]), seen.generation, seen.news, seen.written)
