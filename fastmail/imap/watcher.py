"""Watches what a NOTIFY (RFC 5465) asks for, and sends its events whenever no command is under way.

Messages that come and go in other mailboxes are sent as STATUS, names and subscriptions as LIST, annotations as
METADATA with the names of the entries; changes of the selected mailbox are sent as at the end of a command. What
happens while a command runs is sent after it. A client that watches too many annotations is told so, and gets nothing
more.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmail._core.uidset import UidSet
from fastmail.imap import metadata, places, status
from fastmail.imap.fetch_plan import Plan
from fastmail.imap.fetch_run import FetchRun
from fastmail.imap.filters import CHOSEN, Filter
from fastmail.imap.names import quoted, wire
from fastmail.imap.state import Session
from fastmail.imap.telling import tell
from fastmail.model.keys import OF_ACCOUNT, mailbox_key
from fastmail.store.interface import Account, Listing, Mailbox

MESSAGES = {b"MESSAGENEW", b"MESSAGEEXPUNGE", b"FLAGCHANGE"}
NAMES = {b"MAILBOXNAME", b"SUBSCRIPTIONCHANGE"}
METADATA = b"MAILBOXMETADATACHANGE"
SERVER = b"SERVERMETADATACHANGE"
MOST_ENTRIES = 20_000  # annotations that one session may watch
AGAIN = 0.05  # s between two tries while a command runs
ITEMS = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN"]
Found = list[tuple[places.Place, Mailbox]]


@dataclass(slots=True)
class Group:
    """Mailboxes and the events that are asked for. ``plan``: what is fetched of new messages in the selected
    mailbox."""

    filter: Filter
    events: set[bytes]
    plan: Plan | None = None


@dataclass(slots=True)
class Watcher:
    """What one session wants to hear of."""

    session: Session
    groups: list[Group]
    known: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    listing: Listing = field(default_factory=Listing)  # as of the last look at all mailboxes
    own: dict[bytes, places.Place] = field(default_factory=dict)  # the account's own mailboxes as of that look
    subscribed: set[str] = field(default_factory=set)
    watched: dict[bytes, tuple[Account, Callable[[], None]]] = field(default_factory=dict)
    stirred: set[bytes] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None
    entries: dict[bytes, dict[bytes, int]] = field(default_factory=dict)  # annotations of a mailbox, hashes of values

    def _events(self, name: str, listing: Listing) -> set[bytes]:
        """Return what is asked for of a mailbox: the first group that names it decides (RFC 5465 3.1)."""
        for group in self.groups:
            if group.filter.kind not in CHOSEN and group.filter.has(name, name not in self.foreign, listing):
                return group.events
        return set()

    def wants_selected(self) -> bool:
        """True if the client asks for events of the selected mailbox."""
        return self._of_selected() is not None

    def _of_selected(self) -> Group | None:
        return next((group for group in self.groups if group.filter.kind in CHOSEN), None)

    @property
    def _account_key(self) -> bytes:
        assert self.session.account is not None
        return mailbox_key(self.session.account.id, OF_ACCOUNT)

    async def start(self, with_status: bool) -> bool:
        """Watch everything that is asked for, and send the present state if that is asked for too. False if it is too
        much."""
        session = self.session
        assert session.account is not None
        listing, found = await self._look()
        self.subscribed = set(listing.subscribed)
        self._watch(session.account, self._account_key)
        for place, box in found:
            self.names[box.key] = place.shown
            events = self._events(place.shown, listing)
            if METADATA in events:
                self._watch(place.account, box.key)
                self._learn(place)
            if events & MESSAGES and "r" in place.rights:
                self._watch(place.account, box.key)
                self.known[box.key] = (box.exists, box.uidnext, box.unseen, box.modseq)
                if with_status and not self._is_selected(box.key):
                    session.conn.write(status.line(session, place, box, self._items(b"FLAGCHANGE" in events)))
                    await self._room()
        if self._server_asked():
            self._learn(metadata.server(session))
        return self._is_bounded()

    async def _look(self) -> tuple[Listing, list[tuple[places.Place, Mailbox]]]:
        listing, found = await places.everything(self.session)
        self.foreign = {place.shown for place, _ in found if place.account != self.session.account}
        self.own = {box.key: place for place, box in found if place.account == self.session.account}
        self.listing = listing
        return listing, found

    def _near(self, stirred: set[bytes]) -> Found | None:
        """Return the mailboxes that changed, if all are the account's own and no name changed: nothing else has to be
        looked at then. None otherwise, because rights on mailboxes of others may be new."""
        if not stirred <= self.own.keys():
            return None
        assert self.session.account is not None
        with self.session.service.store.snapshot(self.session.account) as snapshot:
            boxes = [(self.own[key], snapshot.mailbox(key)) for key in sorted(stirred)]
        found = [(place, box) for place, box in boxes if box is not None]
        return found if len(found) == len(boxes) else None

    def _items(self, flags: bool = False) -> list[bytes]:
        """Return the items of STATUS: with HIGHESTMODSEQ for a client that knows it, and at the start if ``flags`` are
        asked for (RFC 5465 3.1)."""
        return [*ITEMS, b"HIGHESTMODSEQ"] if self.session.condstore or flags else ITEMS

    # ---------------------------------------------------------------- annotations (RFC 5465 5.6, 5.7)

    def _server_asked(self) -> bool:
        return any(SERVER in group.events for group in self.groups)

    def _is_bounded(self) -> bool:
        return sum(map(len, self.entries.values())) <= MOST_ENTRIES

    def _learn(self, place: places.Place) -> list[bytes]:
        """Remember the annotations of a mailbox, or of the server; return the names of those that changed."""
        assert place.key is not None
        now: dict[bytes, int] = {}
        if metadata.may_see(place):
            now = {name: hash(value) for name, value in metadata.visible(self.session, place).items()}
        before, self.entries[place.key] = self.entries.get(place.key, {}), now
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def annotated(self, key: bytes, changes: dict[bytes, bytes | None]) -> None:
        """The session itself is about to change annotations: that is no news for it (RFC 5464 4.1)."""
        known = self.entries.get(key)
        if known is None:
            return
        for name, value in changes.items():
            known.pop(name, None)
            if value is not None:
                known[name] = hash(value)

    async def _room(self) -> None:
        """Wait until the client has read what was sent, before more is sent."""
        if self.session.conn.full:
            await self.session.conn.drain()

    async def _tell_annotations(self, stirred: set[bytes], listing: Listing, found: Found) -> None:
        session = self.session
        changed_boxes = [place for place, box in found if box.key in stirred]
        watched = [place for place in changed_boxes if METADATA in self._events(place.shown, listing)]
        if self._server_asked() and self._account_key in stirred:
            watched.append(metadata.server(session))
        for place in watched:
            changed = self._learn(place)
            if changed:
                session.conn.write(metadata.changed_line(session, place.shown, changed))
                await self._room()

    def _is_selected(self, key: bytes) -> bool:
        return self.session.selected is not None and self.session.selected.key == key

    def _watch(self, account: Account, key: bytes) -> None:
        if key not in self.watched:

            def changed() -> None:
                self.stir(key)

            self.watched[key] = account, changed
            self.session.service.store.watch(account, key, changed)

    def close(self) -> None:
        """Stop watching."""
        if self.timer is not None:
            self.timer.cancel()
        for key, (account, callback) in self.watched.items():
            self.session.service.store.unwatch(account, key, callback)
        self.watched.clear()

    def stir(self, key: bytes) -> None:
        """Something changed: send it as soon as no command runs."""
        self.stirred.add(key)
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(0.0, self._ring)

    def _ring(self) -> None:
        self.timer = None
        conn = self.session.conn
        if conn.closing or not self.stirred:
            return
        if conn.busy:
            self.timer = asyncio.get_running_loop().call_later(AGAIN, self._ring)
        else:
            conn.run(self._tell())

    async def _tell(self) -> None:
        session = self.session
        if session.account is None:
            return
        stirred, self.stirred = self.stirred, set()
        near = self._near(stirred)
        listing, found = (self.listing, near) if near is not None else await self._look()
        if self._account_key in stirred:
            await self._tell_names(listing, found)
        await self._tell_annotations(stirred, listing, found)
        if not self._is_bounded():  # RFC 5465 5.8
            session.conn.write(b"* OK [NOTIFICATIONOVERFLOW] too many annotations, no more notifications are sent\r\n")
            session.end_notify()
            return
        for place, box in found:
            if box.key not in stirred or "r" not in place.rights:
                continue
            if self._is_selected(box.key):
                await self._tell_selected()
                continue
            now = (box.exists, box.uidnext, box.unseen, box.modseq)
            before, self.known[box.key] = self.known.get(box.key), now
            events = self._events(place.shown, listing)
            came = before is None or now[:2] != before[:2]
            if b"MESSAGENEW" in events and (came or (b"FLAGCHANGE" in events and now != before)):
                session.conn.write(status.line(session, place, box, self._items()))
                await self._room()

    async def _tell_names(self, listing: Listing, found: list[tuple[places.Place, Mailbox]]) -> None:
        """Tell mailboxes that were created, removed or renamed, and subscriptions."""
        session = self.session
        sep = quoted(session.service.separator)
        now = {box.key: place.shown for place, box in found}
        owners = {box.key: place.account for place, box in found}
        for key, name in now.items():
            old = self.names.get(key)
            if old == name:
                continue
            events = self._events(name, listing) | (self._events(old, listing) if old else set())
            if b"MAILBOXNAME" in events:
                marks = b"\\Subscribed" if name in listing.subscribed else b""
                was = b' ("OLDNAME" (' + wire(session, old) + b"))" if old else b""
                session.conn.write(b"* LIST (%b) %b %b%b\r\n" % (marks, sep, wire(session, name), was))
                await self._room()
            if self._events(name, listing) & (MESSAGES | {METADATA}):
                self._watch(owners[key], key)
        for key, name in self.names.items():
            if key not in now and b"MAILBOXNAME" in self._events(name, listing):
                session.conn.write(b"* LIST (\\NonExistent) %b %b\r\n" % (sep, wire(session, name)))
                await self._room()
        for name in sorted(self.subscribed ^ listing.subscribed):
            if b"SUBSCRIPTIONCHANGE" in self._events(name, listing):
                marks = b"\\Subscribed" if name in listing.subscribed else b""
                if name not in now.values():
                    marks = b" ".join(part for part in (b"\\NonExistent", marks) if part)
                session.conn.write(b"* LIST (%b) %b %b\r\n" % (marks, sep, wire(session, name)))
                await self._room()
        self.names, self.subscribed = now, set(listing.subscribed)

    async def _tell_selected(self) -> None:
        """Tell the selected mailbox, as its group asks."""
        session, group = self.session, self._of_selected()
        selected = session.selected
        if group is None or selected is None or not group.events & MESSAGES:
            return
        last = selected.uids.last if selected.uids else 0
        if not await tell(session, by_uid=True, expunges=group.filter.kind == b"SELECTED"):
            return
        fresh = selected.uids.minus(UidSet.of_ranges((1, last))) if last else selected.uids
        if fresh and group.plan is not None:
            run = FetchRun(session, selected, group.plan, fresh)
            await run.render()
