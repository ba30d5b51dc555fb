"""What is said of an import: rows for people and scripts, and the findings of a plan.

Rows of one kind that were taken, or that have no equivalent, are counted; bad rows, differences and what was left out
are named. Nothing of a site is held here but counts and a few names of each kind.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Finding, Plan
from fastmail.migrate.sites import importing
from fastmail.migrate.sites.importing import Importer, Outcome

COUNTED = (importing.NEW, importing.SAME)
SHOWN = 3  # names of a kind that has no equivalent
MOST = 200  # bad rows, and rows that are taken in part, that a plan names
Row = dict[str, str | int]


@dataclass(slots=True)
class _Kind:
    """Rows of one kind."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    text: str = ""

    def add(self, one: Outcome) -> None:
        self.count += one.count
        self.text = one.text
        if one.name and len(self.names) <= SHOWN:
            self.names.append(one.name)

    @property
    def named(self) -> str:
        return ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")


def rows(outcomes: Iterable[Outcome], each: bool = False) -> Iterator[Row]:
    """A row for each outcome that has to be named, then one for each kind of the others. ``each``: all are named."""
    counted: dict[tuple[str, str], _Kind] = {}
    for one in outcomes:
        whole = one.state in (*COUNTED, importing.NOT_HERE)
        if whole:
            counted.setdefault((one.state, one.kind), _Kind()).add(one)
        if not whole or (each and one.state != importing.SAME and one.name):
            yield _row(one.state, one.kind, one.name, one.count, one.text)
    for state in importing.STATES:
        for (found, kind), many in counted.items():
            if found == state:
                yield _row(state, kind, many.named if state == importing.NOT_HERE else "", many.count, many.text)


def _row(state: str, kind: str, name: str, count: int, text: str) -> Row:
    return {"state": state, "kind": kind, "name": name, "count": count, "text": text}


def plan(importer: Importer, outcomes: Iterable[Outcome]) -> Plan:
    """Findings of an import that was tried on an empty directory."""
    out = Plan()
    left: dict[str, _Kind] = {}
    several: dict[tuple[str, str], int] = {}
    for one in outcomes:
        key = one.state, one.kind
        match one.state:
            case importing.NOT_HERE:
                left.setdefault(one.kind, _Kind()).add(one)
            case importing.ELSEWHERE:
                out.findings.append(Finding(one.kind, one.name, one.text, NOTICED))
            case importing.SKIPPED | importing.PART | importing.SAID:
                several[key] = several.get(key, 0) + 1
                if several[key] <= MOST:
                    state = BLOCKS if one.state == importing.SKIPPED else NOTICED
                    out.findings.append(Finding(one.kind, one.name, one.text, state))
    for (state, kind), count in several.items():
        if count > MOST:
            say = f"of {count} that are {state}: `fastmail migrate accounts` names all"
            out.findings.append(Finding(kind, f"{count - MOST} more", say, NOTICED))
    for kind, many in left.items():
        theirs = f"{many.count}: {many.named}" if many.names else str(many.count)
        out.findings.append(Finding(kind, theirs, many.text, MISSING))
    taken = [(kind, count) for (state, kind), count in importer.counts.items() if state == importing.NEW]
    out.findings[:0] = [
        Finding(f"{kind}s" if kind != "alias" else "aliases", str(count), "taken", SAME) for kind, count in taken
    ]
    return out
