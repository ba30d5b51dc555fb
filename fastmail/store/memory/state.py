"""What the store in memory knows: messages in mailboxes, and what changed in each account."""

import time
from dataclasses import dataclass, field

from fastmail.message.identity import Ident
from fastmail.model.keys import account_key
from fastmail.store.interface import AccountChange, Kind, Mailbox


@dataclass(slots=True)
class Message:
    """One message and its flags."""

    uid: int
    flags: int
    modseq: int
    keywords: int
    date: int
    size: int
    saved: int
    content: bytes
    summary: bytes
    ident: Ident


@dataclass(slots=True)
class Log:
    """The account log of one account."""

    modseq: int = 0
    changes: list[AccountChange] = field(default_factory=list)

    def enter(self, kind: Kind, key: bytes, uid: int = 0, email: bytes = b"") -> None:
        self.changes.append(AccountChange(self.modseq, kind, key, uid, email))


@dataclass(slots=True)
class Box:
    """One mailbox."""

    row: Mailbox
    messages: list[Message] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)
    gone: list[tuple[int, int]] = field(default_factory=list)  # modseq, uid
    kept: dict[int, tuple[float, Message]] = field(default_factory=dict)  # removed messages: readable until when

    def read(self, uid: int) -> Message | None:
        """Return a message that exists, or that was removed and is kept for views."""
        found = next((m for m in self.messages if m.uid == uid), None)
        until, message = self.kept.get(uid, (0.0, found))
        return found or (message if time.monotonic() < until else None)


@dataclass(slots=True)
class State:
    """All that a store knows: mailboxes and annotations by mailbox key, and account logs by account number."""

    boxes: dict[bytes, Box] = field(default_factory=dict)
    notes: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    logs: dict[int, Log] = field(default_factory=dict)

    def log(self, account: int) -> Log:
        """Return the log of an account; the first call makes it."""
        return self.logs.setdefault(account, Log())

    def messages(self, account: int) -> list[tuple[bytes, Message]]:
        """Return (mailbox key, message) of all messages of an account."""
        prefix = account_key(account)
        return [(key, m) for key, box in self.boxes.items() if key.startswith(prefix) for m in box.messages]
