"""Received-SPF (RFC 7208 9.1)."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import header as scanner
from fastmail.policy import received_spf
from fastmail.policy.received_spf import SAYS
from fastmail.policy.spf import Checked

PASS = Checked("pass", "mailfrom", "example.org", "ip4:192.0.2.0/24")
HELO = Checked("fail", "helo", "mail.example.org", "-all")
# key-value-list of 9.1: dot-atoms and quoted strings, semicolons between
PAIR = r'[a-z-]+=(?:[^\x00-\x20\x7f"();:<>@,\[\]\\]+|"(?:[^"\\\n]|\\["\\])*")'
FIELD = re.compile(rf"Received-SPF: [a-z]+ \([^()\\\n]*\)\n\t{PAIR}(?:;\n\t{PAIR})*\n")


def fields(
    checked: Checked | None = PASS, greeted: Checked | None = None, ip: str = "192.0.2.1", sender: str = "a@example.org"
) -> str:
    return received_spf.fields("mx.test", ip, "mail.example.org", sender, checked, greeted).decode("ascii")


def test_a_field() -> None:
    assert fields() == (
        "Received-SPF: pass (mx.test: 192.0.2.1 may send for example.org)\n"
        '\tclient-ip=192.0.2.1;\n\tenvelope-from="a@example.org";\n\thelo=mail.example.org;\n\tidentity=mailfrom;\n'
        '\tmechanism="ip4:192.0.2.0/24";\n\treceiver=mx.test\n'
    )


def test_both_identities() -> None:
    text = fields(PASS, HELO)
    assert text.count("Received-SPF: ") == 2 and "\tidentity=helo;" in text.partition("Received-SPF: fail")[2]
    assert "envelope-from" not in text.partition("Received-SPF: fail")[2]
    nothing = Checked("none", "helo", "mail.example.org")
    assert fields(None, nothing) == "" and fields(PASS, nothing) == fields()
    assert fields(Checked("none", "mailfrom", "example.org")).startswith("Received-SPF: none (")


def test_an_address_of_ipv6_is_quoted() -> None:
    assert '\tclient-ip="2001:db8::1";' in fields(ip="2001:db8::1")
    assert "envelope-from" not in fields(sender="")


def test_trouble_is_named() -> None:
    text = fields(Checked("permerror", "mailfrom", "example.org", why='the record: "x" is no term'))
    assert '\tproblem="the record: \\"x\\" is no term";\n' in text


@given(st.sampled_from(sorted(SAYS)), st.text(), st.text(), st.text(), st.text())
def test_nothing_of_a_stranger_ends_a_value(result: str, domain: str, mechanism: str, why: str, sender: str) -> None:
    checked = Checked(result, "mailfrom", domain, mechanism, why)
    text = received_spf.fields("mx.test", "192.0.2.1", sender, sender, checked, None)
    assert FIELD.fullmatch(text.decode("ascii")), text
    assert len(memoryview(scanner.starts(text + b"\n")).cast("I")) == 1
