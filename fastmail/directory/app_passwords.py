"""App passwords of accounts (directory.apps): changes, each checked and written in one transaction, as in
directory.writing. Fails with DirectoryError, and then nothing was changed."""

from fastmail.directory import audit, checks
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.reading import _beginning
from fastmail.directory.records import AppPassword
from fastmail.directory.rows import APPS, U64, app_key
from fastmail.directory.writing import Writing


class AppPasswords(Writing):
    """See interface.Administration."""

    def add_app_password(self, address: str, new: AppPassword) -> None:
        with self._write() as txn:
            record = self._account_row(txn, address)
            known = [one for one, _ in _beginning(txn, "apps", U64.pack(record.id))]
            if len(known) >= checks.MOST_APPS:
                raise DirectoryError(f"{record.address} has {len(known)} app passwords: remove one first")
            key = app_key(record.id, new.digest)
            txn.put("apps", key, APPS.pack(key, new))
            self._note(txn, "app-password add", record.address, new.name)

    def change_app_password(self, address: str, new: AppPassword) -> None:
        """Change where and until when the password with that digest counts; sessions that it no longer allows end, and
        all that began with it where its end is another one (directory.standing)."""
        with self._write() as txn:
            record = self._account_row(txn, address)
            key = app_key(record.id, new.digest)
            row = txn.get("apps", key)
            if row is None:
                raise _no_app(record.address)
            txn.put("apps", key, APPS.pack(key, new))
            self._revoke(txn, ())
            self._note(
                txn, "app-password set", record.address, f"{new.name}: {audit.difference(APPS.unpack(key, row), new)}"
            )

    def remove_app_password(self, address: str, new: AppPassword) -> None:
        """Sessions that began with it end."""
        with self._write() as txn:
            record = self._account_row(txn, address)
            key = app_key(record.id, new.digest)
            if not txn.delete("apps", key):
                raise _no_app(record.address)
            txn.delete("used", key)
            self._revoke(txn, ())
            self._note(txn, "app-password remove", record.address, new.name)


def _no_app(address: str) -> NoSuchUser:
    return NoSuchUser(f"{address} has no such app password; `fastmail app-password list {address}` shows them")
