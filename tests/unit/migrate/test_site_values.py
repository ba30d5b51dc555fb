"""fastmail.migrate.sites.values and passwords: what databases give for the same thing, and passwords by their form."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.auth import schemes
from fastmail.directory import fields
from fastmail.migrate.sites import values
from fastmail.migrate.sites.passwords import stored


@pytest.mark.parametrize("value", [1, True, "1", "t", "TRUE", b"1", "yes", 2])
def test_yes(value: object) -> None:
    assert values.flag({"x": value}, "x", False)


@pytest.mark.parametrize("value", [0, False, "0", "f", "", b"0", "no"])
def test_no(value: object) -> None:
    assert not values.flag({"x": value}, "x")


def test_what_is_not_said_is_the_default() -> None:
    assert values.flag({"x": None}, "x") and values.flag({}, "x") and not values.flag({}, "x", False)
    assert values.text({"x": None}, "x") == values.text({}, "x") == "" and values.number({}, "x") == 0


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), ("5", 5), (b"-5", -5), (Decimal(7), 7), (2.9, 2), ("x", 0), ("9" * 30, 0), (1 << 60, 0), ("\u0665", 5)],
)
def test_numbers(value: object, number: int) -> None:
    assert values.number({"x": value}, "x") == number
    assert values.limit({"x": value}, "x") == max(0, number)


WHEN = int(datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (datetime(2026, 5, 1, 12), WHEN),
        (datetime(2026, 5, 1, 12, tzinfo=UTC), WHEN),
        (date(2026, 5, 1), WHEN - 12 * 3600),
        ("2026-05-01 12:00:00", WHEN),
        (WHEN, WHEN),
        ("0000-00-00 00:00:00", 0),
        ("9999-12-31 01:01:01", 0),
        (datetime(9999, 12, 31), 0),
        ("2038-01-18 00:00:00", 0),
        ("1970-01-01 00:00:00", 0),
        (None, 0),
        ("soon", 0),
    ],
)
def test_moments(value: object, moment: int) -> None:
    assert values.moment({"x": value}, "x") == moment


def test_lists_of_addresses() -> None:
    assert values.words(" a@x.test,\r\nA@X.test , b@x.test,,") == ("A@X.test", "b@x.test")


@given(st.text())
def test_texts_are_such_that_their_fields_take_them(text: str) -> None:
    assert fields.line(values.one_line(text)) == values.one_line(text)
    assert fields.text(values.lines(text)) == values.lines(text)


@pytest.mark.parametrize(
    ("value", "scheme", "kept"),
    [
        ("{BLF-CRYPT}$2y$05$x", "", "{BLF-CRYPT}$2y$05$x"),
        ("$2y$05$x", "", "{BLF-CRYPT}$2y$05$x"),
        ("$6$salt$x", "PLAIN", "{SHA512-CRYPT}$6$salt$x"),
        ("$5$salt$x", "", "{SHA256-CRYPT}$5$salt$x"),
        ("$1$salt$x", "", "{MD5-CRYPT}$1$salt$x"),
        ("$argon2id$v=19$x", "", "{ARGON2ID}$argon2id$v=19$x"),
        ("STcrUptnxfG4I", "", "{CRYPT}STcrUptnxfG4I"),
        ("0" * 32, "", "{PLAIN-MD5}" + "0" * 32),
        ("0" * 64, "", ""),
        ("0" * 64, "sha256", "{SHA256}" + "0" * 64),
        ("secret", "{PLAIN}", "{PLAIN}secret"),
        ("secret", "", ""),
        ("{MD5}XrY7u+Ae7tCTyyK7j1rNww==", "", "{LDAP-MD5}XrY7u+Ae7tCTyyK7j1rNww=="),
        ("{MD5}$1$salt$x", "", "{MD5}$1$salt$x"),
        ("{ODD}x", "", ""),
        ("x", "ODD", ""),
        ("", "PLAIN", ""),
        ("*", "", ""),
    ],
)
def test_passwords_by_their_form(value: str, scheme: str, kept: str) -> None:
    found, why = stored(value, scheme)
    assert found == kept and bool(why) == (not kept)
    assert not found or schemes.known(found)


def test_a_bare_digest_of_courier_is_checked() -> None:
    assert schemes.verify(stored("{MD5}XrY7u+Ae7tCTyyK7j1rNww==")[0], b"hello world")
