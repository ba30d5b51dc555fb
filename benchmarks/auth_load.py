"""Signed mail of a stranger by port 25, until it is in a mailbox, for ``make bench-auth``: this server with the checks and
without, and Postfix with OpenDKIM, OpenDMARC and policyd-spf-python with them and without.

The client introduces itself by XCLIENT as another host, because mail of this machine is not checked. A name server in
this process, whose CPU does not count, has all that is asked for.

Run as a program it is the second half, and prints JSON. It needs root and a mount namespace of its own: OpenDMARC and
policyd-spf ask whom /etc/resolv.conf names, always by port 53.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.auth_work import DOMAIN, HELO, IP, SIZE, private, signed, zone
from benchmarks.servers import DOMAIN as HERE
from benchmarks.servers import TUNED, Side, dovecot
from fastmail.app import child
from fastmail.bench import load, machine, server
from fastmail.policy.sign import SigningKey
from tests.support import mtas
from tests.support.hosts import NameServer

SESSIONS = 10
WARM = 200  # messages before those that are measured: accounts, caches, processes
RESOLVER = "127.0.0.53"
PACKAGES = {"opendkim": "opendkim", "opendmarc": "opendmarc", "policyd-spf": "postfix-policyd-spf-python"}


class Stranger(load.Delivery):
    """A session of another host; each of its messages is another one."""

    texts: Iterator[bytes]

    def _greeted(self) -> None:
        self._send(b"EHLO proxy.example\r\n", 1, self._introduce)

    def _introduce(self) -> None:
        self._send(f"XCLIENT ADDR={IP} NAME={HELO} HELO={HELO}\r\n".encode(), 1, self._greet_again)

    def _greet_again(self) -> None:
        self._send(f"EHLO {HELO}\r\n".encode(), 1, self._next)

    def _data(self) -> None:
        self._text = next(self.texts)
        super()._data()


def on_the_wire(number: int, signer: SigningKey) -> bytes:
    """A message as DATA has it."""
    content = signed(SIZE, number, signer).replace(b"\n", b"\r\n")
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


async def _deliver(port: int, texts: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    work = load.Work(b"", len(texts), b"", [f"u{n}@{HERE}" for n in range(100)])
    Stranger.texts = iter(texts)
    waits = []
    for number in range(SESSIONS):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(lambda done=done, number=number: Stranger(work, done, number), "127.0.0.1", port)
        waits.append(done)
    await asyncio.gather(*waits)


def once(side: Side, texts: list[bytes]) -> float:
    """ms of CPU of all processes of a side for each of these messages."""
    uvloop.run(_deliver(side.port, texts[:WARM]))
    _through(side)
    before = sum(machine.cpu(pid) for pid in side.pids)
    uvloop.run(_deliver(side.port, texts[WARM:]))
    _through(side)
    return (sum(machine.cpu(pid) for pid in side.pids) - before) / (len(texts) - WARM) * 1000


def _through(side: Side) -> None:
    while side.left():
        time.sleep(0.05)
    time.sleep(0.5)


@contextlib.contextmanager
def name_server(records: dict[tuple[str, str], list[Any]], host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Its port."""
    loop = asyncio.new_event_loop()
    texts = {
        (name, kind): [_quoted(one) if kind == "TXT" else one + ("." if kind == "PTR" else "") for one in found]
        for (name, kind), found in records.items()
    }
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: NameServer(texts), local_addr=(host, port))
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        transport.close()
        loop.close()


def checked_by(place: str, words: tuple[bytes, ...]) -> None:
    """The mail below that directory says what was found out about it; AssertionError where it does not."""
    for path in Path(place).rglob("*"):
        if path.parent.name in ("new", "cur") and path.is_file():
            header = path.read_bytes().partition(b"\n\n")[0]
            if b"quarterly figures" in header:
                assert all(word in header for word in words), header.decode("utf-8", "replace")
                return
    raise AssertionError(f"no mail below {place}")


