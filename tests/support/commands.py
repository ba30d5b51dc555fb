"""Commands and servers of ours, started quickly: a process that has imported the program forks a child for each.

Most of what a short command or the start of a server computes is importing, and journeys run hundreds. A forked child
has its own arguments, directory, standard files, exit status and end, as a command that a shell starts; only the
imports were done before. A command whose environment is another than this process had at first is started in the usual
way, as what it imports may depend on that.

The process that forks (``main``) ends with the process that started it, whose pipe is its standard input. A connection
to its abstract socket is one command: the request (JSON and three file descriptors), then, as answers, the child's pid
and its exit status, each a line.
"""

import atexit
import contextlib
import gc
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

ROOT = Path(__file__).parents[2]
PROGRAM = "fastmail.cli.main"  # whose ``main`` is what people call
CLI = [sys.executable, "-c", f"from {PROGRAM} import main; main()"]
IMPORTED = (
    "fastmail.app.assembly",
    "fastmail.app.supervisor",
    "fastmail.cli.common",
    "fastmail.cli.main",
    "rich.console",
    "rich.table",
)
MOST = 1 << 20  # octets of a request
START = 60.0  # s for the imports, on a busy machine


def environment() -> dict[str, str]:
    """What a command may depend on; pytest's own variable names the test that runs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


class Process(Protocol):
    """What tests do with a process that they started, as subprocess.Popen has it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A process that was forked; its status comes through ``sock``, which is closed after it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._said = sock, b""
        self.returncode: int | None = None
        self.pid = int(self._line(START))

    def _line(self, timeout: float | None) -> bytes:
        """The next line. TimeoutError: it did not come in time (0: it is not there yet)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = select.poll()  # takes any descriptor: some tests have thousands of connections
        waiting.register(self._sock, select.POLLIN)
        while b"\n" not in self._said:
            if not waiting.poll(None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            data = self._sock.recv(4096)
            assert data, "the process that forks has ended"
            self._said += data
        line, self._said = self._said.split(b"\n", 1)
        return line

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = int(self._line(timeout))
            except TimeoutError:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0) from None
            self._sock.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forker:
    """The process that forks, as long as this process lives; started by the first command."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # the process that started it: one that was forked from that one starts its own
        self._name = ""
        self._environment: dict[str, str] = {}

    def usable(self) -> bool:
        """True if it has the environment that a command should have now."""
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._start()
            return self._environment == environment()

    def _start(self) -> None:
        self._name = f"fastmail-commands-{os.getpid()}-{secrets.token_hex(8)}"
        self._environment, self._owner = environment(), os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests.support.commands import main; main()", self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment
            | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
        atexit.register(self._stop, self._process)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    @staticmethod
    def _stop(process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(START)

    def start(self, program: str, args: tuple[str, ...], files: tuple[BinaryIO, BinaryIO, BinaryIO]) -> Forked:
        """Start the ``main`` of a module as a command."""
        asked = {"program": program, "args": args, "directory": os.getcwd(), "environment": dict(os.environ)}
        request = json.dumps(asked).encode()
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect("\0" + self._name)
            socket.send_fds(sock, [len(request).to_bytes(4, "big")], [one.fileno() for one in files])
            sock.sendall(request)
            return Forked(sock)
        except BaseException:
            sock.close()
            raise


FORKER = Forker()


def run(*args: str, stdin: str = "", timeout: float) -> "subprocess.CompletedProcess[str]":
    """Run ``fastmail`` with these arguments and return what it wrote, as subprocess.run does with text."""
    if not FORKER.usable():
        return subprocess.run([*CLI, *args], input=stdin, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = FORKER.start(PROGRAM, args, (given, out, err))
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(START)
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*CLI, *args], status, out.read().decode(), err.read().decode())


def start(*args: str, output: BinaryIO, program: str = PROGRAM) -> Process:
    """Start ``fastmail``, or another program of ours, with these arguments; what it writes goes to ``output``."""
    if not FORKER.usable():
        command = [sys.executable, "-c", f"from {program} import main; main()", *args]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    with open(os.devnull, "rb") as given:
        return FORKER.start(program, args, (given, output, output))


def _received(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request: what is asked for, and its files."""
    head, fds, _, _ = socket.recv_fds(sock, 4, 3)
    length, data = int.from_bytes(head, "big"), b""
    assert length <= MOST
    while len(data) < length:
        data += sock.recv(length - len(data))
    return json.loads(data), fds


def _become(request: dict[str, Any], fds: list[int]) -> Callable[[], None]:
    """Make of this process the command that was asked for. Returns what it does."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["-c", *request["args"]]
    command: Callable[[], None] = import_module(request["program"]).main
    return command


def _answer(sock: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the test does not wait for it
        sock.sendall(b"%d\n" % number)


def serve(name: str) -> Callable[[], None]:
    """Fork a child for each connection, until standard input ends. Returns only in a child, what that is to do."""
    for module in IMPORTED:
        import_module(module)
    gc.collect()
    gc.freeze()  # or each child would copy the memory that its garbage collector walks over
    children: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that tells the end: pid, and who is told
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen(64)
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([listener.fileno(), 0, *children], [], [])
            for end in children.keys() & set(ready):
                pid, sock = children.pop(end)
                os.close(end)
                _answer(sock, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                sock.close()
            if 0 in ready:
                os._exit(0)
            if listener.fileno() not in ready:
                continue
            sock, _ = listener.accept()
            request, fds = _received(sock)
            pid = os.fork()
            if not pid:
                listener.close()
                sock.close()
                for end, (_, other) in children.items():
                    os.close(end)
                    other.close()
                return _become(request, fds)
            for fd in fds:
                os.close(fd)
            children[os.pidfd_open(pid)] = pid, sock
            _answer(sock, pid)


def _end(command: Callable[[], None]) -> NoReturn:
    """Run a command and end this process as the interpreter would, but for freeing memory, which takes longer than most
    commands."""
    status = 0
    try:
        command()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """The process that forks; in a child, the command."""
    _end(serve(sys.argv[1]))
