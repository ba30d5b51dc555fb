"""Finds the Maildirs of accounts: the templates of the configuration, filled in from the directory."""

from contextlib import suppress

from fastmail.directory.interface import AccountRecord, Directory
from fastmail.durable import beneath
from fastmail.model.errors import DamagedAccount, NoSuchMailbox, TemporaryError
from fastmail.store.interface import Account
from fastmail.store.local.maildir.home import Home

REMEMBERED = 50_000


class Homes:
    """``maildir``: the Maildir's path with {domain}, {user} and {home}; ``control``, ``indexes``: the same for what the
    server before kept elsewhere; the rest as in Home."""

    def __init__(
        self,
        directory: Directory,
        maildir: str,
        control: str = "",
        layout: str = "maildir++",
        utf8: bool = False,
        indexes: str = "",
    ) -> None:
        self._directory = directory
        self._maildir = maildir
        self._control = control
        self._indexes = indexes
        self._layout = layout
        self._utf8 = utf8
        self._homes: dict[int, Home] = {}

    def note(self, record: AccountRecord) -> Home:
        """Record where the account's Maildir is from now on. TemporaryError if the directory cannot say it."""
        user, _, domain = (record.placed or record.address).rpartition("@")
        if "{home}" in self._maildir and not record.home and not record.maildir:
            raise TemporaryError(f"{record.address}: whoever keeps the account does not say where its home is")
        names = {"domain": domain, "user": user, "home": record.home}
        root, control, indexes = (text.format(**names) for text in (self._maildir, self._control, self._indexes))
        root, control, indexes = map(beneath.plain, (record.maildir or root, control, indexes))
        if len(self._homes) > REMEMBERED:
            self._homes.clear()
        home = self._homes[record.id] = Home(root, control, indexes, self._layout, self._utf8)
        return home

    def home(self, account: Account) -> Home:
        """Return where the account's Maildir is. NoSuchMailbox if the directory has no such account, or cannot read
        it."""
        known = self._homes.get(account.id)
        if known is not None:
            return known
        record = None
        with suppress(DamagedAccount):
            record = self._directory.account_by_id(account.id)
        if record is None:
            raise NoSuchMailbox("the account was removed")
        return self.note(record)
