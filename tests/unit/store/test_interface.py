"""The store interface stays one that a backend can be written for: few methods, and nothing of where mail lies."""

import inspect

from fastmail.store import interface
from fastmail.store.interface import Account, Holds, Mailbox, Snapshot, Store
from fastmail.store.local.store import LocalStore
from fastmail.store.memory.store import MemoryStore

MOST = 25


def methods(protocol: type) -> list[str]:
    return [name for name, one in vars(protocol).items() if inspect.isfunction(one) and not name.startswith("_")]


def test_no_port_is_wide() -> None:
    for protocol in (Store, Snapshot, Holds):
        assert 0 < len(methods(protocol)) <= MOST, (protocol, methods(protocol))


def test_every_backend_has_all_of_it() -> None:
    for backend in (MemoryStore, LocalStore):
        assert [name for name in methods(Store) if not callable(getattr(backend, name, None))] == []


def test_no_path_and_no_layout_is_in_its_nouns() -> None:
    names = {name for noun in (Account, Mailbox) for name in noun.__annotations__}
    assert not names & {"root", "control", "indexes", "layout", "utf8", "generation", "settled", "recovered"}
    assert "os.path" not in inspect.getsource(interface)
