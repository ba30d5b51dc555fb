"""What another server knew of a mailbox, read from its control files (dovecot/control_files.py)."""

from dataclasses import dataclass, field

GAP = 1000  # UIDs that are skipped if it is unknown which were used


@dataclass(slots=True)
class Control:
    """The contents of a mailbox's control files, by base name: UIDs, keyword bits, and how POP3 shows the message.

    ``pop3``: (position before messages without one, or 0; UIDL). ``words``: names of the keyword bits."""

    uidvalidity: int = 0
    uidnext: int = 1
    uids: dict[bytes, int] = field(default_factory=dict)
    pop3: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    keywords: dict[bytes, int] = field(default_factory=dict)
    words: list[bytes] = field(default_factory=list)
    torn: bool = False  # the end of the UID list is lost, and no index tells the highest UID

    def following(self, unlisted: int) -> int:
        """Return the next UID, if ``unlisted`` files have none. In a torn list each of them, and each removed message,
        may have had a UID in the lost part."""
        return self.uidnext + unlisted + GAP if self.torn else self.uidnext

    def __bool__(self) -> bool:
        return bool(self.uidvalidity or self.pop3 or self.words)
