"""What every gate needs: a server in a room of its own, its memory, and the most that its workers had meanwhile."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from fastmail.bench import machine
from tests.support.server import Server

OPEN = "\n[limits]\nconnections = 20000\nconnections_per_ip = 20000\nauth_failure_delay = 0.05\n"


@contextlib.contextmanager
def running(place: Path, extra: str = OPEN) -> Iterator[Server]:
    """A server while this lasts; AssertionError when its log tells of a bug."""
    server = Server(place, extra)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    text = server.log.read_text()
    assert "event=bug" not in text and "Traceback" not in text, text[-2000:]


def memory(server: Server) -> float:
    """MiB of all processes."""
    assert server.process is not None
    return machine.pss(server.process.pid) / (1 << 20)


def own(pid: int) -> float:
    """MiB of a process that are its own. Pages of files are left out: the index is mapped, and the system takes them
    back whenever it needs them."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) / 1024
    return 0.0


def waited(server: Server) -> float:
    """s for which the loop of each worker had work and no core, as other programs had it: of the one with the least."""
    found = []
    for pid in server.workers():
        with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as file:
            found.append(int(file.read().split()[1]) / 1e9)
    return min(found)


class Watch:
    """Looks at the workers' own memory a hundred times a second while it is entered. ``grown``: MiB by which a worker
    was larger than at the beginning, at its worst; ``during``: the same for each step that was named."""

    def __init__(self, server: Server) -> None:
        self._begun = {pid: own(pid) for pid in server.workers()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._step = ""
        self.during: dict[str, float] = {}

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def step(self, name: str) -> None:
        """What comes now."""
        self._step = name

    @property
    def grown(self) -> float:
        return max(self.during.values(), default=0.0)

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            grown = max(own(pid) - before for pid, before in self._begun.items())
            self.during[self._step] = max(grown, self.during.get(self._step, 0.0))
