"""Sessions without sockets: a connection that records what is written, over a store in memory."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from fastmail.app.homes import Homes
from fastmail.auth.verifier import Verifier
from fastmail.delivery.deliver import Deliverer
from fastmail.directory.errors import NoSuchUser
from fastmail.directory.interface import AccountRecord
from fastmail.directory.lookup import Destinations, belongs, find
from fastmail.directory.records import Alias, AppPassword, Domain, List, Member
from fastmail.imap import session as imap
from fastmail.imap import urlauth
from fastmail.imap.service import Service as ImapService
from fastmail.model.limits import Limits
from fastmail.model.quota import Quota
from fastmail.net.connection import Connection
from fastmail.net.unread import Unread
from fastmail.pop3.service import Service as Pop3Service
from fastmail.pop3.session import Pop3Session
from fastmail.smtp.service import service as smtp_service
from fastmail.smtp.session import SmtpSession
from fastmail.store.interface import Store
from fastmail.store.local.store import LocalStore
from fastmail.store.memory.store import MemoryStore

USER = "user@example.test"


class FakeDirectory:
    """Accounts user and other, alias team to both, catch-all domain any.test."""

    def __init__(self) -> None:
        self.accounts = {
            name: AccountRecord(n, name, "{PLAIN}secret") for n, name in enumerate([USER, "other@example.test"], 1)
        }
        self.aliases = {
            "team@example.test": list(self.accounts),
            "@any.test": [USER],
            "loop@example.test": ["loop@example.test"],
        }
        self.domains: dict[str, Domain] = {}  # those that are more than a name
        self.used: list[tuple[int, bytes, str, int]] = []
        self.acted: list[tuple[str, str, str, str]] = []
        self.groups: dict[int, frozenset[str]] = {}

    revision = 0

    def is_uncertain(self, domain: str) -> bool:
        return False

    def source_of(self, domain: str) -> str:
        return ""

    def is_followed(self, domain: str) -> bool:
        return False

    def has_second_factor(self, number: int) -> bool:
        return False

    def revoked(self, number: int) -> int:
        return 0

    live = None

    async def freshen(self, address: str) -> str:
        return address

    def account(self, address: str) -> AccountRecord | None:
        return self.accounts.get(address)

    def account_by_id(self, number: int) -> AccountRecord | None:
        return next((a for a in self.accounts.values() if a.id == number), None)

    def each_account(self, domain: str = "", after: str = "") -> Iterator[AccountRecord]:
        yield from (one for one in self.accounts.values() if one.address.endswith("@" + domain))

    def groups_of(self, number: int) -> frozenset[str]:
        return self.groups.get(number, frozenset())

    def alias(self, address: str) -> Alias | None:
        found = self.aliases.get(address)
        return Alias(address, tuple(found)) if found is not None else None

    def domain(self, name: str) -> Domain | None:
        return self.domains.get(name) or (Domain(name) if self.is_local(name) else None)

    def is_local(self, domain: str) -> bool:
        return domain in ("example.test", "any.test", "mx.example.test")

    def destinations(self, address: str) -> Destinations:
        return find(self, address)

    def resolve(self, address: str) -> list[AccountRecord]:
        return find(self, address).accounts

    def quota(self, account: AccountRecord) -> Quota:
        return account.quota

    def app_password(self, number: int, digest: bytes) -> AppPassword | None:
        return None

    def note_used(self, logins: Iterable[tuple[int, bytes, str, int]]) -> None:
        self.used += logins

    def note_acting(self, master: str, address: str, protocol: str, host: str) -> None:
        self.acted.append((master, address, protocol, host))

    def set_quota(self, address: str, quota: Quota) -> None:
        self.accounts[address] = replace(self.accounts[address], quota=quota)

    def upgrade_password(self, record: AccountRecord, password: str, scram: str) -> bool:
        if self.accounts[record.address].password != record.password:
            return False
        self.accounts[record.address] = replace(record, password=password, scram=scram)
        return True

    def may_send_as(self, account: AccountRecord, address: str) -> bool:
        return belongs(self, account, address)

    # it has no mailing lists

    def mailing_list(self, address: str) -> List | None:
        return None

    def member(self, of: str, address: str) -> Member | None:
        return None

    def each_member(self, of: str, after: str = "") -> Iterator[Member]:
        return iter(())

    def put_members(self, of: str, members: Iterable[Member], again: bool = False) -> int:
        raise NoSuchUser(of)

    def change_member(self, of: str, address: str, change: Callable[[Member], Member]) -> Member:
        raise NoSuchUser(of)

    def remove_member(self, of: str, address: str) -> None:
        raise NoSuchUser(of)

    def note_bounce(self, of: str, address: str, now: int) -> tuple[Member, bool] | None:
        return None

    def was_posted(self, of: str, digest: bytes, now: int) -> bool:
        return False

    def note_post(self, of: str, digest: bytes, now: int) -> None:
        raise NoSuchUser(of)

    def srs_keys(self) -> list[tuple[int, bytes]]:
        return [(0, b"k" * 32)]

    def renew_srs_keys(self, now: int) -> None:
        pass

    def link_keys(self) -> list[tuple[int, bytes]]:
        return [(0, b"k" * 32)]

    def renew_link_keys(self, now: int) -> None:
        pass


class FakeTransport:
    """Collects what a connection writes; the peer is ``host``."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.data = b""
        self.closed = False
        self.host = host

    def get_extra_info(self, name: str) -> Any:
        return (self.host, 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.data += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class FakeListener:
    """What a Connection asks of its listener."""

    def __init__(self, make: Any, limits: Limits) -> None:
        self.buffer = memoryview(bytearray(262144))
        self.limits = limits
        self.unread = Unread()
        self.implicit_tls = False
        self.tls: Any = None
        self.loop = asyncio.get_running_loop()
        self.new_session = make

    def speaks_proxy(self, host: str) -> bool:
        return False

    def hand_over(self, transport: Any) -> bool:
        return False

    def admit(self, connection: Connection, balancer: bool = False) -> bytes:
        return b""

    def blame(self, host: str, points: float, why: str) -> None:
        pass

    def release(self, connection: Connection) -> None:
        pass


class Bench:
    """A store, in memory unless another is given, and a way to open sessions on it."""

    def __init__(
        self, staging: str, store: Store | None = None, outbound: dict[str, Any] | None = None, **limits: Any
    ) -> None:
        self.limits = Limits(auth_failure_delay=0.0, **limits)
        self.directory = FakeDirectory()
        self.store: Store = store or MemoryStore()
        self.homes = Homes(self.directory, staging + "/mail/{domain}/{user}")
        if isinstance(self.store, LocalStore):
            self.store.account_paths.home = self.homes.home
        self.deliverer = Deliverer(self.directory, self.store, "mx.example.test", noted=self.homes.note)
        self.verifier = Verifier(self.directory, 1)
        shared: dict[str, Any] = {"hostname": "mx.example.test", "limits": self.limits, "verifier": self.verifier}
        mail = {"deliverer": self.deliverer, "staging": staging, "plaintext": True, **shared}
        box = {"store": self.store, "account": self.deliverer.account, "plaintext": True, **shared}
        self.imap = imap_service = ImapService(staging=staging, directory=self.directory, **box)
        pop3_service = Pop3Service(**box)
        self.makers: dict[str, Any] = {
            "imap": lambda c: imap.ImapSession(imap_service, c),
            "pop3": lambda c: Pop3Session(pop3_service, c),
        }

        async def resolve_url(record: AccountRecord, url: str) -> bytes:
            return await urlauth.submit(imap_service, self.deliverer.account(record), url)

        mail["resolve_url"] = resolve_url
        for kind in ("smtp", "submission", "lmtp"):
            service = smtp_service(kind, **{**mail, **(outbound or {})})
            self.makers[kind] = lambda c, service=service: SmtpSession(service, c)

    def open(self, protocol: str, host: str = "127.0.0.1") -> "Client":
        return Client(FakeListener(self.makers[protocol], self.limits), host)


class Client:
    """One end of a session in this process."""

    def __init__(self, listener: FakeListener, host: str = "127.0.0.1") -> None:
        self.listener = listener
        self.transport = FakeTransport(host)
        self.connection = Connection(listener)  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    async def settle(self) -> None:
        """Until no command runs."""
        for _ in range(100000):
            if not self.connection.busy:
                return
            await asyncio.sleep(0.0005 if self.connection.busy else 0)
        raise AssertionError("a command does not end")

    async def send(self, data: bytes, step: int = 0) -> bytes:
        """Feed octets (``step`` at a time, 0 for all at once) and return what came back by then."""
        start = len(self.transport.data)
        step = step or max(1, len(data))
        for i in range(0, len(data), step):
            part = data[i : i + step]
            while part:
                piece, part = part[:262144], part[262144:]
                self.listener.buffer[: len(piece)] = piece
                self.connection.buffer_updated(len(piece))
            if self.connection.busy and step > 1:
                await self.settle()
        await self.settle()
        return self.transport.data[start:]
