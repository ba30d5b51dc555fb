"""Domains of an envelope have A-labels from the command on (RFC 5890, RFC 6531 3.2)."""

import pytest

from fastmail.smtp.envelope import Refused, mail, rcpt


def own() -> str:
    return "own.test"


def test_one_spelling() -> None:
    for name in ("fa\u00df.example", "FA\u1e9e.example", "xn--fa-hia.example"):
        assert mail(f"FROM:<j\u00fc@{name}> SMTPUTF8".encode(), 1000)[0] == "j\u00fc@xn--fa-hia.example"
        assert rcpt(f"TO:<j\u00fc@{name}>".encode(), True, own).address == "j\u00fc@xn--fa-hia.example"
    assert rcpt(b"TO:<a@[IPv6:::1]>", True, own).address == "a@[ipv6:::1]"
    assert rcpt(b"TO:<Postmaster>", False, own).address == "postmaster@own.test"
    assert mail(b"FROM:<>", 1000)[0] == ""


@pytest.mark.parametrize("name", ["\U0001f4a9.example", "xn--.example", "xn--a.example", "-\u00fc.example"])
def test_what_idna_refuses(name: str) -> None:
    with pytest.raises(Refused, match=r"553 5\.1\.7"):
        mail(f"FROM:<a@{name}> SMTPUTF8".encode(), 1000)
    with pytest.raises(Refused, match=r"553 5\.1\.3"):
        rcpt(f"TO:<a@{name}>".encode(), True, own)
