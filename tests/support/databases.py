"""Database servers for tests: a PostgreSQL and a MariaDB of their own, on loopback. A test that asks for one is skipped,
with a sentence about what is missing, where it is not installed or this is not root."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_ports

PATIENCE = 60.0  # s for a start on a busy machine


@dataclass(frozen=True)
class Base:
    """A server that runs. ``url``: of its first database; ``run`` does statements in one that is named, or in the
    first; ``stop`` ends it, and may be called again."""

    kind: str
    url: str
    port: int
    run: Callable[[Sequence[str], str], None]
    stop: Callable[[], None]

    def made(self, name: str) -> str:
        """The URL of a new database."""
        self.run([f"CREATE DATABASE {name}"], "")
        return self.url.rpartition("/")[0] + "/" + name


@contextlib.contextmanager
def open_place(user: str) -> Iterator[Path]:
    """A directory for a server that runs as another user. It is none of pytest's: those that begin meanwhile close the
    directory above all of them to others."""
    with tempfile.TemporaryDirectory(prefix="fastmail-base-", ignore_cleanup_errors=True) as name:
        who = pwd.getpwnam(user)
        os.chown(name, who.pw_uid, who.pw_gid)
        yield Path(name)


def until(process: "subprocess.Popen[bytes]", reached: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def postgresql() -> Iterator[Base]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or os.geteuid() != 0 or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL is not installed, or this is not root: apt-get install postgresql")
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed: pip install asyncpg")
    with open_place("postgres") as place:
        yield from _postgresql(asyncpg, found[-1].parent, place)


def _postgresql(asyncpg: Any, tools: Path, place: Path) -> Iterator[Base]:
    (port,) = free_ports(1)

    def tool(*command: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, capture_output=True, timeout=60)

    tool(str(tools / "initdb"), "-D", str(place / "data"), "-A", "trust", "--no-sync")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    tool(str(tools / "pg_ctl"), "-D", str(place / "data"), "-o", options, "-w", "-l", str(place / "log"), "start")
    url = f"postgresql://postgres@127.0.0.1:{port}"

    def run(statements: Sequence[str], name: str = "") -> None:
        async def go() -> None:
            base = await asyncpg.connect(f"{url}/{name or 'postgres'}")
            for one in statements:
                await base.execute(one)
            await base.close()

        asyncio.run(go())

    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            tool(str(tools / "pg_ctl"), "-D", str(place / "data"), "-m", "immediate", "stop")
        stopped = True

    try:
        yield Base("postgres", f"{url}/postgres", port, run, stop)
    finally:
        stop()


@contextlib.contextmanager
def mariadb() -> Iterator[Base]:
    program = shutil.which("mariadbd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None or shutil.which("my_print_defaults") is None or os.geteuid() != 0:
        pytest.skip(
            "MariaDB is not installed, or this is not root: apt-get install mariadb-server-core mariadb-client-core"
        )
    pymysql = pytest.importorskip("pymysql", reason="PyMySQL is not installed: pip install pymysql")
    with open_place("nobody") as place:
        yield from _mariadb(pymysql, program, place)


def _mariadb(pymysql: Any, program: str, place: Path) -> Iterator[Base]:
    (port,) = free_ports(1)
    common = ["--no-defaults", f"--datadir={place}/data", "--user=nobody"]
    subprocess.run(
        ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    log = place / "log"
    command = [program, *common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={place}/sock"]
    with open(log, "wb") as out:
        process = subprocess.Popen([*command, f"--pid-file={place}/pid"], stdout=out, stderr=out)

    def connect(**more: str) -> Any:
        return pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True, **more)

    def up() -> bool:
        try:
            connect().close()
            return True
        except pymysql.Error:
            return False

    def run(statements: Sequence[str], name: str = "") -> None:
        base = connect(**({"database": name} if name else {}))
        with base.cursor() as cursor:
            for one in statements:
                cursor.execute(one)
        base.close()

    try:
        until(process, up, log)
        run(["CREATE DATABASE mail"])
        yield Base("mysql", f"mysql://root@127.0.0.1:{port}/mail", port, run, lambda: end(process))
    finally:
        end(process)
