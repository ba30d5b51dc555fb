"""Second factors of people who administer: one-time codes (RFC 6238) and passkeys (WebAuthn), as rows by the number of
an account. What a code or a signature is worth is said by auth.totp and auth.passkeys; here it is read, looked at and
written in one transaction, so of two that show the same code or signature one is let in.

Only accounts with a role have them. Keys, codes and their hashes are never in the audit log. Fails with DirectoryError,
and then nothing was changed.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress

from fastmail.directory import checks, sealing
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.following import Following
from fastmail.directory.reading import _beginning
from fastmail.directory.records import Account, Passkey, Totp
from fastmail.directory.rows import PASSKEYS, TOTPS, U64, app_key
from fastmail.directory.tables import Txn
from fastmail.directory.writing import replace
from fastmail.model.errors import CorruptData, DamagedAccount


def passkey_key(number: int, credential: bytes) -> bytes:
    """Of the row of a credential's public key."""
    return app_key(number, hashlib.sha256(credential).digest())


class Factors(Following):
    """See interface.Administration. ``_seal_keys``: with which secrets are sealed."""

    _seal_keys: sealing.Keys

    # ---------------------------------------------------------------- what logins ask

    def totp(self, number: int) -> Totp | None:
        """The one-time codes of an account, confirmed or not. DamagedAccount."""
        row = self._get("totp", U64.pack(number))
        return self._opened(number, row) if row is not None else None

    def _opened(self, number: int, row: bytes) -> Totp:
        """DamagedAccount, also where the secret was sealed with another key."""
        found = TOTPS.unpack(U64.pack(number), row)
        if not found.sealed:
            return found
        return replace(found, secret=sealing.unseal(self._seal_keys, number, found.sealed), sealed=b"")

    def _put_totp(self, txn: Txn, number: int, new: Totp) -> None:
        sealed = sealing.seal(self._seal_keys, number, new.secret)
        key = U64.pack(number)
        txn.put("totp", key, TOTPS.pack(key, replace(new, secret=b"", sealed=sealed)))

    def passkeys(self, number: int) -> list[Passkey]:
        """Those that can be read."""
        out = []
        for key, row in self._each("passkeys", U64.pack(number), U64.pack(number)):
            with suppress(CorruptData):
                out.append(PASSKEYS.unpack(key, row))
        return out

    def has_second_factor(self, number: int) -> bool:
        """True if a login of the account needs more than its password. So does a row that cannot be read."""
        mine = U64.pack(number)
        row = self._get("totp", mine)
        try:
            if row is not None and TOTPS.unpack(mine, row).confirmed:  # the loop asks: no look at the key file
                return True
        except DamagedAccount:
            return True
        return next(self._each("passkeys", mine, mine), None) is not None

    # ---------------------------------------------------------------- one-time codes

    def change_totp(self, address: str, what: str, change: Callable[[Totp | None], Totp | None]) -> Totp | None:
        """Replace the one-time codes of an account by what ``change`` makes of them; None for none. ``what``: for the
        audit log. Codes that logins ask for from now on end the logins that did not show any."""
        with self._write() as txn:
            record = self._account_row(txn, address)
            key = U64.pack(record.id)
            row = txn.get("totp", key)
            old = None
            with suppress(CorruptData):
                old = self._opened(record.id, row) if row is not None else None
            new = change(old)
            if new is None:
                if not txn.delete("totp", key):
                    raise NoSuchUser(f"{record.address} has no one-time codes; `fastmail admin list` shows who has")
            else:
                if old is None:
                    _administers(record)
                self._put_totp(txn, record.id, new)
            if new is not None and new.confirmed and (old is None or not old.confirmed):
                self._revoke(txn, [record.id])
            self._note(txn, f"totp {what}", record.address, "")
            return new

    def use_totp(self, number: int, change: Callable[[Totp], Totp]) -> Totp:
        """The same for a login that shows a code: what it costs is there before anybody hears whether it was right.
        NoSuchUser where the account has no codes that logins ask for."""
        with self._write() as txn:
            row = txn.get("totp", U64.pack(number))
            old = self._opened(number, row) if row is not None else None
            if old is None or not old.confirmed:
                raise NoSuchUser("this account has no one-time codes")
            new = change(old)
            if new != old:
                self._put_totp(txn, number, new)
            return new

    # ---------------------------------------------------------------- passkeys

    def add_passkey(self, address: str, new: Passkey) -> None:
        """Logins with the password alone end."""
        with self._write() as txn:
            record = self._account_row(txn, address)
            _administers(record)
            known = [one for one, _ in _beginning(txn, "passkeys", U64.pack(record.id))]
            if len(known) >= checks.MOST_PASSKEYS:
                raise DirectoryError(f"{record.address} has {len(known)} passkeys: remove one first")
            key = passkey_key(record.id, new.id)
            if key in known:
                raise DirectoryError(f"{record.address} has this passkey already")
            txn.put("passkeys", key, PASSKEYS.pack(key, new))
            if not known:
                self._revoke(txn, [record.id])
            self._note(txn, "passkey add", record.address, new.name)

    def remove_passkey(self, address: str, credential: bytes) -> None:
        with self._write() as txn:
            record = self._account_row(txn, address)
            name = _name(txn, passkey_key(record.id, credential))
            if not txn.delete("passkeys", passkey_key(record.id, credential)):
                raise NoSuchUser(f"{record.address} has no such passkey; `fastmail admin passkey list` shows them")
            self._note(txn, "passkey remove", record.address, name)

    def use_passkey(self, number: int, credential: bytes, change: Callable[[Passkey], Passkey]) -> Passkey:
        """Replace the row of a passkey that was shown by what ``change``, which looks at the signature, makes of it.
        NoSuchUser where the account has no such passkey."""
        with self._write() as txn:
            key = passkey_key(number, credential)
            row = txn.get("passkeys", key)
            old = PASSKEYS.unpack(key, row) if row is not None else None
            if old is None or old.id != credential:
                raise NoSuchUser("this account has no such passkey")
            new = change(old)
            txn.put("passkeys", key, PASSKEYS.pack(key, new))
            return new


def _administers(record: Account) -> None:
    if not record.role:
        raise DirectoryError(
            f"{record.address} administers nothing: second factors are for accounts with a role; "
            f"`fastmail account set {record.address} role=server` gives one"
        )


def _name(txn: Txn, key: bytes) -> str:
    row = txn.get("passkeys", key)
    with suppress(CorruptData):
        return PASSKEYS.unpack(key, row).name if row is not None else ""
    return ""
