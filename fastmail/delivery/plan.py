"""The plan of a message: which deliveries it takes, and which recipients have their outcome already."""

from msgspec import Struct

from fastmail.delivery.envelope import Outcome
from fastmail.message.header import Octets
from fastmail.store.interface import Delivery


class Plan(Struct):
    """A message and its deliveries; ``owners``: for each of ``items``, the positions of its recipients; ``mailboxes``:
    where it goes in each account, by the account's number; ``refused``: some recipients had their outcome already when
    it was made."""

    number: str
    traced: bool
    content: Octets
    summary: bytes
    size: int
    outcomes: list[Outcome]
    items: list[Delivery] = []
    owners: list[list[int]] = []
    mailboxes: dict[int, str] = {}
    refused: bool = False

    def refuse(self, position: int, outcome: Outcome) -> None:
        """This recipient cannot have the message."""
        self.outcomes[position] = outcome
        self.refused = True


def to_be_tried_again(plan: Plan) -> set[int]:
    """Return the positions of the recipients that will be tried again."""
    return {position for position, outcome in enumerate(plan.outcomes) if outcome.code // 100 == 4}


def leave_whole(plan: Plan) -> None:
    """A recipient that will be tried again gets nothing now, or those behind its address who can have the message would
    have it twice."""
    again = to_be_tried_again(plan)
    if not again:
        return
    kept = [at for at, owners in enumerate(plan.owners) if not again.issuperset(owners)]
    if len(kept) < len(plan.items):
        plan.items, plan.owners = [plan.items[at] for at in kept], [plan.owners[at] for at in kept]
