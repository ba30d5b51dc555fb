"""A mailbox in the plainest form, and clients of it that run at the same time, each compared with it.

The model knows what must be, not how it is done: a dictionary of messages. Clients run side by side, so the order in
which the server takes their commands is not known. The model accepts every order, because of who may change what:

- system flags of a message are changed only by the client that appended it (its owner);
- the keyword ``$C2`` is set and taken away only by client 2, on any *shared* message;
- a *private* message is changed by its owner alone, so its flags and its MODSEQ are known exactly;
- a message may be gone only if an EXPUNGE that names it ran while its owner had it marked \\Deleted, and must be gone
  after its owner's own.

What a client sees of a message is one state: two clients that are told of the same UID with the same MODSEQ are told
the same flags, and a higher MODSEQ is never told of an older state.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

DELETED = b"\\Deleted"
SYSTEM = (b"\\Seen", b"\\Flagged", b"\\Answered", DELETED)


def keyword(client: int) -> bytes:
    """The keyword that only this client changes."""
    return b"$C%d" % client


@dataclass(slots=True)
class Message:
    """``flags``: what was acknowledged; ``ever``: flags that somebody began to change; ``busy``: changes under way;
    ``marked``: may it have \\Deleted now; ``may_go``: an EXPUNGE may have taken it."""

    uid: int
    owner: int
    private: bool
    flags: set[bytes] = field(default_factory=set)
    ever: set[bytes] = field(default_factory=set)
    busy: int = 0
    modseq: int = 0  # of a private message, as its owner was told
    marked: bool = False
    may_go: bool = False
    gone: bool = False


@dataclass(slots=True)
class Model:
    """One mailbox. ``scopes``: UIDs that EXPUNGEs under way name; None for all."""

    uidvalidity: int = 0
    messages: dict[int, Message] = field(default_factory=dict)
    scopes: list[set[int] | None] = field(default_factory=list)
    seen: dict[tuple[int, int], frozenset[bytes]] = field(default_factory=dict)
    highest: int = 0  # the highest MODSEQ that anybody was told

    # ---------------------------------------------------------------- what clients do

    def appended(self, uid: int, owner: int, private: bool, flags: Iterable[bytes]) -> Message:
        assert uid not in self.messages, f"UID {uid} was given twice"
        message = self.messages[uid] = Message(uid, owner, private, set(flags), marked=DELETED in set(flags))
        self._expose(message)
        return message

    def begin_change(self, message: Message, add: set[bytes], remove: set[bytes]) -> None:
        message.ever |= add | remove
        message.busy += 1
        if DELETED in add:
            message.marked = True
            self._expose(message)

    def end_change(self, message: Message, add: set[bytes], remove: set[bytes], told: bool) -> None:
        """``told``: the server told of the message in its answer, so it was there."""
        message.busy -= 1
        message.flags = (message.flags | add) - remove
        if DELETED in remove and told:
            message.marked = message.may_go = False

    def begin_expunge(self, scope: set[int] | None) -> set[int] | None:
        self.scopes.append(scope)
        for message in self.messages.values():
            self._expose(message)
        return scope

    def end_expunge(self, scope: set[int] | None, owner: int) -> None:
        self.scopes.remove(scope)
        for message in self.messages.values():
            if message.owner == owner and DELETED in message.flags and (scope is None or message.uid in scope):
                message.gone = True

    def _expose(self, message: Message) -> None:
        if message.marked and any(scope is None or message.uid in scope for scope in self.scopes):
            message.may_go = True

    # ---------------------------------------------------------------- what clients are told

    def observe(self, uid: int, flags: frozenset[bytes], modseq: int | None) -> None:
        """Somebody was told of a message."""
        message = self.messages.get(uid)
        if modseq is not None:
            known = self.seen.setdefault((uid, modseq), flags)
            assert known == flags, f"UID {uid} had {set(known)} and {set(flags)} with MODSEQ {modseq}"
            self.highest = max(self.highest, modseq)
        if message is None:
            return  # its APPEND is not answered yet
        wrong = (flags ^ message.flags) - message.ever  # others may be of a state before or after the last answer
        assert not wrong, f"UID {uid} has {set(flags)}, and nobody changed {set(wrong)}"

    def vanished(self, uid: int) -> None:
        """Somebody was told that a message is gone."""
        message = self.messages.get(uid)
        if message is not None:
            assert message.may_go or message.gone, f"UID {uid} is gone, and nobody removed it"
            message.gone = True

    # ---------------------------------------------------------------- when nobody works

    def truth(self, there: Iterable[int]) -> dict[int, frozenset[bytes]]:
        """What is in the mailbox when no command is under way. ``there``: UIDs that the server has; it decides of those
        that an EXPUNGE may have taken or not."""
        assert not self.scopes and not any(message.busy for message in self.messages.values())
        server = set(there)
        for message in self.messages.values():
            if message.may_go and message.uid not in server:
                message.gone = True
            message.may_go = False
        return {m.uid: frozenset(m.flags) for m in self.messages.values() if not m.gone}
