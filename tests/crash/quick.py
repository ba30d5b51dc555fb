"""``fastmail`` with a small journal and a keeper in a hurry: what takes an hour elsewhere is seen within seconds.

``python -m tests.crash.quick serve -c fastmail.toml`` runs any command so; ``hurry`` does it within a process. Slots are
small, so that they are switched often; checkpoints are taken twice a second; recovery applies few records at a time;
what is done for mailboxes of thousands of messages only is done for those of a few.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fastmail.app import keeper
from fastmail.cli import main as cli
from fastmail.durable import env, journal, recovery
from fastmail.store.local.maildir import follow

LEAST, MOST = 64 << 10, 256 << 10
VALUES = (
    (journal, "LEAST", LEAST),
    (journal, "MOST", MOST),
    (journal.next_size, "__defaults__", (LEAST,)),
    (env.Journaled.__init__, "__defaults__", (None, LEAST)),
    (keeper, "LOOK", 0.05),
    (keeper, "SECONDS", 0.4),
    (keeper, "OCTETS", 128 << 10),
    (recovery, "OCTETS", 1 << 16),
    (follow, "LARGE", 10),
    (follow, "LEAST", 5),
)


@contextmanager
def hurry() -> Iterator[None]:
    """The small values, as long as it lasts."""
    before = [(where, name, getattr(where, name)) for where, name, _ in VALUES]
    for where, name, value in VALUES:
        setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


def main() -> None:
    with hurry():
        cli.main()


if __name__ == "__main__":
    main()
