"""Destinations that `queue move` takes, and those that it refuses before anything is changed."""

import asyncio

import pytest

from fastmail.dns.resolver import Resolver
from fastmail.queue import routes
from fastmail.relay import moving
from fastmail.relay.moving import BadDestination
from fastmail.relay.targets import Finder
from tests.support.hosts import name_server

RECORDS = {
    ("far.test", "MX"): ["10 mail.far.test."],
    ("mail.far.test", "A"): ["198.51.100.7"],
    ("null.test", "MX"): ["0 ."],
    ("here.test", "A"): ["127.0.0.1"],
}


def moved(text: str, addresses: tuple[str, ...] = ("a@far.test",)) -> str:
    async def work() -> str:
        server = await name_server(dict(RECORDS))
        server.broken.add("broken.test")
        table = routes.parse(["x.test pipe:/bin/known -x", "y.test mx pool=bulk"], [], pools=["bulk 192.0.2.1"])
        finder = Finder(table, Resolver([f"127.0.0.1:{server.port}"]), "mx.near.test")
        local = lambda address: "local" if address.endswith("@near.test") else "x"  # noqa: E731
        try:
            return await moving.destination(text, finder, addresses, local)
        finally:
            server.transport.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("far.test", "far.test"),
        ("FAR.test.", "far.test"),
        (" far.test ", "far.test"),
        ("far.test#bulk", "far.test#bulk"),
        ("broken.test", "broken.test"),
        ("smtp:10.0.0.1", "smtp:10.0.0.1:25"),
        ("smtp:127.0.0.1:2525", "smtp:127.0.0.1:2525"),
        ("smtp:mail.far.test", "smtp:mail.far.test:25"),
        ("smtps:mail.far.test", "smtps:mail.far.test:465"),
        ("lmtp:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
        ("smtp:[2001:db8::1]:26", "smtp:2001:db8::1:26"),
        ("[198.51.100.7]", "[198.51.100.7]"),
        ("[IPv6:2001:db8::1]", "[ipv6:2001:db8::1]"),
        ("pipe:/bin/known -x", "pipe:/bin/known -x"),
    ],
)
def test_where_mail_can_go(text: str, found: str) -> None:
    assert moved(text) == found


WRONG = ["", " ", "stmp:10.0.0.1:25", "smtp:", "smtp:10.0.0.1:0", "smtp:10.0.0.1:x", "smtp:10.0.0.1:", "pipe:/bin/true"]
WRONG += ["10.0.0.1:25", "mailhost example", "far.test#nopool", "far.test!", "far.test?", "lmtp:unix:run", "0x7f000001"]
WRONG += [
    "nowhere.test",
    "smtp:nowhere.test",
    "null.test",
    "here.test",
    "[127.0.0.1]",
    "a..b",
    "local",
    "far,test",
    "#bulk",
]


@pytest.mark.parametrize("text", WRONG)
def test_where_it_cannot(text: str) -> None:
    with pytest.raises(BadDestination):
        moved(text)


def test_this_server_takes_its_own_only() -> None:
    assert moved("local", ("a@near.test", "b@near.test")) == "local"
    with pytest.raises(BadDestination):
        moved("local", ("a@near.test", "b@far.test"))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("far.test!", "smtp:10.0.0.1:25", "smtp:10.0.0.1:25!"),
        ("far.test#bulk!", "far.test", "far.test!"),
        ("far.test?", "other.test", "other.test?"),
        ("far.test", "other.test", "other.test"),
        ("far.test!", "local", "local"),
    ],
)
def test_a_message_keeps_its_wish_for_tls(old: str, new: str, found: str) -> None:
    assert moving.moved(old, new) == found
