"""Where an account's Maildir is, and how folders are named in it. Only the local backend needs to know this of an
account; whoever creates a store provides it (store.local.store).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Home:
    """Where an account's mail is on disk.

    ``root``: the Maildir. ``control``: where another server keeps its control files; ``indexes``: where it keeps its
    indexes; both are empty if they are in the Maildir. ``layout``: how folders are arranged, "maildir++" or "fs".
    ``utf8``: folder names are in UTF-8 instead of modified UTF-7."""

    root: str
    control: str = ""
    indexes: str = ""
    layout: str = "maildir++"
    utf8: bool = False
