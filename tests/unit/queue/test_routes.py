"""Which next hop a recipient has."""

import pytest

from fastmail.model.errors import ConfigError
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
        "from:@bulk.test mx pool=bulk connections=3 retry=1m,1h lifetime=1d",
        "slow.test mx connections=1 lifetime=2d",
        "host.test smtp:10.0.0.2 pool=bulk",
        "lists.test pipe:/usr/bin/lists --from {sender} {user}",
    ],
    ["example.org verify", ".example.org encrypt", "* may"],
    pools=["bulk 127.0.0.2 127.0.0.3 ::1"],
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
        ("far.test", "news@bulk.test", "far.test#bulk"),
        ("slow.test", "", "slow.test"),
        ("host.test", "", "smtp:10.0.0.2:25#bulk"),
        ("lists.test", "", "pipe:/usr/bin/lists --from {sender} {user}"),
    ],
)
def test_destination(domain: str, sender: str, destination: str) -> None:
    assert TABLE.destination(domain, sender) == destination


def test_options_of_a_hop() -> None:
    hop = TABLE.hops["smtp:tenant-out.test:587"].hop
    assert hop is not None and (hop.tls, hop.login) == ("verify", "me")


def test_options_of_a_route() -> None:
    """They are found again from what a job calls its destination."""
    bulk = TABLE.of("far.test#bulk")
    assert (bulk.pool, bulk.connections, bulk.retry, bulk.lifetime) == ("bulk", 3, (60.0, 3600.0), 86400.0)
    assert (TABLE.of("slow.test").connections, TABLE.of("slow.test").lifetime) == (1, 172800.0)
    assert TABLE.of("smtp:10.0.0.2:25#bulk").pool == "bulk"
    assert TABLE.of("pipe:/usr/bin/lists --from {sender} {user}").hop == TABLE.domains["lists.test"].hop
    assert TABLE.of("example.org").hop == TABLE.domains["example.org"].hop


@pytest.mark.parametrize(
    ("domain", "mode"), [("example.org", "verify"), ("a.example.org", "encrypt"), ("x.test", "may")]
)
def test_policy(domain: str, mode: str) -> None:
    assert TABLE.policy(domain, "none") == mode


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("example.org", "PATTERN NEXTHOP is expected"),
        ("example.org ftp:host", "the next hop is mx"),
        ("example.org smtp:host colour=red", "colour=red is not one of"),
        ("example.org smtp:host pool=none", "there is no pool none"),
        ("example.org smtp:host connections=many", "connections needs a number"),
        ("example.org smtp:host retry=soon", "must be a time"),
        ("example.org mx tls=verify", "tls needs a host"),
        ("from:@example.org mx lifetime=1d", "need a pool"),
        ("example.org pipe:prog", "absolute path"),
        ("example.org pipe:/bin/prog {password}", "{password} may name"),
        ("example.org pipe:/bin/prog " + "x" * 300, "too long"),
    ],
)
def test_what_is_wrong_is_told(line: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse([line], [])
    assert line in str(error.value) and words in str(error.value)


@pytest.mark.parametrize("line", ["bulk", "bulk example.org", ""])
def test_pools_need_addresses(line: str) -> None:
    with pytest.raises(ConfigError, match="pools"):
        parse([], [], pools=[line])


@pytest.mark.parametrize("written", ["fa\u00df.example", "xn--fa-hia.example", "FA\u1e9e.example"])
def test_patterns_and_domains_with_a_labels_and_u_labels(written: str) -> None:
    lines = [f"{written} smtp:{written}", f".{written} smtp:10.0.0.2", f"from:me@{written} smtp:10.0.0.3"]
    table = parse([*lines, f"from:@{written} smtp:10.0.0.4"], [f"{written} verify", f".{written} encrypt"])
    for domain in ("fa\u00df.example", "xn--fa-hia.example", "Fa\u00df.EXAMPLE"):
        assert table.destination(domain).lower() == "smtp:xn--fa-hia.example:25"
        assert table.destination(f"mx.{domain}") == "smtp:10.0.0.2:25"
        assert table.destination("x.example", f"Me@{domain}") == "smtp:10.0.0.3:25"
        assert table.destination("x.example", f"you@{domain}") == "smtp:10.0.0.4:25"
        assert (table.policy(domain, "may"), table.policy(f"mx.{domain}", "may")) == ("verify", "encrypt")
        assert parse([], []).destination(domain) == "xn--fa-hia.example"
    assert parse([], []).destination("fass.example") == "fass.example"
