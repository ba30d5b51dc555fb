"""In which order what leads to other addresses can be made, and what leads nowhere.

An alias or a forward may only lead to what is there. Those whose targets come later in the stream wait. At its end they
are taken in the order of a topological sort (Kahn's): each when what it waits for was taken; of a circle the first one
loses the targets that close it. That is linear in the number of targets that wait.
"""

from collections import deque
from collections.abc import Iterator

from fastmail.directory.lookup import OWNER, Planned, Roads, at_home, circle, landing
from fastmail.directory.records import Account, Alias
from fastmail.migrate.sites.asked import ACCOUNT, LIST, Asked
from fastmail.model.address import comparable, without_detail

ARROW = " -> "


def wrong(place: Roads, one: Asked, target: str) -> tuple[str, bool]:
    """(why the address cannot lead to this target, whether only because nothing is there); empty where it can."""
    found = landing(place, comparable(target))
    if found is None or found.refusal:
        return "", False
    if not found.name:
        return f"{target}: an address of this server, and not there: left out", True
    if one.kind == LIST and found.mailing_list is not None and found.part != OWNER:
        return f"{target}: a mailing list is no member of another one: left out", False
    if one.kind == ACCOUNT:
        planned = Planned(place, one.name, account=Account(0, one.name, ""), alias=place.alias(one.name))
    else:
        planned = Planned(place, one.name, place.account(one.name), Alias(one.name, (target,)))
    way = circle(planned, comparable(one.name), [target])
    return (f"{target}: leads back to it, {ARROW.join(way)}: left out", False) if way else ("", False)


class Waiting:
    """What waits for targets, by its address in the form for comparing."""

    def __init__(self, place: Roads) -> None:
        self._place = place
        self._all: dict[str, Asked] = {}

    def add(self, one: Asked) -> None:
        self._all[comparable(one.name)] = one

    def __contains__(self, one: Asked) -> bool:
        return comparable(one.name) in self._all

    def _needs(self, target: str) -> str:
        """Which one that waits would take mail for the target; empty for none."""
        whole = at_home(self._place, target)
        local, _, domain = whole.rpartition("@")
        row = self._place.domain(domain)
        base = without_detail(local, row.separators) if row is not None else local
        return next((name for name in (whole, f"{base}@{domain}", f"@{domain}") if name in self._all), "")

    def waits(self, target: str) -> bool:
        """Would somebody who still waits take mail for the target?"""
        return bool(self._needs(target))

    def in_order(self) -> Iterator[Asked]:
        """All of them; whoever takes one has made it, or said why not, before the next is given."""
        needs: dict[str, set[str]] = {}
        after: dict[str, list[str]] = {}
        for name, one in self._all.items():
            needs[name] = {found for target in one.links if (found := self._needs(target)) and found != name}
            for other in needs[name]:
                after.setdefault(other, []).append(name)
        ready = deque(name for name, others in needs.items() if not others)
        rest = iter(list(needs))
        while True:
            if not ready:  # what is left goes in circles: begin with any of them
                name = next((one for one in rest if one in needs), "")
                if not name:
                    break
                ready.append(name)
            name = ready.popleft()
            if needs.pop(name, None) is None:
                continue
            yield self._all.pop(name)
            for other in after.pop(name, ()):
                if other in needs:
                    needs[other].discard(name)
                    if not needs[other]:
                        ready.append(other)
