"""MTA-STS policies: kept, refreshed before they expire, and fetched again when hosts do not keep to them (RFC 8461)."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.dns.resolver import Resolver
from fastmail.net import web
from fastmail.queue import routes
from fastmail.queue.spool import Spool
from fastmail.relay import sts
from fastmail.relay.sts import BadPolicy, Policies
from fastmail.relay.targets import Finder
from tests.support.hosts import NameServer, name_server

POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {age}\n"
DAY = 86400


class World:
    def __init__(self, path: Path, dns: NameServer) -> None:
        self.dns = dns
        self.spool = Spool(str(path), 1 << 26)
        self.text = POLICY.format(mode="enforce", mx="mail.far.test", age=7 * DAY)
        self.fetched: list[str] = []
        self.told: list[tuple[str, str, str, str, str]] = []
        self.error: Exception | None = None
        resolver = Resolver([f"127.0.0.1:{dns.port}"])
        self.policies = Policies(self.spool, resolver, self.get)
        self.policies.report = lambda *what: self.told.append(what)
        self.finder = Finder(routes.parse([], []), resolver, "mx.near.test", policies=self.policies)
        self.finder.report = self.policies.report

    def get(self, domain: str) -> str:
        self.fetched.append(domain)
        if self.error is not None:
            raise self.error
        return self.text

    def failures(self) -> list[str]:
        return [what for _, policy, what, _, _ in self.told if what and policy == "sts"]


def run(path: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        dns = await name_server(
            {
                ("_mta-sts.far.test", "TXT"): ['"v=STSv1; id=1;"'],
                ("far.test", "MX"): ["10 mail.far.test.", "20 other.far.test."],
                ("mail.far.test", "A"): ["198.51.100.7"],
                ("other.far.test", "A"): ["198.51.100.8"],
            }
        )
        world = World(path, dns)
        try:
            await scenario(world)
        finally:
            await world.spool.close()
            dns.transport.close()

    asyncio.run(main())


def test_a_policy_is_refreshed_before_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8461 10.2: or an attacker who keeps the TXT record away would only have to wait."""
    real, skew = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + skew)

    async def scenario(w: World) -> None:
        nonlocal skew
        first = await w.policies.find("far.test")
        assert first is not None and await w.policies.refresh() == 0 and w.fetched == ["far.test"]
        for day in range(1, 15):  # twice as long as the policy holds, and the DNS is silent all the time
            skew = day * DAY + 60.0
            w.dns.broken.add("_mta-sts.far.test")
            assert await w.policies.refresh() == 1
            again = await w.policies.find("far.test")
            assert again is not None and again.until > first.until
        w.error = OSError("away")  # nobody answers any more: it holds for as long as it said
        skew += 6 * DAY
        assert await w.policies.refresh() == 0 and await w.policies.find("far.test") is not None
        skew += 2 * DAY
        assert await w.policies.find("far.test") is None
        await w.policies.refresh()
        assert w.spool.facts.policies() == []

    run(tmp_path, scenario)


def test_a_policy_that_nobody_needs_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, skew = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + skew)

    async def scenario(w: World) -> None:
        nonlocal skew
        w.text = POLICY.format(mode="enforce", mx="mail.far.test", age=100 * DAY)
        await w.policies.find("far.test")
        for day in range(2, 50, 2):
            skew = day * DAY
            w.policies._failed.clear()
            await w.policies.refresh()
        assert 10 <= len(w.fetched) <= 20

    run(tmp_path, scenario)


