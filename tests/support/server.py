"""A real server in a directory of its own, on free loopback ports, for journeys."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support import commands
from tests.support.ports import free_ports

PROTOCOLS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")

PATIENCE = 60.0  # s for a start, a stop or a command: on a busy machine it takes long, and an idle one does not wait


class Server:
    """``user`` with ``password`` exists. ``extra`` is appended to the configuration."""

    user = "user@example.test"
    password = "pass word"
    program = commands.PROGRAM  # what serves: the module of its main

    def __init__(self, directory: Path, extra: str = "", workers: int = 2, content: str = "maildir") -> None:
        self.directory = directory
        self.config = directory / "fastmail.toml"
        self.ports = dict(zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True))
        self.process: commands.Process | None = None
        self.log = directory / "log"
        self.cli(
            "quickstart",
            str(directory),
            self.user,
            "--hostname",
            "mx.example.test",
            "--password-stdin",
            stdin=self.password + "\n",
            config=False,
        )
        text = self.config.read_text()
        for name, port in self.ports.items():
            lines = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
            text = text.replace(lines[0], f'{name} = ["127.0.0.1:{port}"]')
        text = text.replace("[server]", f"[server]\nworkers = {workers}")
        if "[limits]" not in extra:
            extra += "\n[limits]\nauth_failure_delay = 0.05\n"
        text = text.replace('content = "maildir"', f'content = "{content}"')
        self.config.write_text(text + extra)

    def cli(
        self, *args: str, stdin: str = "", config: bool = True, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ours."""
        more = ["-c", str(self.config)] if config else []
        done = commands.run(*args, *more, stdin=stdin, timeout=2 * PATIENCE)
        if check and done.returncode:
            raise AssertionError(f"{args} exited with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def traced(self, who: str, words: str) -> None:
        """Wait until the trace of somebody's mail says so: it is written once a second."""
        deadline = time.monotonic() + 2 * PATIENCE
        while words not in (done := self.cli("trace", who, check=False)).stdout:
            assert time.monotonic() < deadline, done.stdout + done.stderr
            time.sleep(0.2)

    def start(self) -> None:
        with open(self.log, "ab") as log:
            begun = log.tell()
            self.process = commands.start("serve", "-c", str(self.config), output=log, program=self.program)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                for name in self.ports:
                    socket.create_connection(("127.0.0.1", self.ports[name]), 1).close()
                self._await_workers(begun)
                return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise AssertionError("server did not start: " + self.log.read_text())

    def _await_workers(self, begun: int) -> None:
        """The ports are open before the workers are up. Some tests make a worker fail: then there is nothing to wait
        for, nor where the log is too quiet to tell."""
        config = self.config.read_text()
        found = re.search(r"(?m)^workers = (\d+)", config)
        deadline = time.monotonic() + (PATIENCE if 'level = "error"' not in config else 0)
        while found is not None and time.monotonic() < deadline:
            said = self.log.read_bytes()[begun:]
            if said.count(b"event=worker.ready") >= int(found[1]) or re.search(
                rb"event=(worker|keeper)\.(died|failed|corrupt)", said
            ):
                return
            time.sleep(0.01)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(PATIENCE)
            self.process = None

    def kill(self) -> None:
        """kill -9 of the supervisor and every worker at once."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # it starts no more
        for pid in [*self.children(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None
        deadline = time.monotonic() + 10
        while self.listens():  # a thread inside a sync ends later than its process seems to
            assert time.monotonic() < deadline, "a killed worker does not end"
            time.sleep(0.01)

    def listens(self) -> bool:
        try:
            self.connect("imap").close()
            return True
        except OSError:
            return False

    def children(self) -> list[int]:
        """The processes that the supervisor started: workers, the keeper, and at times one that looks at index files."""
        assert self.process is not None
        found = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True)
        return [int(line) for line in found.stdout.split()]

    def workers(self) -> list[int]:
        """Those that serve."""
        return [pid for pid in self.children() if pid != self.keeper() and _has_socket(pid)]

    def keeper(self) -> int:
        """The process that takes checkpoints, as the log says; 0 when there is none at the moment."""
        found = re.findall(rb"event=keeper.ready pid=(\d+)", self.log.read_bytes()) if self.log.exists() else []
        return int(found[-1]) if found and int(found[-1]) in self.children() else 0

    def maildir(self, address: str = "") -> Path:
        local, _, domain = (address or self.user).partition("@")
        return self.directory / "data" / "mail" / domain / local

    def connect(self, name: str) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.ports[name]), 30)
        sock.settimeout(30)
        return sock


def _has_socket(pid: int) -> bool:
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False
