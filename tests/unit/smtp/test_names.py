"""Domains of an envelope have A-labels from the command on (RFC 5890, RFC 6531 3.2)."""

import pytest

from fastmail.message.trace import mailbox
from fastmail.model.address import Address, account_address
from fastmail.model.errors import BadAddress
from fastmail.smtp.envelope import Refused, mail, rcpt

LONG = b"bounces+" + b"0123456789abcdef" * 12 + b"-user=example.com"  # as VERP, SRS and tokens make them


def own() -> str:
    return "own.test"


def test_one_spelling() -> None:
    for name in ("fa\u00df.example", "FA\u1e9e.example", "xn--fa-hia.example"):
        assert mail(f"FROM:<j\u00fc@{name}> SMTPUTF8".encode(), 1000)[0] == "j\u00fc@xn--fa-hia.example"
        assert rcpt(f"TO:<j\u00fc@{name}>".encode(), True, own).address == "j\u00fc@xn--fa-hia.example"
    assert rcpt(b"TO:<a@[IPv6:::1]>", True, own).address == "a@[ipv6:::1]"
    assert rcpt(b"TO:<Postmaster>", False, own).address == "postmaster@own.test"
    assert mail(b"FROM:<>", 1000)[0] == ""


def test_local_parts_have_any_length_that_a_path_can_have() -> None:
    """RFC 5321 4.5.3.1: what is longer than the least that everybody has to take is no reason to refuse mail."""
    address = LONG + b"@send.example"
    assert len(LONG) > 200
    assert mail(b"FROM:<" + address + b">", 1000)[0] == address.decode()
    assert mail(b"FROM:<" + address + b"> SIZE=3", 1000)[0] == address.decode()
    assert rcpt(b"TO:<" + address + b">", False, own).address == address.decode()
    assert rcpt(b"TO:<" + address + b"> NOTIFY=NEVER", False, own).address == address.decode()
    assert mailbox(address.decode()) == address.decode()  # in Return-Path and Received
    with pytest.raises(Refused, match=r"501 5\.1\.7 path is longer than 256 octets"):
        mail(b"FROM:<" + b"a" * 40 + address + b">", 1000)
    with pytest.raises(Refused, match=r"501 5\.1\.3 path is longer than 256 octets"):
        rcpt(b"TO:<" + b"a" * 40 + address + b">", False, own)
    assert str(Address.parse(address.decode())) == address.decode()  # where an alias or a forward leads to
    with pytest.raises(BadAddress):  # nobody here is called so
        account_address(address.decode())


@pytest.mark.parametrize("name", ["\U0001f4a9.example", "xn--.example", "xn--a.example", "-\u00fc.example"])
def test_what_idna_refuses(name: str) -> None:
    with pytest.raises(Refused, match=r"553 5\.1\.7"):
        mail(f"FROM:<a@{name}> SMTPUTF8".encode(), 1000)
    with pytest.raises(Refused, match=r"553 5\.1\.3"):
        rcpt(f"TO:<a@{name}>".encode(), True, own)
