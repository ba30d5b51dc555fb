"""What another server knew of a mailbox, whatever files it came from (dovecot/control_files.py)."""

from dataclasses import dataclass, field

GAP = 1000  # UIDs that are left out where nobody knows which were given


@dataclass(slots=True)
class Control:
    """What the control files of a mailbox say, by base name: UIDs, keyword bits, and how POP3 shows the message
    (``order``: its place before those without one; 0 for none). ``words``: names of the keyword bits."""

    uidvalidity: int = 0
    uidnext: int = 1
    uids: dict[bytes, int] = field(default_factory=dict)
    pop3: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    keywords: dict[bytes, int] = field(default_factory=dict)
    words: list[bytes] = field(default_factory=list)
    torn: bool = False  # the end of the list of UIDs is lost, and no index says how far they went

    def following(self, unlisted: int) -> int:
        """The next UID, where ``unlisted`` files have none: each may have had one in the part that is lost, and so may
        messages that are gone since."""
        return self.uidnext + unlisted + GAP if self.torn else self.uidnext

    def __bool__(self) -> bool:
        return bool(self.uidvalidity or self.pop3 or self.words)
