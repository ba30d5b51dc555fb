"""One-time codes of people who administer (RFC 6238, with the HMAC-SHA-1, six digits and 30 s that all programs have),
and recovery codes for a lost device.

Promises: a code counts once, and none of an earlier time than one that was used (RFC 6238 5.2); a clock may be one step
off. From FREE wrong codes in a row on, each makes the account wait, twice as long each time (RFC 4226 7.3),
and nothing is looked at meanwhile: so a million codes are not tried. What a wrong code costs is on the disk before the
answer. Recovery codes have 80 random bits and are kept as SHA-256.
"""

import base64
import enum
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Protocol

import pyotp
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError
from fastmail.directory.records import Totp
from fastmail.telemetry import log

STEP = 30  # s
WINDOW = 1  # steps that a clock may be off
SECRET = 20  # octets (RFC 4226 4, R6)
FREE = 5  # wrong codes in a row from which on each makes the account wait
WAIT, LONGEST_WAIT = 30, 3600  # s
RECOVERY_CODES, RECOVERY_BITS, GROUP = 10, 80, 4
LONGEST = 64  # characters of what somebody types


class Outcome(enum.Enum):
    """What a code is worth. RECOVERED: one of the recovery codes, which is used up. WAITING: it was not looked at."""

    RIGHT = "right"
    RECOVERED = "recovered"
    WRONG = "wrong"
    WAITING = "waiting"


class Keeper(Protocol):
    """What ``verify`` asks of the directory."""

    def use_totp(self, number: int, change: Callable[[Totp], Totp]) -> Totp: ...


def make(now: int) -> Totp:
    """New codes, which no login asks for before a first one was confirmed."""
    return Totp(secrets.token_bytes(SECRET), made=now)


def shown(row: Totp) -> str:
    """The secret as people type it into a program (base 32)."""
    return base64.b32encode(row.secret).decode()


def uri(row: Totp, address: str, issuer: str) -> str:
    """The secret as programs read it, from a QR code or a link (otpauth://)."""
    return pyotp.TOTP(shown(row)).provisioning_uri(name=address, issuer_name=issuer)


def recovery_codes() -> list[str]:
    """New ones, as they are shown."""
    return [_recovery_code() for _ in range(RECOVERY_CODES)]


def _recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(RECOVERY_BITS // 8)).decode().lower()
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def digest(code: str) -> bytes:
    """What is kept of a recovery code; blanks, hyphens and capitals do not count."""
    return hashlib.sha256(_plain(code).encode("utf-8", "replace")).digest()


def _plain(code: str) -> str:
    return code[:LONGEST].replace("-", "").replace(" ", "").lower()


def step_of(row: Totp, code: str, now: int) -> int:
    """The time step whose code this is, after those that were used; 0 where it is none."""
    asked = _plain(code)
    if len(asked) != 6 or not asked.isascii() or not asked.isdigit():
        return 0
    codes = pyotp.TOTP(shown(row))
    found = 0
    for step in range(now // STEP - WINDOW, now // STEP + WINDOW + 1):
        made = codes.generate_otp(step)
        right = hmac.compare_digest(made, asked)
        found = step if right and step > row.step else found
    return found


def confirm(row: Totp | None, code: str, now: int, recovery: list[str]) -> Totp:
    """Codes that logins ask for from now on, with these recovery codes. DirectoryError where the code is not right."""
    if row is None:
        raise DirectoryError("there are no one-time codes to confirm: `fastmail admin totp enable` makes some")
    if row.confirmed:
        raise DirectoryError("the one-time codes are confirmed already")
    step = step_of(row, code, now)
    if not step:
        raise DirectoryError("the code is not right: is the clock of the device, and of this machine, right?")
    return replace(row, confirmed=now, step=step, recovery=tuple(map(digest, recovery)), failed=0, until=0)


def check(row: Totp, code: str, now: int) -> tuple[Totp, Outcome]:
    """What a code is worth at this time, and what the row is from then on."""
    if now < row.until:
        return row, Outcome.WAITING
    step = step_of(row, code, now)
    if step:
        return replace(row, step=step, failed=0, until=0), Outcome.RIGHT
    asked = digest(code)
    left = tuple(one for one in row.recovery if not hmac.compare_digest(one, asked))
    if len(left) < len(row.recovery):
        return replace(row, recovery=left, failed=0, until=0), Outcome.RECOVERED
    failed = row.failed + 1
    wait = min(WAIT << min(failed - FREE, 16), LONGEST_WAIT) if failed >= FREE else 0
    return replace(row, failed=failed, until=now + wait if wait else 0), Outcome.WRONG


def verify(directory: Keeper, number: int, address: str, code: str, now: int) -> Outcome:
    """Use up a code that somebody showed who has shown the password of this account. It waits for the disk. NoSuchUser
    where logins of the account need no code."""
    found: list[Outcome] = []

    def looked_at(row: Totp) -> Totp:
        new, outcome = check(row, code, now)
        found.append(outcome)
        return new

    row = directory.use_totp(number, looked_at)
    if found[-1] is not Outcome.RIGHT:
        log.event("login.code", "warning", account=address, outcome=found[-1].value, failed=row.failed)
    return found[-1]
