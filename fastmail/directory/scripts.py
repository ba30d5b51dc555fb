"""Sieve scripts of accounts, as an import brought them: kept until filters are run, and not run yet.

A script is its text, nothing more: whether it is a good one is for who runs it. An account has MOST of them, each with
LONGEST octets at most. They follow the account: to another name, and away with it.
"""

import hashlib
from contextlib import suppress

from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.factors import Factors
from fastmail.directory.reading import _beginning
from fastmail.directory.records import Script
from fastmail.directory.rows import SCRIPTS, U64, app_key
from fastmail.model.errors import CorruptData

MOST = 50
LONGEST = 256 << 10
LONGEST_NAME = 128  # characters; servers of scripts have to take as many


def _key(number: int, name: str) -> bytes:
    return app_key(number, hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


class Scripts(Factors):
    """See interface.Administration."""

    def scripts(self, number: int) -> list[Script]:
        """Those of an account that can be read, by name."""
        out = []
        for key, row in self._each("scripts", U64.pack(number), U64.pack(number)):
            with suppress(CorruptData):
                out.append(SCRIPTS.unpack(key, row))
        return sorted(out, key=lambda one: one.name)

    def put_script(self, address: str, new: Script) -> bool:
        """Keep a script in place of the one of that name; False if it was there already."""
        if not new.name or len(new.name) > LONGEST_NAME or not new.name.isprintable():
            raise DirectoryError(f"the name of a script has {LONGEST_NAME} characters at most")
        if len(new.text.encode("utf-8", "surrogatepass")) > LONGEST:
            raise DirectoryError(f"script {new.name} of {address} has more than {LONGEST} octets")
        with self._write() as txn:
            record = self._account_row(txn, address)
            key = _key(record.id, new.name)
            row = txn.get("scripts", key)
            with suppress(CorruptData):
                if row is not None and SCRIPTS.unpack(key, row) == new:
                    return False
            if row is None and sum(1 for _ in _beginning(txn, "scripts", U64.pack(record.id))) >= MOST:
                raise DirectoryError(f"{record.address} has {MOST} scripts: remove one first")
            txn.put("scripts", key, SCRIPTS.pack(key, new))
            self._note(txn, "script set", record.address, new.name)
            return True

    def remove_script(self, address: str, name: str) -> None:
        with self._write() as txn:
            record = self._account_row(txn, address)
            if not txn.delete("scripts", _key(record.id, name)):
                raise NoSuchUser(f"{record.address} has no script {name}; `fastmail account scripts` shows them")
            self._note(txn, "script remove", record.address, name)
