"""Files of expunged messages that are put aside, for views that still have them (index/kept.py).

Such a file is renamed, after the commit, to ``tmp`` of its mailbox, where no reader of Maildirs takes it for a message.
Until then it is found by its name.
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

ASIDE = "kept."  # how a file in tmp/ that is kept is called, before a digest of its name


def aside_path(directory: str, marked: bytes) -> bytes:
    """Where it is when it was put aside. A name may be as long as names can be, so this is a digest of its base."""
    digest = hashlib.blake2b(base_of(marked[1:]), digest_size=16).hexdigest()
    return os.fsencode(f"{directory}/tmp/{ASIDE}{digest}")


def unnamed(read: Read, t: Tables, key: bytes, directory: str) -> list[bytes]:
    """Paths of files of a mailbox that were put aside a while ago, and that no row names."""
    found = left_over(directory, 0.0)
    if found:
        with read() as txn:
            for marked in kept.marks_of(txn, t, key):
                path = aside_path(directory, marked)
                if path in found:
                    found.remove(path)
    return found


def left_over(directory: str, grace: float) -> list[bytes]:
    """Paths of files that were put aside and whose time is long over: rows that named them were lost or dropped."""
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
            continue  # it was removed meanwhile
    return out


def remove(directory: str, names: Sequence[bytes], grace: float) -> None:
    """Remove files that were put aside, and what is left over there. What a loss of power brings back after that is
    left over some time."""
    if beneath.is_directory(directory + "/tmp"):
        files.unlink_batch([aside_path(directory, name) for name in names] + left_over(directory, grace))
        files.sync_dirs([os.fsencode(directory) + b"/tmp"])
