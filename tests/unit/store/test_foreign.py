"""Files of other servers: what is written is read again."""

from fastmail.store.interface import Account
from fastmail.store.local import foreign

USER = "user@example.test"


def test_subscription_files() -> None:
    names = ["INBOX", "Work/2026", "Entwürfe", "a & b"]
    account = Account(1, USER)
    data = foreign.subscription_file(account, names)
    assert data.startswith(b"V\t2\n\n") and b"Work\t2026\n" in data
    assert sorted(foreign.parse_subscriptions(account, data)) == sorted(names)
    assert foreign.parse_subscriptions(account, b"INBOX\nWork.2026\n../x\n\n") == ["INBOX", "Work/2026"]


def test_a_uidlist_that_was_written_is_read_again() -> None:
    kept = [foreign.Kept(1, b"a"), foreign.Kept(7, b"b,S=1", 3, b"UID7-1"), foreign.Kept(9, b"c", 0, b"c")]
    again = foreign.parse_uidlist(foreign.uidlist(5, 10, b"0" * 32, kept))
    assert again is not None and (again.uidvalidity, again.uidnext) == (5, 10)
    assert again.uids == {b"a": 1, b"b,S=1": 7, b"c": 9}
    assert again.pop3 == {b"b,S=1": (3, b"UID7-1"), b"c": (0, b"c")}
