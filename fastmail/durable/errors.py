"""Errors of LMDB and of the disk, as those of model.errors; and what happens when an environment cannot be used any
more: ``panic`` is called, which ends a worker.
"""

import errno
from collections.abc import Callable

import lmdb

from fastmail._core import leaves
from fastmail.model.errors import CorruptData, StorageFailed, StorageFull
from fastmail.telemetry import log

REPAIR = "stop the server and run `fastmail check --repair`"
# BadTxnError is here because LMDB raises it in a transaction in which one of the others was raised before; nested
# transactions, its other cause, are not used
DAMAGE = (
    leaves.Damaged,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.BadChecksumError,
    lmdb.BadTxnError,
)
ERRORS = (lmdb.Error, leaves.Damaged)  # what reading may raise
panic: Callable[[], None] | None = None  # set by workers


def give_up(event: str, why: str) -> None:
    """Log why an environment cannot be used any more, and call ``panic``."""
    log.event(event, "error", why=why)
    if panic is not None:
        panic()


def is_full(error: OSError) -> bool:
    """True if there is no room: it works again when there is."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK)


def translate(error: BaseException) -> Exception:
    """Return the exception of model.errors that stands for an LMDB or operating-system error."""
    if isinstance(error, lmdb.MapFullError):
        return StorageFull("index map is full")
    if isinstance(error, DAMAGE) or (isinstance(error, lmdb.Error) and "data format" in str(error)):
        give_up("index.damaged", str(error))
        return CorruptData(f"{error}; {REPAIR}")
    if isinstance(error, OSError):
        return StorageFull(str(error)) if is_full(error) else StorageFailed(str(error))
    if isinstance(error, lmdb.Error):
        text = str(error)
        return StorageFull(text) if "No space" in text or "quota" in text.lower() else StorageFailed(text)
    return StorageFailed(str(error))