def _quoted(record: str) -> str:
    """A TXT record in strings of 255 octets (RFC 1035 3.3.14)."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))


# ---------------------------------------------------------------- this server


@contextlib.contextmanager
def ours(parent: str, resolver: int, checked: bool) -> Iterator[Side]:
    """``checked``: or the client is exempt."""
    exempt = "" if checked else f'exempt = ["{IP}"]\n'
    lists = 'lists = ["one.lists.example", "two.lists.example"]\ndomain_lists = ["names.lists.example"]\n'
    extra = f'[relay]\ndns_servers = ["127.0.0.1:{resolver}"]\ndnssec = false\n[policy]\n{lists}{exempt}'
    with server.running(parent, "maildir", 0, extra, listen='xclient = ["127.0.0.0/8"]') as target:
        yield Side(target.ports["smtp"], [target.pid], lambda: 0)
        if checked:
            checked_by(target.directory, (b"iprev=pass", b"spf=pass", b"dkim=pass", b"dmarc=pass"))


def measure(parent: str, rounds: int, count: int) -> dict[str, list[float]]:
    """ms of CPU a message, with the checks and without, in turn."""
    signer = private()
    texts = [on_the_wire(number, signer) for number in range(count + WARM)]
    found: dict[str, list[float]] = {"without": [], "with": []}
    with name_server(zone(signer)) as resolver:
        for _ in range(rounds):
            for name, series in found.items():
                with ours(parent, resolver, name == "with") as side:
                    series.append(once(side, texts))
    return found


# ---------------------------------------------------------------- Postfix and its company

POLICYD = (
    "HELO_reject = False\nMail_From_reject = False\nPermError_reject = False\nTempError_Defer = False\ndebugLevel = 0\n"
)
CHECKED = (
    "smtpd_recipient_restrictions = check_policy_service unix:private/policyd-spf\npolicyd-spf_time_limit = 3600\n"
    "smtpd_milters = inet:127.0.0.1:{dkim}, inet:127.0.0.1:{dmarc}\nmilter_default_action = tempfail\n"
)


def missing() -> str:
    """Why the other side cannot be measured here; empty when it can."""
    path = os.environ["PATH"] + ":/usr/sbin"
    packages = {**PACKAGES, "postfix": "postfix", "dovecot": "dovecot-lmtpd"}
    away = [package for name, package in packages.items() if shutil.which(name, path=path) is None]
    if away:
        return f"not installed: {', '.join(away)}"
    if os.geteuid() != 0:
        return "it needs root"
    return "" if shutil.which("unshare") else "unshare (util-linux) is not installed"


@contextlib.contextmanager
def _company(place: Path, signer: SigningKey) -> Iterator[tuple[dict[str, int], list[int]]]:
    """OpenDKIM and OpenDMARC: their ports, and their processes."""
    ports = dict(zip(("dkim", "dmarc"), child.free_ports(2), strict=True))
    (place / "keys").write_text(f"one._domainkey.{DOMAIN} {signer.record()}\n")
    (place / "dkim.conf").write_text(
        f"Mode v\nSyslog no\nSocket inet:{ports['dkim']}@127.0.0.1\nAuthservID pf.test\nTestPublicKeys {place}/keys\n"
    )
    (place / "dmarc.conf").write_text(
        f"Syslog false\nSocket inet:{ports['dmarc']}@127.0.0.1\nAuthservID pf.test\nTrustedAuthservIDs pf.test\n"
        f"RejectFailures false\n"
    )
    commands = [["opendkim", "-f", "-x", f"{place}/dkim.conf"], ["opendmarc", "-f", "-c", f"{place}/dmarc.conf"]]
    with contextlib.ExitStack() as stack:
        pids = []
        for command in commands:
            out = stack.enter_context(open(place / f"{command[0]}.out", "wb"))
            process = subprocess.Popen(command, stdout=out, stderr=out)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            pids.append(process.pid)
        for port in ports.values():
            _answers(port)
        yield ports, pids


def _answers(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on port {port}")


@contextlib.contextmanager
def postfix(place: Path, signer: SigningKey, checked: bool) -> Iterator[Side]:
    """It hands what it took to Dovecot by LMTP."""
    with contextlib.ExitStack() as stack:
        mailboxes = stack.enter_context(dovecot(""))
        extra, pids = TUNED + "smtpd_authorized_xclient_hosts = 127.0.0.0/8\nmynetworks = 127.0.0.2\n", [mailboxes.pid]
        extra = extra.replace("permit_mynetworks, reject", "reject_unauth_destination")
        extra = extra.replace("smtpd_recipient_restrictions =\n", "")
        if checked:
            ports, more = stack.enter_context(_company(place, signer))
            (place / "policyd.conf").write_text(POLICYD)
            extra, pids = extra + CHECKED.format(**ports), pids + more
        else:
            extra += "smtpd_recipient_restrictions =\n"
        spawned = (
            f"policyd-spf unix - n n - 0 spawn\n  user=nobody argv={shutil.which('policyd-spf')} {place}/policyd.conf"
        )
        base = place / f"postfix-{checked}-{time.monotonic_ns()}"
        port = stack.enter_context(mtas.postfix(base, mailboxes.ports["lmtp"], HERE, "lmtp", extra, spawned))
        spool = base / "spool"

        def left() -> int:
            parts = ("incoming", "active", "deferred")
            return sum(len(files) for part in parts for _, _, files in os.walk(spool / part))

        yield Side(port, [int((spool / "pid" / "master.pid").read_text()), *pids], left)
        if checked:
            checked_by(f"{mailboxes.directory}/mail", (b"Received-SPF: Pass", b"dkim=pass", b"dmarc=pass"))


def theirs(parent: str, rounds: int, count: int) -> dict[str, list[float]]:
    """The same of Postfix, whose queue and mailboxes are in ``parent`` too; RuntimeError says why not."""
    command = ["unshare", "--mount", sys.executable, "-m", "benchmarks.auth_load", str(rounds), str(count)]
    there = {**os.environ, "TMPDIR": parent or tempfile.gettempdir()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=there)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it failed")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(rounds: int, count: int) -> None:
    signer = private()
    texts = [on_the_wire(number, signer) for number in range(count + WARM)]
    found: dict[str, list[float]] = {"without": [], "with": []}
    place = Path(tempfile.mkdtemp(prefix="auth-bench-"))
    place.chmod(0o755)
    os.environ["PATH"] += ":/usr/sbin"
    try:
        (place / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        subprocess.run(["mount", "--bind", place / "resolv.conf", "/etc/resolv.conf"], check=True)
        with name_server(zone(signer), RESOLVER, 53):
            for _ in range(rounds):
                for name, series in found.items():
                    with postfix(place, signer, name == "with") as side:
                        series.append(once(side, texts))
        print(json.dumps(found))
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