def test_a_policy_of_an_older_server_is_read_and_refreshed(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        import msgspec

        old = msgspec.msgpack.encode([1, "1", "enforce", ["mail.far.test"], int(time.time()) + DAY])
        await w.spool.facts.set_policy("far.test", old)
        found = await w.policies.find("far.test")
        assert found is not None and found.mx == ["mail.far.test"] and w.fetched == []
        assert await w.policies.refresh() == 1

    run(tmp_path, scenario)


def test_hosts_that_the_policy_does_not_name_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8461 5.1: the domain may have moved; so it is looked whether its policy has, too."""
    monkeypatch.setattr(sts, "AGAIN", 0.0)

    async def scenario(w: World) -> None:
        w.text = POLICY.format(mode="enforce", mx="old.far.test", age=DAY)
        assert await w.policies.find("far.test") is not None
        w.text = POLICY.format(mode="enforce", mx="*.far.test", age=DAY)
        found = await w.finder.find("far.test")
        assert [one.name for one in found] == ["mail.far.test", "other.far.test"]
        assert {one.tls for one in found} == {"verify"} and len(w.fetched) == 2

    run(tmp_path, scenario)


def test_a_policy_is_not_fetched_for_each_message(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        for _ in range(5):
            await w.policies.find("far.test")
            assert not await w.policies.renew("far.test")
        assert len(w.fetched) == 1

    run(tmp_path, scenario)


def test_hosts_in_testing(tmp_path: Path) -> None:
    """RFC 8461 5: mail goes as without a policy, and what would have failed is counted."""

    async def scenario(w: World) -> None:
        w.text = POLICY.format(mode="testing", mx="mail.far.test", age=DAY)
        first, second = await w.finder.find("far.test")
        assert (first.tls, first.policy, first.testing) == ("may", "sts", True)
        assert (second.tls, second.policy, second.testing) == ("may", "", False)
        assert w.failures() == ["validation-failure"]
        (lines,) = {why for _, policy, what, _, why in w.told if policy == "sts" and not what}
        assert "mode: testing" in lines

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError("away"), "sts-policy-fetch-error"),
        (TimeoutError(), "sts-policy-fetch-error"),
        (web.WebError("no status line"), "sts-policy-fetch-error"),
        (BadPolicy("no mode"), "sts-policy-invalid"),
        (ssl.SSLCertVerificationError("bad"), "sts-webpki-invalid"),
    ],
)
def test_what_keeps_a_policy_away_is_reported(tmp_path: Path, error: Exception, what: str) -> None:
    async def scenario(w: World) -> None:
        w.error = error
        assert await w.policies.find("far.test") is None
        assert w.failures() == [what]
        assert await w.policies.find("far.test") is None and len(w.fetched) == 1, "not again at once"

    run(tmp_path, scenario)


def test_s43_a_policy_is_never_fetched_from_this_machine(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        w.policies._get = None
        w.dns.records[("mta-sts.far.test", "A")] = ["127.0.0.1", "169.254.169.254"]
        assert await w.policies.find("far.test") is None
        ((_, _, what, _, why),) = w.told
        assert what == "sts-policy-fetch-error" and "mta-sts.far.test has only " in why

    run(tmp_path, scenario)


@pytest.mark.parametrize("age", ["²", "-1", "1e3", "9" * 11, ""])
def test_a8_ages_that_are_none(age: str) -> None:
    with pytest.raises(BadPolicy):
        sts.parse(POLICY.format(mode="enforce", mx="a.test", age=age), "1", 0.0)


def test_a8_a_policy_of_thousands_of_hosts_is_none() -> None:
    text = "version: STSv1\nmode: enforce\nmax_age: 60\n" + "".join(f"mx: m{n}.far.test\n" for n in range(3000))
    with pytest.raises(BadPolicy):
        sts.parse(text, "1", 0.0)


def test_s43_a_domain_is_asked_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much mail for it waits, and while its web server never finishes."""
    asked: list[str] = []

    async def slow(wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        asked.append(wanted.url)
        await asyncio.sleep(0.2)
        return web.Answer(200, "text/plain", w_text.encode())

    w_text = POLICY.format(mode="enforce", mx="mail.far.test", age=7 * DAY)
    monkeypatch.setattr(web, "ask", slow)

    async def scenario(w: World) -> None:
        w.policies._get = None
        found = await asyncio.gather(*(w.policies.find("far.test") for _ in range(20)))
        assert all(one is not None and one.mx == ["mail.far.test"] for one in found)
        assert asked == ["https://mta-sts.far.test/.well-known/mta-sts.txt"]

    run(tmp_path, scenario)


def test_s43_slow_web_servers_do_not_hold_up_the_look_at_all_policies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    monkeypatch.setattr(sts, "LONGEST", 0.5)
    monkeypatch.setattr(sts, "AT_ONCE", 2)

    async def never(domain: str) -> str:
        await asyncio.sleep(60)
        return ""

    async def scenario(w: World) -> None:
        now = int(time.time())
        for n in range(20):
            old = sts.Policy(1, "1", "enforce", ["mail.far.test"], now + DAY + n, now - DAY, now)
            await w.spool.facts.set_policy(f"far{n}.test", msgspec.msgpack.encode(old))
        w.policies._text = never  # type: ignore[method-assign]
        begun = time.monotonic()
        assert await w.policies.refresh() == 0
        assert time.monotonic() - begun < 5.0
        assert sorted(w.policies._asking) == ["far0.test", "far1.test"], "those that expire first, and no more at once"
        await w.policies.close()

    run(tmp_path, scenario)


def test_s43_a_domain_that_fails_is_asked_more_and_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, skew = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + skew)

    async def scenario(w: World) -> None:
        nonlocal skew
        w.error = OSError("away")
        for minute in range(24 * 60):
            skew = 60.0 * minute
            await w.policies.find("far.test")
        assert 24 <= len(w.fetched) <= 30
        w.error = None
        skew += 3600
        assert await w.policies.find("far.test") is not None and not w.policies._failed

    run(tmp_path, scenario)
