"""Where an account's Maildir is, and how folders lie there: what the local backend needs to know of an account and no
other backend does. Whoever makes a store says it, by account (store.local.store)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Home:
    """``root``: the Maildir. ``control``: where another server kept what it knew of the mailboxes; ``indexes``: where
    it has its indexes; both are empty for the same place. ``layout``: how folders lie there, "maildir++" or "fs".
    ``utf8``: True if their names are in UTF-8, not in modified UTF-7."""

    root: str
    control: str = ""
    indexes: str = ""
    layout: str = "maildir++"
    utf8: bool = False
