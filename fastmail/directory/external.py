"""Accounts that another program keeps: Dovecot's passwd-file, followed while the server runs.

What the file says is brought into the built-in directory, which every worker reads: new accounts, changed passwords
and quotas take effect within seconds. An account that is gone from the file is disabled, not removed; its mail stays,
and it is back when its line is. A file that cannot be read, or has suddenly become empty, changes nothing, and the log
says so: an outage is never "no such user".
"""

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from fastmail.model.errors import ClientError, TemporaryError
from fastmail.model.quota import Quota
from fastmail.telemetry import log

LOOK = 2.0  # s between two looks at the file's times
_QUOTA = re.compile(r"(?:userdb_)?quota_rule\d*=\*:(?:.*?)storage=(\d+)([KMGT]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One account of the file."""

    address: str
    password: str
    quota: Quota | None = None


class Unreadable(TemporaryError):
    """The file is not there, or not what it should be."""


def parse(text: str, domain: str) -> Iterator[Line]:
    """``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra``; users without an @ get ``domain``. Lines that are no
    accounts are left out."""
    for line in text.splitlines():
        fields = line.split(":", 7)
        if not line.strip() or line.startswith("#") or len(fields) < 2 or not fields[0].strip():
            continue
        user = fields[0].strip().lower()
        try:
            address = str(account_address(user if "@" in user else f"{user}@{domain}"))
        except ClientError:
            log.event("directory.line", "warning", user=user, why="no usable address")
            continue
        password = fields[1] if fields[1].startswith("{") else "{CRYPT}" + fields[1]
        found = _QUOTA.search(fields[7]) if len(fields) > 7 else None
        quota = None
        if found is not None:
            unit = "KMGT".find((found.group(2) or "K").upper()) + 1
            quota = Quota(int(found.group(1)) * 1024**unit)
        yield Line(address, password, quota)


class PasswdFile:
    """One in the first worker."""

    def __init__(self, directory: LocalDirectory, path: str, domain: str) -> None:
        self._directory = directory
        self._path = path
        self._domain = domain
        self._state: tuple[int, int, int] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        complained = False
        while True:
            try:
                await loop.run_in_executor(None, self.take_in)
                complained = False
            except (Unreadable, ClientError) as error:
                if not complained:
                    log.event(
                        "directory.unreadable", "error", file=self._path, why=error, then="accounts stay as known"
                    )
                complained = True
            await asyncio.sleep(LOOK)

    def take_in(self) -> int:
        """Bring the directory up to the file; how many accounts changed. Waits for the disk."""
        try:
            found = os.stat(self._path)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return 0
            with open(self._path, encoding="utf-8") as file:
                lines = {line.address: line for line in parse(file.read(), self._domain)}
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(str(error)) from None
        directory = self._directory
        known = {record.address: record for record in directory.accounts()}
        if not lines and any(record.enabled for record in known.values()):
            raise Unreadable("it has no accounts any more")
        for domain in {line.address.rpartition("@")[2] for line in lines.values()}:
            if not directory.is_local(domain):
                directory.add_domain(domain)
        changed = [
            (line.address, line.password)
            for line in lines.values()
            if line.address not in known or known[line.address].password != line.password
        ]
        directory.add_accounts(changed, replace=True)
        count = len(changed)
        for line in lines.values():
            record = known.get(line.address)
            if record is not None and not record.enabled:
                directory.enable(line.address, True)
                count += 1
            if line.quota is not None and (record is None or record.quota != line.quota):
                directory.set_quota(line.address, line.quota)
        for record in known.values():
            if record.enabled and record.address not in lines:
                directory.enable(record.address, False)
                count += 1
        self._state = state
        if count:
            log.event("directory.followed", file=self._path, accounts=len(lines), changed=count)
        return count
