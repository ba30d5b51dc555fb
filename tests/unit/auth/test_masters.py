"""Master users: who may act for whom, in which protocol, and that it is in the audit log before anything is opened."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from fastmail.auth import sasl
from fastmail.auth.login import Denied, Failed, Login, NotNow
from fastmail.auth.verifier import Entry, Masters, Verifier
from fastmail.directory import apps
from fastmail.directory.access import APP_NEEDED
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import HELPDESK, OF_DOMAINS, SERVER, AppPassword, Passkey, Totp
from fastmail.directory.standing import GONE, MASTER, OFF
from fastmail.model.errors import StorageFailed
from fastmail.model.limits import Limits

ALL = Masters()
MASTER_USER, USER, FAR, CHIEF = "master@d.test", "user@d.test", "user@e.test", "chief@d.test"


class Peer:
    """The channel and the peer."""

    host = "192.0.2.1"
    end_point = b""
    certified: Sequence[str] = ()
    blamed = 0.0

    def blame(self, points: float, why: str) -> None:
        self.blamed += points


def directory_of(role: str = SERVER, *administers: str) -> MemoryDirectory:
    place = MemoryDirectory()
    for name in ("d.test", "e.test"):
        place.add_domain(name)
    place.add_accounts([(one, "{PLAIN}own") for one in (MASTER_USER, USER, FAR, CHIEF)])
    place.change_account(
        MASTER_USER, lambda old: replace(old, role=role, administers=administers, password="{PLAIN}key")
    )
    return place


async def enter(verifier: Verifier, whom: str, password: str = "key", protocol: str = "imap") -> object:
    peer = Peer()
    login = Login(verifier, Limits(auth_failure_delay=0.0), protocol, peer, peer)
    assert login.begin(b"PLAIN")
    claim = login.answer(b64encode(f"{whom}\0{MASTER_USER}\0{password}".encode()))
    assert not isinstance(claim, bytes)
    return await login.attempt(claim)


def verifier_of(place: MemoryDirectory, masters: Masters | None = ALL) -> Verifier:
    return Verifier(place, 1, default_domain="d.test", masters=masters)


@pytest.mark.parametrize("whom", [USER, "USER@D.test", "user", FAR])
def test_a_master_user_of_the_server_opens_any_account(whom: str) -> None:
    async def main() -> None:
        place = directory_of()
        verifier = verifier_of(place)
        found = await enter(verifier, whom)
        assert isinstance(found, Entry)
        address = FAR if whom == FAR else USER
        assert found.record.address == address and found.login.address == MASTER_USER
        assert verifier.ended(found.login) == ""
        (row,) = [one for one in place.audit() if one.what == "login as"]
        assert (row.who, row.name, row.text) == (MASTER_USER, address, "by imap from 192.0.2.1")
        verifier.close()
        assert place.used(found.record.id) == {}, "its user did not log in"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("role", "administers", "whom"),
    [
        (SERVER, (), CHIEF),
        (SERVER, (), "admin@d.test"),
        (SERVER, (), "nobody@d.test"),
        (SERVER, (), "off@d.test"),
        (OF_DOMAINS, ("d.test",), FAR),
        (OF_DOMAINS, (), USER),
        (HELPDESK, ("d.test",), USER),
        ("", ("d.test",), USER),
    ],
)
def test_those_that_it_may_not_open_all_sound_the_same(role: str, administers: tuple[str, ...], whom: str) -> None:
    async def main() -> None:
        place = directory_of(role, *administers)
        place.add_accounts([("admin@d.test", "{PLAIN}own"), ("off@d.test", "{PLAIN}own")])
        place.change_account(CHIEF, lambda old: replace(old, role=HELPDESK))
        place.enable("off@d.test", False)
        verifier = verifier_of(place, Masters(frozenset(["admin@d.test"])))
        assert await enter(verifier, whom) == Denied("this login may not act for that account")
        assert isinstance(await enter(verifier, whom, "wrong"), Failed), "whoever is no master hears nothing"
        assert isinstance(await enter(verifier, MASTER_USER), Entry), "its own account"
        assert not [one for one in place.audit() if one.what == "login as"]
        verifier.close()

    asyncio.run(main())


def test_a_domains_administrator_opens_those_of_its_domains() -> None:
    async def main() -> None:
        place = directory_of(OF_DOMAINS, "e.test", "d.test")
        verifier = verifier_of(place)
        for whom in (USER, FAR):
            assert isinstance(await enter(verifier, whom, protocol="pop3"), Entry)
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize(("masters", "protocol"), [(None, "imap"), (Masters(), "submission")])
def test_it_is_only_where_the_configuration_says_and_never_to_send(masters: Masters | None, protocol: str) -> None:
    async def main() -> None:
        verifier = verifier_of(directory_of(), masters)
        with pytest.raises(sasl.SaslError, match="acting for another user is not allowed"):
            await enter(verifier, USER, protocol=protocol)
        verifier.close()

    asyncio.run(main())


def test_nothing_is_opened_that_cannot_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        place = directory_of()

        def full(*about: str) -> None:
            raise StorageFailed("no room")

        monkeypatch.setattr(place, "note_acting", full)
        verifier = verifier_of(place)
        assert isinstance(await enter(verifier, USER), NotNow)
        verifier.close()

    asyncio.run(main())


def test_its_sessions_end_with_the_role_and_with_either_account() -> None:
    async def main() -> None:
        place = directory_of()
        verifier = verifier_of(place)
        entry = await enter(verifier, USER)
        assert isinstance(entry, Entry)
        place.set_password(USER, "{PLAIN}new")
        place.change_account(USER, lambda old: replace(old, suspended="unpaid"))
        assert verifier.ended(entry.login) == "", "support may look at it"
        place.change_account(MASTER_USER, lambda old: replace(old, role=OF_DOMAINS, administers=("d.test",)))
        assert verifier.ended(entry.login) == ""
        before = place.revision
        place.change_account(MASTER_USER, lambda old: replace(old, administers=("e.test",)))
        assert verifier.ended(entry.login) == MASTER and place.revision > before
        place.change_account(MASTER_USER, lambda old: replace(old, administers=("d.test",)))
        place.enable(USER, False)
        assert verifier.ended(entry.login) == OFF
        place.remove_account(USER)
        assert verifier.ended(entry.login) == GONE
        verifier.close()

    asyncio.run(main())


# ---------------------------------------------------------------- user*master

STAR = Masters(separator="*")


async def typed(verifier: Verifier, login: str, password: str = "key", protocol: str = "imap") -> object:
    """By a name and a password, as LOGIN and USER have them."""
    peer = Peer()
    one = Login(verifier, Limits(auth_failure_delay=0.0), protocol, peer, peer)
    return await one.attempt(sasl.Credentials(login, password.encode()))


@pytest.mark.parametrize("login", [f"{USER}*{MASTER_USER}", "user*master", "USER*Master@D.test"])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_whom_and_who_may_be_in_the_name(login: str, protocol: str) -> None:
    async def main() -> None:
        place = directory_of()
        verifier = verifier_of(place, STAR)
        found = await typed(verifier, login, protocol=protocol)
        assert isinstance(found, Entry)
        assert found.record.address == USER and found.login.address == MASTER_USER
        (row,) = [one for one in place.audit() if one.what == "login as"]
        assert (row.who, row.name, row.text) == (MASTER_USER, USER, f"by {protocol} from 192.0.2.1")
        place.change_account(MASTER_USER, lambda old: replace(old, role=""))
        assert verifier.ended(found.login) == MASTER
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("login", "password", "wanted"),
    [
        (f"{CHIEF}*{MASTER_USER}", "key", Denied),
        (f"nobody@d.test*{MASTER_USER}", "key", Denied),
        (f"{USER}*{MASTER_USER}", "own", Failed),
        (f"{USER}*{USER}", "own", Entry),
        (f"{MASTER_USER}*{USER}", "own", Denied),
        (f"*{MASTER_USER}", "key", Failed),
        (f"{USER}*", "own", Failed),
        ("*", "key", Failed),
        (f"{USER}*{FAR}*{MASTER_USER}", "key", Failed),
        (USER, "own", Entry),
    ],
)
def test_the_rights_are_those_of_the_other_form(login: str, password: str, wanted: type) -> None:
    async def main() -> None:
        place = directory_of()
        place.change_account(CHIEF, lambda old: replace(old, role=HELPDESK))
        verifier = verifier_of(place, STAR)
        assert isinstance(await typed(verifier, login, password), wanted)
        assert not [one for one in place.audit() if one.what == "login as"]
        verifier.close()

    asyncio.run(main())


def test_plain_has_it_too_but_not_twice() -> None:
    async def main() -> None:
        verifier = verifier_of(directory_of(), STAR)
        for given, wanted in (("", Entry), (USER, Failed)):
            peer = Peer()
            login = Login(verifier, Limits(auth_failure_delay=0.0), "imap", peer, peer)
            assert login.begin(b"PLAIN")
            claim = login.answer(b64encode(f"{given}\0{USER}*{MASTER_USER}\0key".encode()))
            assert not isinstance(claim, bytes) and isinstance(await login.attempt(claim), wanted)
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("masters", "protocol"),
    [(None, "imap"), (Masters(), "imap"), (STAR, "submission"), (Masters(separator="%"), "imap")],
)
def test_names_are_taken_apart_only_where_that_is_allowed(masters: Masters | None, protocol: str) -> None:
    async def main() -> None:
        place = directory_of()
        verifier = verifier_of(place, masters)
        assert isinstance(await typed(verifier, f"{USER}*{MASTER_USER}", protocol=protocol), Failed)
        verifier.close()

    asyncio.run(main())


def test_a_wrong_password_is_held_against_the_master() -> None:
    class Counted:
        failures: list[str] = []

        def admit(self, host: str) -> None: ...
        async def wait(self, login: str, host: str) -> None: ...
        def failed(self, login: str) -> None:
            self.failures.append(login)

        def succeeded(self, login: str, host: str) -> None: ...

    async def main() -> None:
        verifier = verifier_of(directory_of(), STAR)
        verifier.guesses = counted = Counted()  # type: ignore[assignment]
        assert isinstance(await typed(verifier, f"{USER}*{MASTER_USER}", "wrong"), Failed)
        assert counted.failures == [MASTER_USER]
        verifier.close()

    asyncio.run(main())


# ---------------------------------------------------------------- second factors


@pytest.mark.parametrize("factor", ["codes", "passkey"])
def test_with_a_second_factor_the_password_alone_opens_no_mailbox(factor: str) -> None:
    async def main() -> None:
        place = directory_of()
        verifier = verifier_of(place)
        entry = await enter(verifier, USER)
        assert isinstance(entry, Entry)
        if factor == "codes":
            place.change_totp(MASTER_USER, "enable", lambda old: Totp(b"secret"))
            assert isinstance(await enter(verifier, USER), Entry), "it is not confirmed yet"
            place.change_totp(MASTER_USER, "confirm", lambda old: Totp(b"secret", confirmed=1))
        else:
            place.add_passkey(MASTER_USER, Passkey(b"id", b"key", "ring"))
        assert verifier.ended(entry.login), "a session that began with the password alone"
        for protocol in ("imap", "pop3"):
            assert await enter(verifier, USER, protocol=protocol) == Denied(APP_NEEDED)
        assert isinstance(await enter(verifier, USER, "wrong"), Failed)
        app = apps.make()
        place.add_app_password(MASTER_USER, AppPassword(apps.digest(app.encode()), "archive"))
        assert isinstance(await enter(verifier, USER, app), Entry)
        assert isinstance(await typed(verifier, USER, "own"), Entry), "others are not concerned"
        verifier.close()

    asyncio.run(main())
