"""Ways to kill a server, for tests.crash.kill: whole or in part, at random or at a step of a checkpoint or of recovery.

Steps are found by strace, which sends SIGKILL at the n-th call of a kind: of the keeper while it takes a checkpoint, or of
a process that recovers what the last kill left. The program knows nothing of it.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

from tests.support.server import Server

KINDS = ("group", "worker", "keeper", "group", "supervisor", "checkpoint", "group", "checkpoint, all", "recovery")
# system calls of a checkpoint, and of a recovery
CHECKPOINT = ("syncfs", "openat", "openat2", "write", "fsync", "renameat", "pwrite64", "unlink", "pwrite64", "pwritev")
RECOVERY = ("pwrite64", "write", "renameat", "fsync", "syncfs", "openat2", "openat", "fdatasync", "flock", "pread64")
OTHERS_GO_ON = ("worker", "keeper", "checkpoint")
WAIT = 5.0  # s for a step that may not come
RECOVER = (
    "import sys; from tests.crash.quick import hurry; from fastmail.app import keeper; "
    "from fastmail.config.load import load\n"
    "with hurry(): keeper.environments(load(sys.argv[1]))\n"
    "import os; os._exit(0)"
)


def kill(server: Server, kind: str, rng: random.Random, stop: threading.Event) -> tuple[str, float, bool]:
    """Kill what ``kind`` says, under load; the server is up again, and the load was told to stop, when it returns.
    (what was done, s until the server was up again, was it started anew?)."""
    what = kind
    others: list[int] = []
    if kind == "group":
        server.kill()
    elif kind == "worker":
        _kill(rng.choice(server.workers() or [0]))
    elif kind == "keeper":
        _kill(server.keeper())
    elif kind == "supervisor":
        assert server.process is not None
        others = server.workers()
        server.process.kill()
        server.process.wait(10)
    elif kind.startswith("checkpoint"):
        what = f"{kind}: {_at_step(server.keeper(), rng)}"
        if kind != "checkpoint":
            server.kill()
    else:
        server.kill()
        what = f"{kind}: {_recovery(server, rng)}"
    begun = time.monotonic()
    if kind in OTHERS_GO_ON:
        time.sleep(rng.uniform(0.2, 1.5))  # the load goes on meanwhile
        if rng.random() < 0.5:
            server.kill()
            what += ", then all"
            kind = "group"
    stop.set()
    begun = time.monotonic()
    if kind in OTHERS_GO_ON:
        _all_up(server)
    else:
        server.start()
    took = time.monotonic() - begun
    while any(os.path.exists(f"/proc/{pid}") for pid in others):  # those that the supervisor left end by themselves
        assert time.monotonic() < begun + 20, "a worker outlives its supervisor"
        time.sleep(0.05)
    if others:  # which answered for the new ones
        _all_up(server)
    return what, took, kind not in OTHERS_GO_ON


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)


def _all_up(server: Server) -> None:
    """Wait until every port is served, and there is a keeper."""
    deadline = time.monotonic() + 30
    while True:
        try:
            assert server.keeper(), "no keeper"
            for name in server.ports:
                server.connect(name).close()
            return
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _traced(call: str, when: int) -> list[str]:
    return [
        shutil.which("strace") or "strace",
        "-f",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={when}",
    ]


def _at_step(pid: int, rng: random.Random) -> str:
    """The keeper dies at a step of a checkpoint."""
    call, when = rng.choice(CHECKPOINT), rng.randint(1, 6)
    if not pid:
        return "no keeper"
    tracer = subprocess.Popen([*_traced(call, when), "-p", str(pid), "-o", os.devnull], stderr=subprocess.DEVNULL)
    try:
        tracer.wait(WAIT)
        return f"{call} {when}"
    except subprocess.TimeoutExpired:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        return f"{call} {when} did not come"


def _recovery(server: Server, rng: random.Random) -> str:
    """Several starts in a row that each die at a step of recovery."""
    said = []
    for _ in range(rng.randint(1, 4)):
        call, when = rng.choice(RECOVERY), rng.choice([1, 2, 3, 5, 8, 13, 21, 34])
        tracer = [*_traced(call, when), "-o", os.devnull, sys.executable, "-c", RECOVER, str(server.config)]
        done = subprocess.run(tracer, capture_output=True, timeout=300)
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()[-1000:]
        said.append(f"{call} {when}" if done.returncode else f"{call} {when} did not come")
    return ", ".join(said)
