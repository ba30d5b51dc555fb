"""Files of other servers: what is written is read again."""

from fastmail.store.local.dovecot import control_files
from fastmail.store.local.maildir.home import Home


def test_subscription_files() -> None:
    names = ["INBOX", "Work/2026", "Entwürfe", "a & b"]
    home = Home("")
    data = control_files.subscription_file(home, names)
    assert data.startswith(b"V\t2\n\n") and b"Work\t2026\n" in data
    assert sorted(control_files.parse_subscriptions(home, data)) == sorted(names)
    assert control_files.parse_subscriptions(home, b"INBOX\nWork.2026\n../x\n\n") == ["INBOX", "Work/2026"]


def test_a_uidlist_that_was_written_is_read_again() -> None:
    kept = [
        control_files.Kept(1, b"a"),
        control_files.Kept(7, b"b,S=1", 3, b"UID7-1"),
        control_files.Kept(9, b"c", 0, b"c"),
    ]
    again = control_files.parse_uidlist(control_files.uidlist(5, 10, b"0" * 32, kept))
    assert again is not None and (again.uidvalidity, again.uidnext) == (5, 10)
    assert again.uids == {b"a": 1, b"b,S=1": 7, b"c": 9}
    assert again.pop3 == {b"b,S=1": (3, b"UID7-1"), b"c": (0, b"c")}
