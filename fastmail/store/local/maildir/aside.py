"""Files of expunged messages that are *put aside*, for views that still have them (index/kept.py).

Such a file is renamed after the commit to ``tmp`` of its mailbox, where no reader of Maildirs takes it for a message.
Until then it is found under its old name.
"""

import hashlib
import os
import time
from collections.abc import Sequence

from fastmail.durable import beneath, files
from fastmail.durable.env import Read
from fastmail.store.local.index import kept
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.index.tables import Tables

ASIDE = "kept."  # prefix of such a file's name in tmp/; a digest of its old name follows


def aside_path(directory: str, marked: bytes) -> bytes:
    """Return the path of a file that is put aside: a digest of its base name, since the name itself may already have
    the greatest length."""
    digest = hashlib.blake2b(base_of(marked[1:]), digest_size=16).hexdigest()
    return os.fsencode(f"{directory}/tmp/{ASIDE}{digest}")


def unnamed(read: Read, t: Tables, key: bytes, directory: str) -> list[bytes]:
    """Return paths of files of a mailbox that were put aside a while ago and that no row names."""
    found = left_over(directory, 0.0)
    if found:
        with read() as txn:
            for marked in kept.marks_of(txn, t, key):
                path = aside_path(directory, marked)
                if path in found:
                    found.remove(path)
    return found


def left_over(directory: str, grace: float) -> list[bytes]:
    """Return paths of files that were put aside and whose time has long passed: the rows that named them were lost or
    deleted."""
    out = []
    try:
        names = [name for name in beneath.names(directory + "/tmp") if name.startswith(ASIDE)]
    except OSError:
        return []
    for name in names:
        path = os.fsencode(f"{directory}/tmp/{name}")
        try:
            if time.time() - beneath.lstat(path).st_ctime > grace + kept.SLACK:
                out.append(path)
        except OSError:
            continue  # removed meanwhile
    return out


def remove(directory: str, names: Sequence[bytes], grace: float) -> None:
    """Remove files that were put aside, and left-over ones. If a loss of power brings one back, it becomes left over
    later."""
    if beneath.is_directory(directory + "/tmp"):
        files.unlink_batch([aside_path(directory, name) for name in names] + left_over(directory, grace))
        files.sync_dirs([os.fsencode(directory) + b"/tmp"])
