"""A throw-away server: quickstart in a new directory, users, free ports, and everything removed at the end."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from fastmail.app.child import free_ports, serving
from fastmail.app.quickstart import quickstart
from fastmail.bench.journeys import FRESH, FRESH_PATTERN, USERS, Target
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address

PROTOCOLS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")


@contextlib.contextmanager
def running(
    parent: str, content: str, workers: int, extra: str = "", fresh: int = FRESH, listen: str = ""
) -> Iterator[Target]:
    """A server on the disk that ``parent`` lies on; ``extra``: more of its configuration, ``listen``: of that section;
    ``fresh``: see Target."""
    directory = tempfile.mkdtemp(prefix="fastmail-bench-", dir=parent or None)
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
        text = text.replace("[server]", f"[server]\nworkers = {workers}").replace("[listen]", f"[listen]\n{listen}", 1)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + '\n[log]\nlevel = "warning"\n' + extra)
        users = LocalDirectory(os.path.join(directory, "data"))
        names = [f"u{n}@bench.example" for n in range(USERS)] + [FRESH_PATTERN % n for n in range(fresh)]
        users.add_accounts([(name, "{PLAIN}secret") for name in [*names, "big@bench.example"]], replace=True)
        users.close()
        with serving(path, os.path.join(directory, "log"), list(ports.values())) as process:
            yield Target(
                "127.0.0.1",
                ports,
                "u%d@bench.example",
                "secret",
                "big@bench.example",
                process,
                directory=directory,
                fresh=fresh,
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
