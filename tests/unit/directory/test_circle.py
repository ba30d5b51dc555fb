"""lookup.circle: the way by which mail comes back to where it was sent from."""

from collections.abc import Iterator

from fastmail.directory import lookup
from fastmail.directory.records import Account, Alias, Domain, List, Member


class Rows:
    """A domain with these aliases."""

    def __init__(self, targets: dict[str, list[str]]) -> None:
        self.targets = targets

    def domain(self, name: str) -> Domain | None:
        return Domain("d.test") if name == "d.test" else None

    def account(self, address: str) -> Account | None:
        return None

    def alias(self, address: str) -> Alias | None:
        return Alias(address, tuple(self.targets[address])) if address in self.targets else None

    def mailing_list(self, address: str) -> List | None:
        return None

    def each_member(self, of: str, after: str = "") -> Iterator[Member]:
        return iter(())


def test_a_circle_is_found_behind_a_long_way_to_the_same_row() -> None:
    """And however long it is. A search that gave up on the long way took its last rows for looked at."""
    chain = {f"n{n}@d.test": [f"n{n + 1}@d.test"] for n in range(2000)}
    rows = Rows({**chain, "n2000@d.test": ["x@d.test"], "x@d.test": []})
    long = [f"n{n}@d.test" for n in range(2001)]
    assert lookup.circle(rows, "x@d.test", ["n0@d.test"]) == ["x@d.test", *long, "x@d.test"]
    for targets in (["n0@d.test", "n1999@d.test"], ["n1999@d.test", "n0@d.test"]):
        assert lookup.circle(rows, "x@d.test", targets) == ["x@d.test", *long[1999:], "x@d.test"]
    assert lookup.circle(rows, "x@d.test", ["far@far.test", "nobody@d.test"]) == []
    assert lookup.circle(rows, "y@d.test", ["n0@d.test"]) == []
    ring = Rows({"a@d.test": ["b@d.test"], "b@d.test": ["c@d.test", "b@d.test"], "c@d.test": ["a@d.test"]})
    assert lookup.circle(ring, "y@d.test", ["a@d.test"]) == []  # it ends, too
