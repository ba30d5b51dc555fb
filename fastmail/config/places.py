"""What `[listen]` and `[web]` may not say together: an address is given to one protocol, and once.

The kernel would let two sockets of this server share a port, and hand each client to one of them by chance; of two Unix
sockets with one path, the second replaces the first.
"""

from collections.abc import Iterator
from dataclasses import fields

from fastmail.config.settings import Config


def faults(config: Config) -> Iterator[tuple[str, str, str]]:
    """(section, key, what is wrong) of each place that is named a second time."""
    taken: dict[str, str] = {}
    protocols = [one.name for one in fields(config.listen) if one.metadata["kind"] == "places"]
    listens = [("listen", name, getattr(config.listen, name)) for name in protocols]
    for section, key, places in [*listens, ("web", "listen", config.web.listen)]:
        name = key if section == "listen" else f"[{section}] {key}"
        for place in places:
            if place in taken:
                yield section, key, f"{name}: {place!r} is named already, by {taken[place]}"
            taken.setdefault(place, name)
