"""Second factors of who administers: one suite over the directory in memory and the one in LMDB."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.factors import passkey_key
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import HELPDESK, Passkey, Totp
from tests.support.directories import MAKERS

WHO = "boss@d.test"


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made = MAKERS[request.param](tmp_path)
    made.add_domain("d.test")
    made.add_accounts([(WHO, "{PLAIN}x"), ("user@d.test", "{PLAIN}y")])
    made.change_account(WHO, lambda old: replace(old, role=HELPDESK))
    yield made
    made.close()


def test_codes_come_and_go(place: Mailing) -> None:
    assert place.totp(1) is None and not place.has_second_factor(1)
    place.change_totp(WHO, "enable", lambda old: Totp(b"secret", made=5))
    assert place.totp(1) == Totp(b"secret", made=5) and not place.has_second_factor(1), "not before it is confirmed"
    before = place.revision
    place.change_totp(WHO, "confirm", lambda old: replace(old or Totp(b""), confirmed=6))
    assert place.has_second_factor(1) and place.revoked(1) > before, "logins of before end"
    assert place.use_totp(1, lambda old: replace(old, step=7)).step == 7
    found = place.totp(1)
    assert found is not None and found.step == 7
    place.rename_account(WHO, "chief@d.test")
    assert place.totp(1) == found
    place.change_totp("chief@d.test", "disable", lambda old: None)
    assert place.totp(1) is None and not place.has_second_factor(1)
    with pytest.raises(NoSuchUser, match="no one-time codes"):
        place.change_totp("chief@d.test", "disable", lambda old: None)
    with pytest.raises(NoSuchUser):
        place.use_totp(1, lambda old: old)


def test_only_who_administers_has_them(place: Mailing) -> None:
    tries: list[Callable[[], object]] = [
        lambda: place.change_totp("user@d.test", "enable", lambda old: Totp(b"x")),
        lambda: place.add_passkey("user@d.test", Passkey(b"id", b"key", "x")),
    ]
    for one in tries:
        with pytest.raises(DirectoryError, match=r"user@d.test administers nothing.*role=server"):
            one()
    with pytest.raises(NoSuchUser):
        place.change_totp("no@d.test", "enable", lambda old: Totp(b"x"))


def test_passkeys_come_and_go(place: Mailing) -> None:
    one, two = Passkey(b"id one", b"key", "ring", transports=("usb",), made=5), Passkey(b"id two", b"other", "phone")
    before = place.revision
    for each in (one, two):
        place.add_passkey(WHO, each)
    assert sorted(place.passkeys(1), key=lambda each: each.id) == [one, two] and place.revoked(1) == before + 1
    assert place.has_second_factor(1) and place.passkeys(2) == [] and not place.has_second_factor(2)
    with pytest.raises(DirectoryError, match="already"):
        place.add_passkey(WHO, one)
    assert place.use_passkey(1, one.id, lambda old: replace(old, sign_count=3)).sign_count == 3
    for number, credential in ((2, one.id), (1, b"id three")):
        with pytest.raises(NoSuchUser):
            place.use_passkey(number, credential, lambda old: old)
    with pytest.raises(ZeroDivisionError):
        place.use_passkey(1, two.id, lambda old: replace(old, sign_count=1 // 0))
    place.remove_passkey(WHO, one.id)
    assert place.passkeys(1) == [two]
    with pytest.raises(NoSuchUser, match="no such passkey"):
        place.remove_passkey(WHO, one.id)
    for number in range(19):
        place.add_passkey(WHO, Passkey(b"%d" % number, b"key", "x"))
    with pytest.raises(DirectoryError, match="has 20 passkeys"):
        place.add_passkey(WHO, Passkey(b"more", b"key", "x"))


def test_nothing_secret_is_in_the_audit_log(place: Mailing) -> None:
    place.change_totp(WHO, "enable", lambda old: Totp(b"VERYSECRET"))
    place.add_passkey(WHO, Passkey(b"id", b"PUBLICKEY", "ring"))
    place.remove_passkey(WHO, b"id")
    rows = [(one.what, one.name, one.text) for one in place.audit()][-3:]
    assert rows == [("totp enable", WHO, ""), ("passkey add", WHO, "ring"), ("passkey remove", WHO, "ring")]


def test_they_go_with_the_account(place: Mailing) -> None:
    place.change_totp(WHO, "enable", lambda old: Totp(b"x", confirmed=1))
    place.add_passkey(WHO, Passkey(b"id", b"key", "ring"))
    place.remove_account(WHO)
    assert place.totp(1) is None and place.passkeys(1) == [] and not place.has_second_factor(1)


def test_a_row_that_is_damaged_opens_nothing(place: Mailing) -> None:
    place.change_totp(WHO, "enable", lambda old: Totp(b"x", confirmed=1))
    with place._tables.write() as txn:
        txn.put("totp", (1).to_bytes(8, "big"), b"\x01damaged")
        txn.put("passkeys", passkey_key(1, b"id"), b"\x01damaged")
    assert place.has_second_factor(1) and place.passkeys(1) == []
    assert len([text for _, text in place.faults() if "damaged" in text]) == 2
    place.change_totp(WHO, "disable", lambda old: None)
    assert place.has_second_factor(1), "the passkey that cannot be read"
    place.remove_passkey(WHO, b"id")
    assert not place.has_second_factor(1) and place.faults() == []
