"""Keys of accounts and mailboxes, by which stores and sessions name them. Numbers in them are big-endian, so they sort.

An account's key is its number (8 octets). A mailbox's key is its account's key and its number in the account (4). The
mailbox number 0 stands for the account itself: its names, subscriptions and annotations.
"""

import struct

_ACCOUNT = struct.Struct(">Q")
_MAILBOX = struct.Struct(">QI")
_UID = struct.Struct(">I")
# octets of a key that name the account, the mailbox (its key), the message
ACCOUNT, MAILBOX, MESSAGE = _ACCOUNT.size, _MAILBOX.size, _MAILBOX.size + _UID.size
OF_ACCOUNT = 0  # instead of a mailbox's number
EVERYTHING = b"\xff\xff\xff\xff"  # the same: the whole account, for who watches it


def account_key(account: int) -> bytes:
    return _ACCOUNT.pack(account)


def mailbox_key(account: int, mailbox: int) -> bytes:
    return _MAILBOX.pack(account, mailbox)


def uid_key(key: bytes, uid: int) -> bytes:
    """Return the key of a message in the mailbox with this key."""
    return key + _UID.pack(uid)


def uid_of(at: bytes | memoryview) -> int:
    """Return the UID in the key of a message, or the first UID in the key of a page."""
    return int.from_bytes(at[MAILBOX:MESSAGE], "big")


def account_of(key: bytes | memoryview) -> int:
    """Return the account's number in a key that begins with it."""
    return int.from_bytes(key[:ACCOUNT], "big")


def mailbox_of(key: bytes | memoryview) -> int:
    """Return the mailbox's number in a key that begins with a mailbox key."""
    return int.from_bytes(key[ACCOUNT:MAILBOX], "big")
