"""Which next hop a recipient has."""

import pytest

from fastmail.queue.routes import parse

TABLE = parse(
    [
        "example.org smtp:10.0.0.1",
        ".example.org smtp:[2001:db8::1]:2525",
        "direct.example.org mx",
        "store.test lmtp:unix:/run/lmtp",
        "* smtps:relay.test",
        "from:@tenant.test smtp:tenant-out.test:587 tls=verify login=me",
        "from:boss@tenant.test mx",
    ],
    ["example.org verify", ".example.org encrypt", "* may"],
)


@pytest.mark.parametrize(
    ("domain", "sender", "destination"),
    [
        ("example.org", "a@b.test", "smtp:10.0.0.1:25"),
        ("Example.ORG", "", "smtp:10.0.0.1:25"),
        ("a.b.example.org", "", "smtp:2001:db8::1:2525"),
        ("direct.example.org", "", "direct.example.org"),
        ("store.test", "", "lmtp:unix:/run/lmtp"),
        ("elsewhere.test", "", "smtps:relay.test:465"),
        ("example.org", "x@tenant.test", "smtp:tenant-out.test:587"),
        ("example.org", "boss@tenant.test", "example.org"),
    ],
)
def test_destination(domain: str, sender: str, destination: str) -> None:
    assert TABLE.destination(domain, sender) == destination


def test_options_of_a_hop() -> None:
    hop = TABLE.hops["smtp:tenant-out.test:587"]
    assert (hop.tls, hop.login) == ("verify", "me")


@pytest.mark.parametrize(
    ("domain", "mode"), [("example.org", "verify"), ("a.example.org", "encrypt"), ("x.test", "may")]
)
def test_policy(domain: str, mode: str) -> None:
    assert TABLE.policy(domain, "none") == mode
