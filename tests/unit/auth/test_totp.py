"""One-time codes: which count, how often, and what guesses cost."""

import base64
import urllib.parse
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from fastmail.auth import totp
from fastmail.auth.totp import FREE, LONGEST_WAIT, STEP, WAIT, Outcome
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import SERVER, Totp

NOW = 1_800_000_000
# RFC 6238 appendix B, SHA-1: the last six of the eight digits
SECRET = b"12345678901234567890"
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}
WHO = "boss@d.test"


def code(row: Totp, at: int) -> str:
    """By the definition: RFC 4226 5.3 over the number of the step."""
    import hashlib
    import hmac

    found = hmac.digest(row.secret, (at // STEP).to_bytes(8, "big"), hashlib.sha1)
    start = found[-1] & 15
    return f"{(int.from_bytes(found[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


@pytest.mark.parametrize("at", VECTORS)
def test_codes_are_those_of_the_rfc(at: int) -> None:
    row = Totp(SECRET, confirmed=1)
    assert code(row, at) == VECTORS[at]
    new, outcome = totp.check(row, VECTORS[at], at)
    assert outcome is Outcome.RIGHT and new.step == at // STEP


@pytest.mark.parametrize(
    ("off", "outcome"),
    [(-2, Outcome.WRONG), (-1, Outcome.RIGHT), (0, Outcome.RIGHT), (1, Outcome.RIGHT), (2, Outcome.WRONG)],
)
def test_a_clock_may_be_one_step_off(off: int, outcome: Outcome) -> None:
    row = Totp(SECRET, confirmed=1)
    assert totp.check(row, code(row, NOW + off * STEP), NOW)[1] is outcome


def test_a_code_counts_once_and_none_before_it() -> None:
    row = Totp(SECRET, confirmed=1)
    now, before = code(row, NOW), code(row, NOW - STEP)
    used, outcome = totp.check(row, now, NOW)
    assert outcome is Outcome.RIGHT
    for one in (now, before):
        assert totp.check(used, one, NOW)[1] is Outcome.WRONG
    assert totp.check(used, code(row, NOW + STEP), NOW + STEP)[1] is Outcome.RIGHT


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "\ud800" * 6, "x" * 10_000])
def test_what_is_no_code_is_wrong(typed: str) -> None:
    assert totp.check(Totp(SECRET, confirmed=1), typed, NOW)[1] is Outcome.WRONG


def test_blanks_in_a_code_do_not_count() -> None:
    row = Totp(SECRET, confirmed=1)
    found = code(row, NOW)
    assert totp.check(row, f" {found[:3]} {found[3:]} ", NOW)[1] is Outcome.RIGHT


def test_guesses_cost_time() -> None:
    row = Totp(SECRET, confirmed=1)
    at, looks = NOW, 0
    for _ in range(2000):  # somebody who tries once a second
        at += 1
        row, outcome = totp.check(row, "no code", at)
        looks += outcome is Outcome.WRONG
    assert looks <= FREE + 7 and row.until > at - 1
    assert totp.check(row, code(row, at), at)[1] is Outcome.WAITING, "nor does a right one count meanwhile"
    for _ in range(10):
        row, outcome = totp.check(row, "no code", row.until)
        assert outcome is Outcome.WRONG
    assert row.until - at <= 20 * LONGEST_WAIT
    before = row.until
    row, outcome = totp.check(row, code(row, before), before)
    assert outcome is Outcome.RIGHT and (row.failed, row.until) == (0, 0)


def test_the_first_wait_is_short() -> None:
    row = Totp(SECRET, confirmed=1)
    waits = []
    for _ in range(FREE + 2):
        row, _ = totp.check(row, "no code", max(NOW, row.until))
        waits.append(max(0, row.until - NOW))
    assert waits[: FREE - 1] == [0] * (FREE - 1) and waits[FREE - 1] == WAIT


@pytest.fixture
def place() -> Iterator[MemoryDirectory]:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([(WHO, "{PLAIN}x")])
    made.change_account(WHO, lambda old: replace(old, role=SERVER))
    yield made
    made.close()


def enabled(place: MemoryDirectory) -> tuple[Totp, list[str]]:
    row = totp.make(NOW)
    place.change_totp(WHO, "enable", lambda old: row)
    recovery = totp.recovery_codes()
    new = place.change_totp(WHO, "confirm", lambda old: totp.confirm(old, code(row, NOW), NOW, recovery))
    assert new is not None
    return new, recovery


def test_codes_count_once_a_first_one_was_shown(place: MemoryDirectory) -> None:
    row = totp.make(NOW)
    place.change_totp(WHO, "enable", lambda old: row)
    with pytest.raises(NoSuchUser):
        totp.verify(place, 1, WHO, code(row, NOW), NOW)
    with pytest.raises(DirectoryError, match="the code is not right"):
        place.change_totp(WHO, "confirm", lambda old: totp.confirm(old, "000000", NOW, []))
    assert not place.has_second_factor(1)
    place.change_totp(WHO, "confirm", lambda old: totp.confirm(old, code(row, NOW), NOW, []))
    assert place.has_second_factor(1)
    assert totp.verify(place, 1, WHO, code(row, NOW), NOW) is Outcome.WRONG, "it was shown when they were confirmed"
    assert totp.verify(place, 1, WHO, code(row, NOW + STEP), NOW + STEP) is Outcome.RIGHT
    with pytest.raises(DirectoryError, match="confirmed already"):
        place.change_totp(WHO, "confirm", lambda old: totp.confirm(old, code(row, NOW), NOW, []))


def test_a_recovery_code_counts_once(place: MemoryDirectory) -> None:
    row, recovery = enabled(place)
    assert len(set(recovery)) == 10 and all(len(one) == 19 for one in recovery)
    assert not any(one.encode() in part for one in recovery for part in row.recovery)
    typed = recovery[3].upper().replace("-", " ")
    assert totp.verify(place, 1, WHO, typed, NOW) is Outcome.RECOVERED
    assert totp.verify(place, 1, WHO, typed, NOW) is Outcome.WRONG
    assert totp.verify(place, 1, WHO, recovery[4], NOW) is Outcome.RECOVERED
    left = place.totp(1)
    assert left is not None and len(left.recovery) == 8


def test_a_wrong_code_is_written_down(place: MemoryDirectory) -> None:
    enabled(place)
    for _ in range(FREE):
        assert totp.verify(place, 1, WHO, "123", NOW) is Outcome.WRONG
    row = place.totp(1)
    assert row is not None and row.failed == FREE
    assert totp.verify(place, 1, WHO, "123", NOW) is Outcome.WAITING


def test_what_programs_read() -> None:
    row = totp.make(NOW)
    assert len(row.secret) == 20 and base64.b32decode(totp.shown(row)) == row.secret
    found = urllib.parse.urlsplit(totp.uri(row, WHO, "mx.d.test"))
    assert (found.scheme, found.netloc) == ("otpauth", "totp")
    assert urllib.parse.unquote(found.path) == f"/mx.d.test:{WHO}"
    assert urllib.parse.parse_qs(found.query) == {"secret": [totp.shown(row)], "issuer": ["mx.d.test"]}
