"""Ports for the servers of tests: no two processes of tests give out the same port.

A port that was free a moment ago may be taken by another test before its server binds it, or while that server is
stopped between two starts. So each process claims a block of ports when it first needs one: it binds the first port of
the block and keeps it. The kernel gives that port to one process only, and takes it back when the process ends. The
blocks lie below the ports that the system gives out by itself, and below those that commands of ours choose
(fastmail.app.child).
"""

import socket

FIRST, SIZE, COUNT = 10_000, 500, 32
PLACES = ("127.0.0.1", "0.0.0.0")


class Block:
    """The ports of this process, given out one after the other, so that none comes again soon."""

    def __init__(self) -> None:
        for number in range(COUNT):
            self._begin = FIRST + number * SIZE
            self._claim = socket.socket()
            try:
                self._claim.bind((PLACES[0], self._begin))
            except OSError:
                self._claim.close()
                continue
            self._next = self._begin
            return
        raise RuntimeError(f"all {COUNT} blocks of ports are claimed")

    def take(self, count: int) -> list[int]:
        """The next ports that are free. RuntimeError where the block has not so many."""
        ports: list[int] = []
        for _ in range(SIZE):
            if len(ports) == count:
                return ports
            self._next = self._begin + 1 + (self._next - self._begin) % (SIZE - 1)
            if free(self._next):
                ports.append(self._next)
        raise RuntimeError(f"no {count} ports are free from {self._begin} on")


def free(port: int) -> bool:
    """True if nothing has the port, at no address, and no connection that ended lately either."""
    for place in PLACES:
        with socket.socket() as sock:
            try:
                sock.bind((place, port))
            except OSError:
                return False
    return True


_block: Block | None = None


def free_ports(count: int) -> list[int]:
    """Ports that are this process's to use."""
    global _block
    if _block is None:
        _block = Block()
    return _block.take(count)
