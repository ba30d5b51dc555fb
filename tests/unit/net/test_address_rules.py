"""Addresses that nobody's mail may go to, however they are written."""

import ipaddress
import socket

import pytest

from fastmail.net import address_rules

HERE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::1",
    "2001:0:1:2:3:4:80ff:fffe",
    "2001:db8::200:5efe:127.0.0.1",
    "2001:db8::5efe:127.0.0.1",
]
NOWHERE = ["169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254"]
ELSEWHERE = ["8.8.8.8", "198.51.100.7", "10.1.2.3", "2001:4860:4860::8888", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", HERE)
def test_this_machine_by_any_name(address: str) -> None:
    assert address_rules.barred(address) == "is this machine"


@pytest.mark.parametrize("address", NOWHERE)
def test_places_without_mail_hosts(address: str) -> None:
    assert address_rules.barred(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_hosts(address: str) -> None:
    assert address_rules.barred(address) == "" and not address_rules.is_own(address)


@pytest.mark.parametrize("text", ["x", "", "127.1", "0x7f.1", "1.2.3.4.5", "::1%lo\0"])
def test_what_is_no_address_is_barred(text: str) -> None:
    assert address_rules.barred(text)


def test_addresses_of_this_machines_interfaces() -> None:
    """As others know us: found by asking the system which address it would send from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.199", 9))
        except OSError:
            pytest.skip("this machine has no route to other networks, so no address that others know it by")
        own = sock.getsockname()[0]
    assert address_rules.is_own(own)
    for form in (own, f"::ffff:{own}", str(ipaddress.ip_address("64:ff9b::") + int(ipaddress.ip_address(own)))):
        assert address_rules.barred(form) == "is this machine"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[127.0.0.1]", "127.0.0.1"),
        ("[IPv6:::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[ipv6:2001:db8::1]", "2001:db8::1"),
        ("[IPV6:::1]", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("::1", "::1"),
        ("[127.0.0.1", ""),
        ("[0x7f000001]", ""),
        ("[127.1]", ""),
        ("[IPv6:fe80::1%lo]", ""),
        ("[tag:x]", ""),
        ("far.test", ""),
        ("", ""),
    ],
)
def test_literals(text: str, address: str) -> None:
    found = address_rules.literal(text)
    assert (ipaddress.ip_address(found) if found else "") == (ipaddress.ip_address(address) if address else "")


@pytest.mark.parametrize(
    "name", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "far.0x7f", "1.2.3.4.5", "far.99."]
)
def test_names_that_programs_read_as_addresses(name: str) -> None:
    assert address_rules.numeric(name)


@pytest.mark.parametrize("name", ["far.test", "1.2.3.test", "x1", "0xfg", "3com.test", ""])
def test_names(name: str) -> None:
    assert not address_rules.numeric(name)
