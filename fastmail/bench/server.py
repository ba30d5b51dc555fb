"""A throw-away server: quickstart in a new directory, users, free ports, and everything removed at the end."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from fastmail.app.quickstart import quickstart
from fastmail.bench.journeys import USERS, Target
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from fastmail.model.errors import ConfigError

PROTOCOLS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


@contextlib.contextmanager
def running(parent: str, content: str, workers: int, extra: str = "") -> Iterator[Target]:
    """A server on the disk that ``parent`` lies on; ``extra``: more of its configuration."""
    directory = tempfile.mkdtemp(prefix="fastmail-bench-", dir=parent or None)
    process: subprocess.Popen[bytes] | None = None
    try:
        quickstart(directory, account_address("big@bench.example"), "localhost", "unused", standard_ports=False)
        path = os.path.join(directory, "fastmail.toml")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        ports = dict(zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True))
        lines = []
        for line in text.splitlines():
            name = line.partition(" = ")[0]
            lines.append(f'{name} = ["127.0.0.1:{ports[name]}"]' if name in ports else line)
        text = "\n".join(lines).replace('content = "maildir"', f'content = "{content}"')
        text = text.replace("[server]", f"[server]\nworkers = {workers}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + '\n[log]\nlevel = "warning"\n' + extra)
        users = LocalDirectory(os.path.join(directory, "data"))
        names = [f"u{n}@bench.example" for n in range(USERS)]
        users.add_accounts([(name, "{PLAIN}secret") for name in [*names, "big@bench.example"]], replace=True)
        users.close()
        command = [sys.executable, "-c", "from fastmail.cli.main import main; main()", "serve", "-c", path]
        with open(os.path.join(directory, "log"), "wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        _wait(process, list(ports.values()), os.path.join(directory, "log"))
        yield Target(
            "127.0.0.1", ports, "u%d@bench.example", "secret", "big@bench.example", process.pid, directory=directory
        )
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", ports: list[int], log: str) -> None:
    end = time.monotonic() + 20
    for port in ports:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as file:
                    raise ConfigError("the server did not start: " + file.read()[-500:])
            time.sleep(0.05)
