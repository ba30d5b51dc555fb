"""Starts and stops a server in a process of its own, on free ports, for commands that need one for a while."""

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from fastmail.model.errors import ConfigError

PORTS = (26_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that are free now. They lie below the range from which the kernel takes ports for
    outgoing connections, so a server that is restarted finds its own ports free again."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            port = random.SystemRandom().randrange(*PORTS)
            try:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


@contextlib.contextmanager
def serving(config: str, log: str, ports: Sequence[int], patience: float = 20.0) -> Iterator[int]:
    """Its process id, once all ports answer; what it says goes to ``log``. ConfigError with the end of that when it
    does not come up in time (s)."""
    command = [sys.executable, "-c", "from fastmail.cli.main import main; main()", "serve", "-c", config]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        _wait(process, ports, log, patience)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: "subprocess.Popen[bytes]", ports: Sequence[int], log: str, patience: float) -> None:
    end = time.monotonic() + patience
    for port in ports:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as file:
                    raise ConfigError("the server did not start: " + file.read()[-1000:])
            time.sleep(0.05)
