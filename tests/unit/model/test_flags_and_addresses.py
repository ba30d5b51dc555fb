"""Flag letters, addresses."""

import pytest

from fastmail.model.address import Address, account_address, domain_name
from fastmail.model.errors import BadAddress
from fastmail.model.flags import ANSWERED, FLAGGED, SEEN, from_info, to_info


def test_info_keeps_what_others_put_there() -> None:
    assert from_info("FPSab,x=1") == (FLAGGED | SEEN, 3, "P,x=1")
    assert to_info(FLAGGED | SEEN | ANSWERED, 3, "P,x=1") == "FPRSab,x=1"
    assert to_info(0, 1 << 40) == ""


def test_addresses() -> None:
    assert account_address(" User.Name@Example.ORG ").key == "user.name@example.org"
    assert str(Address.parse('"a b"@x.example')) == '"a b"@x.example'
    for bad in ("", "a", "a@", "../x@d", ".a@d", "a/b@d", '"a b"@d.example', "a@d d", "a@-d", "a@d..e"):
        with pytest.raises(BadAddress):
            account_address(bad)
    assert domain_name("Example.ORG.") == "example.org"
    with pytest.raises(BadAddress):
        domain_name("no spaces.example")
