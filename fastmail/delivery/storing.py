"""Stores the deliveries of a message, and says of each what the store has kept, also of those whose call failed.

Promise: before a delivery is tried again or refused, the store is asked by the id of its transaction what it has.
"""

from collections.abc import Sequence

from fastmail._core.uidset import UidSet
from fastmail.delivery.envelope import Kept, Outcome
from fastmail.delivery.plan import Plan, to_be_tried_again
from fastmail.model.errors import ClientError, MailError, OverQuota, StorageFull
from fastmail.store.interface import Appended, Delivery, Store
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

TRIES = 2  # of a delivery that some accounts have and others not


class Storing:
    """See the module."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def store_in_parts(self, plan: Plan, queued: bool, why: MailError | OSError) -> list[Appended | None]:
        """Store what can be stored of deliveries that could not be stored in one go, because of ``why``. What comes
        from the queue is tried again from there, and kept once; otherwise all accounts behind a recipient have it or
        none has, since the client will try again."""
        places = await self.given(plan.number, plan.items)
        if len(plan.items) == 1:
            if places[0] is None:
                self._refuse(plan, 0, why)
            return places
        units: dict[int, list[int]] = {}
        for at, owners in enumerate(plan.owners):
            units.setdefault(at if queued else -1 - owners[0], []).append(at)
        for unit in units.values():
            if all(places[at] is not None for at in unit):
                continue
            stored, trouble = await self.attempt(plan, [plan.items[at] for at in unit])
            for at, place in zip(unit, stored, strict=True):
                places[at] = place
                if place is None:
                    self._refuse(plan, at, trouble or why)
        if not queued:
            await self._leave_whole_of(plan, places)
        return places

    async def _leave_whole_of(self, plan: Plan, places: list[Appended | None]) -> None:
        """Do what delivery.plan.leave_whole does, for deliveries that have been stored. A recipient that shares an
        account with one who is to be tried again is tried again too."""
        again: set[int] = set()
        while len(again) < len(again := to_be_tried_again(plan)):
            for owners in plan.owners:
                known = again.intersection(owners)
                for position in owners if known else ():
                    plan.outcomes[position] = plan.outcomes[min(known)]
        for at, place in enumerate(places):
            if place is not None and not again.isdisjoint(plan.owners[at]):
                await self.take_back([(plan.items[at], place)])
                places[at] = None

    async def attempt(
        self, plan: Plan, items: Sequence[Delivery]
    ) -> tuple[list[Appended | None], MailError | OSError | None]:
        """Deliver to all of these: (what each got; why not all did). The store is asked what a call that failed has
        kept. Where some have the message, the rest is tried once more, as that is what ends best."""
        for attempt in range(1, TRIES + 1):
            try:
                return list(await self._store.deliver(items)), None
            except (MailError, OSError) as error:
                places, why = await self.given(plan.number, items), error
            missing = places.count(None)
            if not missing:
                return places, None
            if missing == len(items) or attempt == TRIES:
                break
        return places, why

    async def given(self, number: str, items: Sequence[Delivery]) -> list[Appended | None]:
        """Return what these deliveries of message ``number`` have kept; None too where that cannot be said."""
        try:
            return await self._store.given(items)
        except (MailError, OSError) as error:
            if len(items) == 1:
                log.event("delivery.unknown", "error", id=number, error=repr(error))
                return [None]
        return [(await self.given(number, [item]))[0] for item in items]  # a shard that cannot say hides no other

    async def take_back(self, kept: Sequence[Kept]) -> None:
        """The client will hear that nobody has the message, and try again with all: take it from those who have it."""
        for item, place in kept:
            try:
                await self._store.expunge(item.account, place.key, UidSet.of(place.uids), 0, mine=0)
                log.event("delivery.taken_back", "warning", account=item.account.address, uid=place.uids[0])
            except (MailError, OSError) as error:
                log.event("delivery.half", "error", account=item.account.address, uid=place.uids[0], error=repr(error))

    def _refuse(self, plan: Plan, at: int, error: BaseException) -> None:
        """An item could not be stored."""
        outcome = failure(plan.number, error)
        for position in plan.owners[at]:
            plan.outcomes[position] = outcome


def failure(number: str, error: BaseException) -> Outcome:
    """Log why message ``number`` cannot be stored for a recipient, and return the recipient's outcome."""
    log.event("delivery.failed", "warning", id=number, error=repr(error))
    if isinstance(error, StorageFull):
        count("delivery.full")
        return Outcome(452, "4.3.1", "not enough storage, try again later")
    if isinstance(error, OverQuota):
        count("delivery.quota")
        return Outcome(552, "5.2.2", "mailbox is full")
    count("delivery.failed")
    if isinstance(error, ClientError):
        return Outcome(451, "4.2.0", "mailbox is not available")
    return Outcome(451, "4.3.0", "local error, try again later")
