"""What other servers say to a relay: replies, DNS records, policies (RFC 5321 4.2, RFC 8460 3, RFC 8461 3)."""

from fastmail.net import address_rules
from fastmail.relay import sts, tlsreport
from fastmail.smtp.client import login, replies
from tests.support.growth import Case

POLICY = "version: STSv1\nmode: enforce\nmax_age: 60\n"


def _parsed(text: str) -> object:
    try:
        return sts.parse(text, "1", 0.0)
    except sts.BadPolicy:
        return None


CASES = [
    Case("reply: lines", 2_000, lambda n: [b"2.0.0 ok\r\n"] * n, lambda lines: replies.made(250, lines)),
    Case("reply: one line of controls", 20_000, lambda n: [b"\x01" * n], lambda lines: replies.made(250, lines)),
    Case("reply: mechanisms", 8_000, lambda n: [("AUTH", "X " * n)], login.offered),
    Case("report: places without an address", 8_000, lambda n: ["v=TLSRPTv1; rua=" + "mailto:" * n], tlsreport.wishes),
    Case("report: many places", 2_000, lambda n: ["v=TLSRPTv1; rua=" + "mailto:a@b.c," * n], tlsreport.wishes),
    Case("report: tags", 8_000, lambda n: ["v=TLSRPTv1;" + "rua=;" * n], tlsreport.wishes),
    Case("policy: ids", 8_000, lambda n: "v=STSv1;" + " id=a " * n, sts._ID.match),
    Case("policy: spaces", 20_000, lambda n: "v=STSv1" + " " * n, sts._ID.match),
    Case("policy: lines", 4_000, lambda n: POLICY + "a: b\n" * n, _parsed),
    Case("policy: hosts", 4_000, lambda n: POLICY + "".join(f"mx: m{k}.test\n" for k in range(n)), _parsed),
    Case("domain: numbers", 20_000, lambda n: "1." * n + "0x" + "f" * n, address_rules.numeric),
    Case("domain: brackets", 20_000, lambda n: "[" + "1." * n + "]", address_rules.literal),
]
