"""The view of INBOX that a POP3 session has from its login to its end (RFC 1939 5, 6).

It is frozen: new messages are not in it, and what others remove stays readable for a while (store.views). DELE only
marks. UIDL is Dovecot's default form, so that clients which come from there download nothing twice; where another
server's order and UIDLs are known (Snapshot.pop3), they hold.
"""

from array import array
from collections.abc import Iterable

from fastmail._core import pages
from fastmail.store.interface import Account, Store


def numbers(values: bytes | Iterable[int] = ()) -> "array[int]":
    """Return 32-bit numbers, which the compiled writers of listings take."""
    return array("I", values)


class View:
    """Messages have numbers from 1 on."""

    __slots__ = ("_uidls", "account", "deleted", "key", "read", "sizes", "uids", "validity")

    def __init__(self, account: Account, key: bytes) -> None:
        self.account = account
        self.key = key
        self.validity = 0
        self.uids = numbers()
        self.sizes = numbers()
        self._uidls: dict[int, bytes] = {}  # those that are not of our own form, by UID
        # numbers of messages
        self.deleted: set[int] = set()  # marked
        self.read: set[int] = set()  # RETR sent them

    def uid(self, number: int) -> int:
        """The UID of a message."""
        return self.uids[number - 1]

    def uidl(self, uid: int) -> str:
        """Return the unique id that UIDL shows for a UID."""
        known = self._uidls.get(uid) if self._uidls else None
        return f"{uid:08x}{self.validity:08x}" if known is None else known.decode("ascii", "backslashreplace")

    @property
    def has_own_form(self) -> bool:
        """True when every UIDL is of our own form."""
        return not self._uidls

    def take_over(self, known: dict[int, tuple[int, bytes]]) -> None:
        """Show messages as the server before did: its order first, and its UIDLs."""
        if not known:
            return
        places = {uid: order for uid, (order, _) in known.items() if order}
        rows = list(zip(self.uids, self.sizes, strict=True))
        rows.sort(key=lambda row: (row[0] not in places, places.get(row[0], row[0])))
        self.uids = numbers(uid for uid, _ in rows)
        self.sizes = numbers(size for _, size in rows)
        self._uidls = {uid: uidl for uid, (_, uidl) in known.items() if uidl}


def taken(store: Store, account: Account, key: bytes) -> View:
    """Return the view of a mailbox as it is now. The store already knows of the view (Store.views)."""
    view = View(account, key)
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
        assert box is not None
        view.validity = box.uidvalidity
        uids, sizes = pages.listed(snapshot.pages(key))
        view.uids, view.sizes = numbers(uids), numbers(sizes)
        view.take_over(snapshot.pop3(key))
    return view
