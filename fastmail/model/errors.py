"""The exception tree. An error says whose fault it is and which reply it deserves.

    MailError
    ├── ClientError            the peer asked for something wrong; its text may be sent
    │   ├── NoSuchMailbox      IMAP NO [NONEXISTENT] / [TRYCREATE]
    │   ├── MailboxExists      IMAP NO [ALREADYEXISTS]
    │   ├── CannotDo           IMAP NO [CANNOT]
    │   ├── OverQuota          the account is full: IMAP NO [OVERQUOTA], SMTP 552 5.2.2
    │   ├── LoginRefused       the password is right, and the account may not log in
    │   ├── KeptOut            the peer's network is banned: told so, and the session ends
    │   ├── TooMuch            a limit was reached: IMAP NO [LIMIT], SMTP 552
    │   └── BadAddress         SMTP 501 / 553
    ├── TemporaryError         our fault or nobody's, later it may work: SMTP 451, IMAP NO [UNAVAILABLE]
    │   ├── StorageFull        no room (disk, inodes, index map): SMTP 452, IMAP NO [OVERQUOTA]-like text
    │   └── StorageFailed      a write or a sync failed; nothing was acknowledged
    ├── CorruptData            a stored record is damaged; its neighbours are not
    │   └── DamagedAccount     (a TemporaryError too) of the directory: nobody is refused for good because of it
    └── ConfigError            the administrator's; says file, line and what to do

Text of ClientError is written for peers. All other texts stay in the log: peers get a fixed sentence.
"""

import os


class MailError(Exception):
    """Base of all of ours."""


class ClientError(MailError):
    """The peer's fault; ``str()`` may be sent to it."""


class NoSuchMailbox(ClientError):
    """There is no such mailbox."""


class MailboxExists(ClientError):
    """A mailbox of that name is already there."""


class CannotDo(ClientError):
    """Understood and impossible, now and later."""


class NoPermission(CannotDo):
    """The account has no right to do that."""


class LoginRefused(ClientError):
    """The password is right, and the account may not log in; the text is for the user."""


class KeptOut(ClientError):
    """The peer may not try a login now; the text is for the peer, and the session ends."""


class OverQuota(ClientError):
    """The account holds as much as it may."""


class TooMuch(ClientError):
    """A limit was reached."""


class BadAddress(ClientError):
    """Not an address, or not one that may be used here."""


class TemporaryError(MailError):
    """Not now. Nothing was acknowledged."""


class StorageFull(TemporaryError):
    """Disk, inodes or index map are full; works again by itself when there is room."""


class StorageFailed(TemporaryError):
    """A write or a sync failed."""


class CorruptData(MailError):
    """A stored record can not be read."""


class DamagedAccount(CorruptData, TemporaryError):
    """The row of an account or an alias can not be read, or is not what was written."""


class ConfigError(MailError):
    """The administrator's; the text says where and what to do."""


def in_words(error: BaseException, known: str = "") -> str:
    """Return what went wrong, for people: for an OSError the system's words without their number, behind the file that
    it names, unless that is ``known`` already. Never empty."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return f"{name}: {error.strerror}" if name and name != known else error.strerror
