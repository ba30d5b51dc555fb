"""What all POP3 sessions of a worker share (RFC 1939)."""

from collections.abc import Callable
from dataclasses import dataclass

from fastmail.auth.verifier import Verifier
from fastmail.directory.interface import AccountRecord
from fastmail.model.limits import Limits
from fastmail.store.interface import Account, Store


@dataclass(slots=True)
class Service:
    """``plaintext``: a password may come without TLS (auth.login.allowed)."""

    hostname: str
    limits: Limits
    store: Store
    verifier: Verifier
    account: Callable[[AccountRecord], Account]
    plaintext: bool | str = False
