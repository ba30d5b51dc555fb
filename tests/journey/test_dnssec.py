"""DANE (RFC 7672) with a resolver and a name server that are not ours: NSD serves signed zones, Unbound validates."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.dns.resolver import Resolver
from fastmail.relay.runner import Limits
from fastmail.relay.scheduling import Most
from fastmail.relay.targets import Finder
from fastmail.smtp.client import Timeouts
from tests.integration.test_relay import World, world
from tests.integration.test_relay_tls import Far
from tests.support import needs
from tests.support.ports import free_ports

ZONE = """$ORIGIN {name}.
$TTL 60
@ IN SOA ns.{name}. root.{name}. 1 3600 600 86400 60
@ IN NS ns.{name}.
ns IN A 127.0.0.1
@ IN MX 10 mail.far.test.
{more}
"""
PROGRAMS = ("nsd", "unbound", "ldns-keygen", "ldns-signzone")
pytestmark = pytest.mark.peer(*PROGRAMS)


class Names:
    """``signed`` zones, of which ``bogus`` ones were changed after they were signed, and ``plain`` ones."""

    def __init__(self, base: Path, port: int, digest: str) -> None:
        paths = {name: needs.program(name) for name in PROGRAMS}
        self.base = base
        self.processes: list[subprocess.Popen[bytes]] = []
        self.port, authority = free_ports(2)
        tlsa = f"mail IN A 127.0.0.1\n_{port}._tcp.mail IN TLSA 3 1 1 {digest}"
        anchors = []
        lines = []
        for name, more in (("far.test", tlsa), ("wrong.test", ""), ("bogus.test", ""), ("plain.test", "")):
            zone = base / name
            zone.write_text(ZONE.format(name=name, more=more))
            if name == "plain.test":
                lines.append(f"zone:\n name: {name}\n zonefile: {zone}\n")
                continue
            key = subprocess.run(
                [str(paths["ldns-keygen"]), "-a", "ECDSAP256SHA256", "-k", name],
                cwd=base,
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
            subprocess.run([str(paths["ldns-signzone"]), str(zone), key], cwd=base, check=True, capture_output=True)
            signed = base / f"{name}.signed"
            if name == "bogus.test":
                signed.write_text(signed.read_text().replace("mail.far.test.", "evil.far.test."))
            anchors.append((base / f"{key}.ds").read_text().strip())
            lines.append(f"zone:\n name: {name}\n zonefile: {signed}\n")
        (base / "nsd.conf").write_text(
            f'server:\n ip-address: 127.0.0.1\n port: {authority}\n username: ""\n chroot: ""\n zonesdir: "{base}"\n'
            f' database: ""\n pidfile: "{base}/nsd.pid"\n xfrdfile: "{base}/xfrd"\n zonelistfile: "{base}/zones"\n'
            f" server-count: 1\nremote-control:\n control-enable: no\n" + "".join(lines)
        )
        stubs = "".join(
            f"stub-zone:\n name: {name}\n stub-addr: 127.0.0.1@{authority}\n"
            for name in ("far.test", "wrong.test", "bogus.test", "plain.test")
        )
        trusted = "".join(f' trust-anchor: "{anchor}"\n' for anchor in anchors)
        (base / "unbound.conf").write_text(
            f'server:\n interface: 127.0.0.1@{self.port}\n do-daemonize: no\n username: ""\n chroot: ""\n'
            f' directory: "{base}"\n pidfile: "{base}/unbound.pid"\n use-syslog: no\n logfile: "{base}/unbound.log"\n'
            f' do-not-query-localhost: no\n do-ip6: no\n num-threads: 1\n module-config: "validator iterator"\n'
            f' local-zone: "test." nodefault\n domain-insecure: "plain.test"\n{trusted}'
            f"remote-control:\n control-enable: no\n{stubs}"
        )
        for command in (
            [str(paths["nsd"]), "-d", "-c", str(base / "nsd.conf")],
            [str(paths["unbound"]), "-c", str(base / "unbound.conf")],
        ):
            with open(base / "out", "ab") as out:
                self.processes.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
        self._wait(authority)
        self._wait(self.port)

    def _wait(self, port: int) -> None:
        """Until it answers by TCP too."""
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.base / "out").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(10)


def run(path: Path, scenario: Callable[[World, Far], Awaitable[None]], digest: str = "") -> None:
    async def main() -> None:
        async with world(path) as w:
            far = Far(path / "far")
            await far.start()
            is_local = far.bench.directory.is_local
            far.bench.directory.is_local = lambda domain: domain.endswith(".test") or is_local(domain)  # type: ignore[method-assign]
            for domain in ("wrong.test", "plain.test", "bogus.test"):
                far.bench.directory.aliases[f"@{domain}"] = ["user@example.test"]
            (path / "dns").mkdir()
            names = Names(path / "dns", far.port, digest or far.digest())
            try:
                resolver = Resolver([f"127.0.0.1:{names.port}"], trusted=True)
                finder = Finder(w.outward.routes, resolver, "mx.example.test", "may", far.port, True)
                limits = Limits(Most(5, 50), Timeouts(5.0, 5.0, 5.0))
                w.runner = w.outward.runner(finder, w.bench.deliverer, limits)
                w.runner.start()
                w.schedule.steps[:] = [600.0]
                await scenario(w, far)
            finally:
                names.stop()
                far.listener.close()

    asyncio.run(main())


async def deferred(w: World, words: str) -> None:
    await w.until(lambda: [job for _, job in w.spool.jobs() if words in job.last], 20.0)


def test_a_validated_record_is_used(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        await w.send("you@far.test")
        await w.drained()
        assert far.mail() == 1
        assert w.runner is not None
        (target,) = await w.runner._finder.find("far.test")
        assert (target.tls, target.policy) == ("dane", "tlsa")

    run(tmp_path, scenario)


def test_a_validated_record_keeps_mail_from_the_wrong_key(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        await w.send("you@far.test")
        await deferred(w, "fits no TLSA record")
        assert far.mail() == 0

    run(tmp_path, scenario, "0" * 64)


def test_an_unsigned_zone_can_not_ask_for_it(tmp_path: Path) -> None:
    """Its MX leads to the same host, but nobody vouches for that: TLS as ever (RFC 7672 2.2.1)."""

    async def scenario(w: World, far: Far) -> None:
        await w.send("you@plain.test")
        await w.drained()
        assert far.mail() == 1
        assert w.runner is not None
        (target,) = await w.runner._finder.find("plain.test")
        assert (target.tls, target.policy) == ("may", "no-policy-found")

    run(tmp_path, scenario, "0" * 64)


def test_a_forged_zone_gets_nothing(tmp_path: Path) -> None:
    async def scenario(w: World, far: Far) -> None:
        await w.send("you@bogus.test")
        await deferred(w, "looking")
        assert far.mail() == 0

    run(tmp_path, scenario)


def test_a_signed_zone_with_a_host_elsewhere(tmp_path: Path) -> None:
    """The MX of one signed zone names a host of another: its records count (RFC 7672 2.2.1)."""

    async def scenario(w: World, far: Far) -> None:
        await w.send("you@wrong.test")
        await deferred(w, "fits no TLSA record")
        assert far.mail() == 0

    run(tmp_path, scenario, "0" * 64)
