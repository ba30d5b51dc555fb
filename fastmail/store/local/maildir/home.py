"""Where an account's Maildir is, and how folders are named in it. Only the local backend needs to know this of an
account; whoever creates a store provides it (store.local.store).
"""

import os
from dataclasses import dataclass, field

from fastmail.durable import beneath


@dataclass(frozen=True, slots=True)
class Home:
    """Where an account's mail is on disk.

    ``root``: the Maildir. ``control``: where another server keeps its control files; ``indexes``: where it keeps its
    indexes; both are empty if they are in the Maildir. ``layout``: how folders are arranged, "maildir++" or "fs".
    ``utf8``: folder names are in UTF-8 instead of modified UTF-7. ``inbox``: INBOX's directory, which each delivery
    needs, as octets."""

    root: str
    control: str = ""
    indexes: str = ""
    layout: str = "maildir++"
    utf8: bool = False
    inbox: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inbox", os.fsencode(beneath.guarded(self.root)))
