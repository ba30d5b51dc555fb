"""What every directory does with accounts that are made, grouped and renamed: the suite of test_directory, continued."""

import pytest
from msgspec.structs import replace

from fastmail.directory import fields, requests
from fastmail.directory.errors import DirectoryError
from fastmail.directory.following import Following
from fastmail.directory.records import Domain
from tests.contract.test_directory import place

__all__ = ["place"]


def test_a_new_account_has_its_fields_at_once_or_is_not_there(place: Following) -> None:
    place.change_domain("d.test", lambda old: replace(old, most_storage=100))
    before = place.accounts(), list(place.audit()), place.counts("d.test")
    request = {"do": "account.add", "name": "n@d.test", "fields": {"hash": "{PLAIN}x", "quota_storage": 200}}
    with pytest.raises(DirectoryError, match="100 octets at most"):
        requests.perform(place, request, lambda text: ("", ""))
    with pytest.raises(DirectoryError, match="lead to itself"):
        requests.perform(
            place, {**request, "fields": {"hash": "{PLAIN}x", "forward": "n@d.test"}}, lambda text: ("", "")
        )
    assert (place.accounts(), list(place.audit()), place.counts("d.test")) == before
    request["fields"] = {"hash": "{PLAIN}x", "quota_storage": 50, "name": "N", "role": "helpdesk"}
    requests.perform(place, request, lambda text: ("", ""))
    n = place.account("n@d.test")
    assert n is not None and (n.id, n.quota.octets, n.name, n.role, n.password) == (3, 50, "N", "helpdesk", "{PLAIN}x")
    (row,) = [one for one in place.audit() if one.name == "n@d.test"]
    assert row.what == "account add" and "quota: 0,0,0 -> 50,0,0" in row.text and "{PLAIN}" not in row.text


def test_limits_of_sending_go_out_and_come_back(place: Following) -> None:
    given = {"message_size": "2 MiB", "recipients_per_hour": "50", "messages_per_hour": 10}
    a = place.change_account("a@d.test", lambda old: fields.changed(old, fields.read("account", given)))
    assert (a.message_size, a.recipients_per_hour, a.messages_per_hour) == (2 << 20, 50, 10)
    d: Domain = place.change_domain("d.test", lambda old: fields.changed(old, fields.read("domain", given)))
    assert (d.message_size, d.recipients_per_hour, d.messages_per_hour) == (2 << 20, 50, 10)
